"""Whether tables that belong together have their rows in the same order."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import DataError

__all__ = ["check_aligned", "check_same_columns"]


def check_aligned(**tables: Any) -> None:
    """Refuse tables whose labels say that their rows are in different orders.

    Rows are taken by their place, as scikit-learn does. Labels that say otherwise are compared
    where both sides have some: the same labels in another order, or other ones than those of the
    first table though some are shared, are refused. Fresh labels 0, 1, ... beside different ones,
    and labels that have nothing in common, say nothing.

    Parameters
    ----------
    **tables : object
        By what they are called. Those without an index, None too, are left alone, as are those of
        different lengths, of which others complain.

    Raises
    ------
    DataError
        Naming the two tables and the first row in which they differ.
    """
    known = {
        name: table.index
        for name, table in tables.items()
        if isinstance(table, pd.DataFrame | pd.Series)
    }
    for (name, index), (other, labels) in combinations(known.items(), 2):
        if len(index) == len(labels) and not index.equals(labels):
            _refuse_disorder(name, index, other, labels)


def check_same_columns(**tables: Any) -> None:
    """Refuse two tables with the same columns in another order, which are taken by their place."""
    (name, first), (other, second) = tables.items()
    if not (isinstance(first, pd.DataFrame) and isinstance(second, pd.DataFrame)):
        return
    ours, theirs = list(first.columns), list(second.columns)
    if ours != theirs and len(ours) == len(theirs) and set(ours) == set(theirs):
        raise DataError(
            f"{other} has the columns {theirs}, and {name} {ours}: bring them into one order, "
            f"{other}[{name}.columns]."
        )


def _refuse_disorder(name: str, index: pd.Index, other: str, labels: pd.Index) -> None:
    index, labels = _one_level(index, labels)
    default = _is_default(index) or _is_default(labels)
    ours, theirs = _codes(index, labels)
    if (ours == theirs).all():
        return
    same = np.array_equal(np.sort(ours), np.sort(theirs))
    if not same and not default and not np.isin(ours, theirs).any():
        # Numbers beside the same numbers as text.
        ours, theirs = _codes(index.map(str), labels.map(str))
        if (ours == theirs).all():
            return
    if same or (not default and np.isin(ours, theirs).any()):
        place = int(np.argmax(ours != theirs))
        order = "the same labels in another order" if same else "other labels"
        raise DataError(
            f"{other} has {order} than {name}: row {place} is {labels[place]!r} in {other} and "
            f"{index[place]!r} in {name}. Rows are taken by their place: align them, for example "
            f"by {other}.loc[{name}.index], or pass {other}.to_numpy() if the order is right."
        )


def _one_level(index: pd.Index, labels: pd.Index) -> tuple[pd.Index, pd.Index]:
    """Of a windows' index (row, step) beside an index of rows, the level of the rows."""
    if index.nlevels == 1 < labels.nlevels:
        labels, index = _one_level(labels, index)
        return index, labels
    if labels.nlevels == 1 < index.nlevels:
        levels = [index.get_level_values(level) for level in range(index.nlevels)]
        return next((level for level in levels if level.isin(labels).any()), levels[0]), labels
    return index, labels


def _is_default(index: pd.Index) -> bool:
    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1


def _codes(index: pd.Index, labels: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    cells = np.empty(2 * len(index), dtype=object)
    cells[:] = [*index, *labels]
    codes = pd.factorize(cells)[0]
    return codes[: len(index)], codes[len(index) :]
