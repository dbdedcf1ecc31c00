"""Cells of an event table -> keys and numbers, the same from whatever type they came in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import DataError

# Beyond it not every whole number has a float, so another id may have been meant.
_EXACT = 2**53
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
# As a column of ids with gaps is written to a CSV file: as floats.
_WHOLE_FLOAT = re.compile(r"(0|-?[1-9][0-9]*)\.0+")
_SCIENTIFIC = re.compile(r"-?[0-9](\.[0-9]+)?[eE]\+[0-9]+")
# What files write for a number that is missing.
_NO_NUMBER = frozenset(
    ["", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "nat", "null", "none", "\\n", "(null)"]
)


def text_key(cell: Any) -> str | None:
    """Give the text that stands for an id or a name; None for a missing one.

    200001, 200001.0 and "200001.0" are "200001"; "007" stays as it is.
    """
    if isinstance(cell, str):
        return _text_of(cell)
    if isinstance(cell, bytes):
        return _text_of(cell.decode("utf-8", "replace"))
    if isinstance(cell, tuple | list | dict | set | np.ndarray):
        raise DataError(f"an id or a name is one text or number, found {cell!r:.60}.")
    if cell is None or pd.isna(cell):
        return None
    return _text_of_number(cell)


def _text_of_number(cell: Any) -> str:
    whole = isinstance(cell, Integral) and not isinstance(cell, bool)
    if whole or (isinstance(cell, Decimal) and cell == cell.to_integral_value()):
        return str(int(cell))
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        if abs(float(cell)) > _EXACT:
            raise _inexact(repr(float(cell)))
        return str(int(cell))
    return str(cell)


def _text_of(cell: str) -> str | None:
    if found := _WHOLE_FLOAT.fullmatch(cell):
        if abs(int(found[1])) > _EXACT:
            raise _inexact(cell)
        return found[1]
    if _SCIENTIFIC.fullmatch(cell):
        raise _inexact(cell)
    return cell or None


def _inexact(shown: str) -> DataError:
    return DataError(
        f"the id or item number {shown} was turned into a float, which doesn't tell whole numbers "
        'of this size apart. Read the column as text or as whole numbers (dtype="Int64" where '
        "some are missing)."
    )


def read_keys(column: pd.Series) -> tuple[np.ndarray, list[str | None], bool]:
    """Number the different keys of a column.

    Returns the number of each cell's key, -1 where it is missing; the keys, None for one that
    stands for a missing cell; and whether some of them were texts.
    """
    try:
        codes, found = pd.factorize(column)
        keys = [text_key(cell) for cell in found]
    except (TypeError, DataError) as cause:
        raise DataError(f"column {column.name!r}: {cause}") from cause
    return codes, keys, any(isinstance(cell, str | bytes) for cell in found)


def as_labels(keys: Sequence[str], *, as_text: bool) -> pd.Index:
    """Make an index of keys: numbers where nothing but whole numbers without padding are there."""
    if as_text or not all(map(_WHOLE.fullmatch, keys)):
        return pd.Index(list(keys), dtype=object if not keys else None)
    return pd.Index([int(key) for key in keys], dtype=None if keys else np.int64)


def index_of(ids: Any) -> tuple[pd.Index, list[str]]:
    """Check the stays that are asked for; returns them as given, and their keys."""
    if isinstance(ids, str | bytes) or np.ndim(ids) > 1 or not isinstance(ids, Iterable):
        raise DataError(f"ids has to be a sequence of stays, found {type(ids).__name__}.")
    index = ids if isinstance(ids, pd.Index) else pd.Index(getattr(ids, "array", None) or list(ids))
    if isinstance(index, pd.MultiIndex):
        raise DataError(
            f"ids is a MultiIndex {list(index.names)}, and one column of the events names the "
            "stay: give that level alone, ids=index.get_level_values(...)."
        )
    keys = [text_key(cell) for cell in index]
    if None in keys:
        raise DataError(f"ids has no stay at position {keys.index(None)}; leave missing ones out.")
    again = pd.Index(keys).duplicated()
    if again.any():
        raise DataError(f"ids names a stay twice: {index[again][:5].tolist()}.")
    return index, [key for key in keys if key is not None]


def read_numbers(column: pd.Series, *, strict: bool) -> np.ndarray:
    """Read a column as float64, NaN where a cell is missing or is no number.

    With `strict`, a cell that is neither is an error.
    """
    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    try:
        codes, found = pd.factorize(column)
    except TypeError as cause:
        raise DataError(f"column {column.name!r} holds lists or arrays: {cause}.") from cause
    numbers = [_number(cell) for cell in found]
    if strict and None in numbers:
        wrong = numbers.index(None)
        label = column.index[np.flatnonzero(codes == wrong)[0]]
        raise DataError(
            f"row {label!r}, column {column.name!r}: found {found[wrong]!r}, no number. For times, "
            "take the distance to each stay's start, for example in minutes: "
            "(stamp - start).dt.total_seconds() / 60."
        )
    known = np.array([*(np.nan if n is None else n for n in numbers), np.nan], dtype=np.float64)
    return known[codes]


def _number(cell: Any) -> float | None:
    """Read one cell: NaN for a missing one, None for what is neither number nor missing."""
    if isinstance(cell, str):
        word = cell.strip().lower()
        if word in _NO_NUMBER:
            return np.nan
        if word in ("true", "false"):  # as pandas reads a column of them from a CSV file
            return float(word == "true")
        # Python alone takes "1_000".
        return _float(word) if "_" not in word else None
    if isinstance(cell, Real | Decimal | np.bool_) and not isinstance(cell, np.timedelta64):
        return float(cell)
    return None


def _float(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
