"""Which rows of a table hold the same, whatever their cells are."""

from __future__ import annotations

import os
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._rows import ReadRows
from medfusion_sdk.readers.cells import plain_cell
from medfusion_sdk.readers.digest import array_digest, text_digest

__all__ = ["content_codes", "equal_rows"]

_MISSING, _PLAIN = b"missing", "biufc"


def content_codes(X: Any) -> np.ndarray:
    """Number rows by their content, equal rows alike, whatever the order of rows or named columns.

    Parameters
    ----------
    X : ndarray of shape (n, d), DataFrame or ReadRows
        Validated rows: numbers, NaN equal to NaN; or cells, of which arrays, texts and paths are
        equal where they hold the same, other objects where they are the same.

    Returns
    -------
    ndarray of shape (n,), int
        From 0.
    """
    table = X.frame if isinstance(X, ReadRows) else X
    if not isinstance(table, pd.DataFrame):
        digests = _row_digests(np.asarray(table))
    else:
        # By name: in which order they stand makes no other row.
        table = table.iloc[:, np.argsort([str(name) for name in table.columns], kind="stable")]
        plain = np.array([pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes], bool)
        parts = [_row_digests(table.loc[:, plain].to_numpy(np.float64, na_value=np.nan))]
        cells = [table.iloc[:, place] for place in np.flatnonzero(~plain)]
        parts += [[cell_digest(cell) for cell in column] for column in cells]
        digests = [b"".join(row) for row in zip(*parts, strict=True)]
    # Digests end in any byte, and numpy's own bytes would lose zeros there: as hexadecimals.
    names = np.array([text_digest(digest.hex()).hex() for digest in digests], dtype="S64")
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def equal_rows(x: np.ndarray) -> np.ndarray:
    """Number rows so that equal ones have the same number.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        Values; NaN equals NaN.

    Returns
    -------
    ndarray of shape (n,), int
        From 0, in order of appearance.
    """
    return pd.factorize(content_codes(x))[0]


def cell_digest(cell: Any) -> bytes:
    """Digest of a cell of a cohort table; of an object that isn't known, of which one it is."""
    if isinstance(cell, str):
        return text_digest(cell)
    if isinstance(cell, os.PathLike):
        return text_digest(os.fspath(cell))
    if isinstance(cell, Number) and not isinstance(cell, complex):
        return array_digest(_canonical(np.array([cell], dtype=np.float64)))
    if isinstance(cell, list | tuple | np.ndarray) or hasattr(cell, "__array__"):
        return _array_cell_digest(cell)
    if pd.isna(cell) is True:
        return _MISSING
    if isinstance(cell, pd.Timestamp | pd.Timedelta):
        return text_digest(str(cell))
    return text_digest(f"object {id(cell)}")


def _array_cell_digest(cell: Any) -> bytes:
    try:
        values = np.asarray(plain_cell(cell))
    except ValueError:  # a ragged list
        values = np.array([], dtype=object)
    if values.dtype.kind in _PLAIN:
        plain = values if values.dtype.kind == "c" else values.astype(np.float64)
        return array_digest(_canonical(np.atleast_1d(plain)))
    members = cell if isinstance(cell, list | tuple) else values.ravel().tolist()
    return text_digest("".join(cell_digest(member).hex() for member in members))


def _row_digests(x: np.ndarray) -> list[bytes]:
    return [array_digest(row) for row in _canonical(x)]


def _canonical(x: np.ndarray) -> np.ndarray:
    """Give zeros one sign, and NaN one form."""
    if x.dtype.kind not in "fc":
        return x
    x = x + 0.0
    x[np.isnan(x)] = np.nan
    return x
