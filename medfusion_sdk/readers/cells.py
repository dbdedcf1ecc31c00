"""One column of the cohort table as a plain list of cells.

Columns arrive in many coats (Series, one-column DataFrame, list, numpy array, pandas 2 objects or
pandas 3 strings); what follows only ever sees :class:`Column`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import CellError

__all__ = ["Column", "is_missing", "plain_cell", "read_column"]


@dataclass(frozen=True)
class Column:
    """Cells of one modality, in row order.

    Attributes
    ----------
    cells : list
        One entry per row; ``None`` where the cell is missing.
    rows : sequence
        Index labels, for messages.
    name : object
        Column name, for messages.
    """

    cells: list[Any]
    rows: Sequence[Any]
    name: Any

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def present(self) -> list[int]:
        """Positions of the cells that are there."""
        return [i for i, cell in enumerate(self.cells) if cell is not None]

    def take(self, rows: Sequence[int] | np.ndarray) -> Column:
        """Take some rows, by position.

        Parameters
        ----------
        rows : sequence of int
            Which.

        Returns
        -------
        Column
            Their cells, under their labels.
        """
        return Column([self.cells[i] for i in rows], [self.rows[i] for i in rows], self.name)


def is_missing(cell: Any) -> bool:
    """Tell whether a cell is missing: None, NaN, NaT or pd.NA.

    Parameters
    ----------
    cell : object
        Any cell; arrays and lists are never missing.

    Returns
    -------
    bool
        True for a missing cell.

    Examples
    --------
    >>> is_missing(None), is_missing(float("nan")), is_missing("")
    (True, True, False)
    """
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return True
    return isinstance(cell, float | np.floating) and bool(np.isnan(cell))


def plain_cell(cell: Any) -> Any:
    """Make one array of arrays in an array, as pandas reads nested lists of a Parquet file.

    Parameters
    ----------
    cell : object
        Any cell.

    Returns
    -------
    object
        An array of numbers, None within it NaN; any other cell as it is.

    Examples
    --------
    >>> nested = np.empty(2, dtype=object)
    >>> nested[:] = [np.array([1.0, 2.0]), np.array([3.0, None], dtype=object)]
    >>> plain_cell(nested)
    array([[ 1.,  2.],
           [ 3., nan]])
    """
    if not isinstance(cell, np.ndarray) or cell.dtype.kind != "O" or cell.ndim == 0:
        return cell
    parts = [np.nan if is_missing(part) else plain_cell(part) for part in cell]
    try:
        array = np.array(parts)
    except ValueError:  # of several lengths: what reads it refuses it
        return cell
    return array if array.dtype.kind in "fiub" else cell


def read_column(X: Any, *, name: Any = None) -> Column:
    """Turn what scikit-learn hands to a transformer into a :class:`Column`.

    Parameters
    ----------
    X : Series, one-column DataFrame, list or ndarray
        An array of two or more dimensions holds one cell per entry of its first axis; a
        one-column array of objects or strings is that column.
    name : object, optional
        Name used in messages when `X` has none.

    Returns
    -------
    Column
        Cells, index labels and name.

    Raises
    ------
    CellError
        If `X` is a table of several columns or a single cell.

    Examples
    --------
    >>> read_column(["sinus rhythm", None]).present
    [0]
    """
    rows: Sequence[Any]
    if isinstance(X, pd.DataFrame):
        if X.shape[1] != 1:
            raise CellError(
                f"expected one column, found {X.shape[1]}: {list(X.columns)}. Name one column, "
                'for example ("ecg") instead of (["ecg", "note"]).'
            )
        X = X.iloc[:, 0]
    if isinstance(X, pd.Series):
        values, rows, name = X.tolist(), X.index, X.name
    elif isinstance(X, np.ndarray):
        values, rows = _array_cells(X), range(len(X))
    elif isinstance(X, str | bytes) or not hasattr(X, "__len__"):
        raise CellError(f"expected a column of cells, found a single {type(X).__name__}.")
    else:
        values, rows = list(X), range(len(X))
    return Column([None if is_missing(cell) else plain_cell(cell) for cell in values], rows, name)


def _array_cells(X: np.ndarray) -> list[Any]:
    if X.ndim == 0:
        raise CellError("expected a column of cells, found a scalar array.")
    if X.ndim == 2 and X.shape[1] == 1 and X.dtype.kind in "OUST":
        X = X[:, 0]
    return list(X)
