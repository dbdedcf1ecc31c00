"""Which modalities a table has: columns of cells, and blocks of numeric columns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._cell_checks import numeric_columns
from medfusion_sdk.exceptions import ModalityError
from medfusion_sdk.readers.cells import is_missing, plain_cell, read_column
from medfusion_sdk.tables import group_blocks, shown_rows

__all__ = ["Layout", "absent_modalities", "find_layout", "require_some"]


@dataclass(frozen=True)
class Layout:
    """Modalities of a table: in the order of their first columns, or of the mapping.

    Attributes
    ----------
    names : list of str
        What explanations call them.
    kinds : list of str
        "series", "image" or "block" of each; estimators that read more name more.
    columns : list
        Name of the column of cells; positions of a block's columns.
    """

    names: list[str]
    kinds: list[str]
    columns: list[Any]

    def of_kind(self, kind: str) -> list[int]:
        """Positions of the modalities of one kind.

        Parameters
        ----------
        kind : str
            Which.

        Returns
        -------
        list of int
            Positions.
        """
        return [m for m, own in enumerate(self.kinds) if own == kind]


def find_layout(
    X: Any,
    modalities: str | Mapping[str, Any],
    images: Sequence[str] = (),
    kind_of: Callable[[pd.Series, bool], str] | None = None,
) -> Layout:
    """Find the modalities of a table.

    Parameters
    ----------
    X : DataFrame or ndarray
        Columns whose cells are arrays are a modality each; numeric ones group by prefix.
    modalities : "auto" or mapping
        As for :func:`~medfusion_sdk.tables.group_blocks`; a modality of arrays is given by its
        column's name. Columns that a mapping doesn't name aren't used.
    images : sequence of str, default=()
        Modalities whose arrays of two dimensions are images; those of three always are.
    kind_of : callable, optional
        Takes a column that isn't numeric, and whether `images` names it; returns its kind. By
        default a column of arrays is "series" or "image", and any other an error.

    Returns
    -------
    Layout
        At least one modality.

    Raises
    ------
    ModalityError
        For a column that is neither numbers nor arrays, or one that isn't there.
    """
    if not isinstance(X, pd.DataFrame):
        blocks = group_blocks(None, X.shape[1], modalities)
        return Layout(list(blocks), ["block"] * len(blocks), list(blocks.values()))
    numeric = numeric_columns(X)
    cells = {X.columns[i]: i for i in range(X.shape[1]) if i not in set(numeric)}
    wanted = {str(name): name for name in cells}
    given = [] if isinstance(modalities, str) else [str(name) for name in modalities]
    if not isinstance(modalities, str):
        named = {k: v for k, v in modalities.items() if _is_column(v) and v in cells}
        _refuse_lists_of_cells(modalities, cells)
        wanted = {str(name): column for name, column in named.items()}
        modalities = {str(k): v for k, v in modalities.items() if k not in named}
    found: list[tuple[int, str, str, Any]] = [
        (cells[column], name, (kind_of or _kind)(X.iloc[:, cells[column]], name in images), column)
        for name, column in wanted.items()
    ]
    if numeric and modalities:
        labels = [str(X.columns[i]) for i in numeric]
        for name, columns in group_blocks(labels, len(numeric), modalities).items():
            positions = np.array(numeric)[columns]
            found.append((int(positions[0]), name, "block", positions))
    if not found or (not numeric and not isinstance(modalities, str) and modalities):
        raise ModalityError(
            f"modalities={modalities!r}: the columns of cells are {list(cells)}, and there are "
            f"{len(numeric)} numeric ones."
        )
    # A mapping says the order, too; otherwise it is that of the first columns.
    found.sort(key=lambda entry: given.index(entry[1]) if given else entry[0])
    names, kinds, places = (list(part) for part in zip(*[one[1:] for one in found], strict=True))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ModalityError(f"{twice} are both a column of arrays and a prefix; rename one.")
    return Layout(names, kinds, places)


def _is_column(spec: Any) -> bool:
    """Tell a column's name from a list of columns and from a slice."""
    return isinstance(spec, Hashable) and not isinstance(spec, slice)


def _refuse_lists_of_cells(modalities: Mapping[str, Any], cells: Mapping[Any, int]) -> None:
    for name, spec in modalities.items():
        listed = [] if _is_column(spec) or isinstance(spec, slice) else list(spec)
        for column in listed:
            if column in cells:
                raise ModalityError(
                    f"modality {name!r}: column {column!r} holds no numbers, and series and images "
                    f"are a modality each: give the column's name alone, {{{name!r}: {column!r}}}."
                )


def _kind(column: pd.Series, is_image: bool) -> str:
    cell = next((cell for cell in read_column(column).cells if cell is not None), None)
    if cell is None:
        raise ModalityError(
            f"column {column.name!r} has no cell in any row: nothing can be learnt about it. "
            "Drop it."
        )
    if not isinstance(cell, np.ndarray | list):
        raise ModalityError(
            f"column {column.name!r} holds {type(cell).__name__}: series are arrays (channels, "
            "steps), images (H, W) or (H, W, 3), everything else numbers. Encode or drop it."
        )
    return "image" if np.ndim(cell) == 3 or is_image else "series"


def absent_modalities(X: Any, layout: Layout) -> list[str]:
    """Name the modalities that no row of a table has.

    Parameters
    ----------
    X : DataFrame or ndarray
        Rows to predict.
    layout : Layout
        Of the training table.

    Returns
    -------
    list of str
        Names.
    """
    each = zip(layout.names, layout.kinds, layout.columns, strict=True)
    return [name for name, kind, columns in each if not _is_there(X, kind, columns)]


def _is_there(X: Any, kind: str, columns: Any) -> bool:
    if kind == "block":
        block = X.iloc[:, columns] if isinstance(X, pd.DataFrame) else X[:, columns]
        return bool(
            np.asarray(block.notna() if hasattr(block, "notna") else ~np.isnan(block)).any()
        )
    return any(_observed(cell) for cell in X[columns])


def _observed(cell: Any) -> bool:
    try:
        values = np.asarray(plain_cell(cell), dtype=float)
        return not is_missing(cell) and not np.isnan(values).all()
    except (TypeError, ValueError):
        return True  # the reader says what is wrong with it


def require_some(present: np.ndarray, rows: pd.Index, names: list[str]) -> None:
    """Refuse rows that have no modality.

    Parameters
    ----------
    present : ndarray of shape (n, M), bool
        Presence mask.
    rows : Index
        Labels of the rows.
    names : list of str
        Names of the modalities.

    Raises
    ------
    ModalityError
        Naming the first five of them.
    """
    empty = np.flatnonzero(~present.any(axis=1))
    if empty.size:
        raise ModalityError(
            f"{empty.size} row(s) have none of the modalities {names}: "
            f"{shown_rows(rows, empty)}. Drop them; "
            "without any input there is nothing to predict from."
        )
