"""What kind of raw data a column of a cohort table holds: found, or as the user says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._cell_checks import numeric_columns
from medfusion_sdk.estimators._layout import Layout, find_layout
from medfusion_sdk.estimators._roles import names_a_signal
from medfusion_sdk.exceptions import CellError, ModalityError
from medfusion_sdk.readers.cells import Column, read_column
from medfusion_sdk.readers.npy import open_npy
from medfusion_sdk.readers.paths import looks_like_a_path, refuse_paths
from medfusion_sdk.readers.volume import VOLUME_FILES

__all__ = ["COLUMN_KINDS", "find_kind", "find_raw_layout"]

COLUMN_KINDS = ("series", "image", "volume", "text", "table", "ignore")
_IMAGE_FILES = (".png", ".jpg", ".jpeg")
# A longer string is no path.
_LONGEST_PATH = 1000


def find_raw_layout(
    X: pd.DataFrame, modalities: str | Mapping[str, Any], kinds: Mapping[Any, str] | None
) -> Layout:
    """Find the modalities of a cohort table.

    Parameters
    ----------
    X : DataFrame
        Cohort table, without the columns that aren't to be read.
    modalities : "auto" or mapping
        As for :func:`~medfusion_sdk.estimators._layout.find_layout`.
    kinds : mapping of column to str, or None
        Kinds of the columns that the user names; those of the others are found.

    Returns
    -------
    Layout
        With the kinds "series", "image", "volume", "text" and "block".

    Raises
    ------
    ModalityError
        If a named column can't be of that kind, or a column's kind isn't clear.
    """
    given = {column: kind for column, kind in (kinds or {}).items() if kind != "ignore"}
    numeric = {X.columns[i] for i in numeric_columns(X)}
    for column, kind in given.items():
        if (column in numeric) != (kind == "table"):
            holds = "numbers" if column in numeric else "no numbers"
            raise ModalityError(f"column_kinds: {column!r} is to be {kind!r}, but holds {holds}.")

    def kind_of(column: pd.Series, _: bool) -> str:
        return given.get(column.name) or find_kind(column)

    return find_layout(X, modalities, kind_of=kind_of)


def find_kind(column: pd.Series) -> str:
    """Tell what a column that isn't numeric holds, by its first cell that isn't missing.

    Parameters
    ----------
    column : Series
        Cells.

    Returns
    -------
    {"series", "image", "volume", "text"}
        Its kind.

    Raises
    ------
    ModalityError
        If there is no cell, its kind isn't clear, cells are of several kinds, or they name files
        that can't be read.
    CellFileNotFoundError, CellError
        If the first cell is a ``.npy`` file that can't be opened.
    """
    cells = read_column(column)
    if not cells.present:
        raise ModalityError(
            f"column {column.name!r} has no cell in any row: nothing can be learnt about it. "
            "Drop it."
        )
    first = cells.cells[cells.present[0]]
    try:
        kind, found = _kind_of_cell(first)
    except CellError as error:
        raise error.located(cells.rows[cells.present[0]], cells.name) from error
    if kind == "text":
        refuse_paths(cells.cells, cells.rows, cells.name)
    _refuse_texts(cells, kind)
    words = (cell.split() for cell in cells.cells if isinstance(cell, str))
    if kind == "text" and not any(len(split) > 1 for split in words):
        kind, found = None, "single words, which may be texts, categories or identifiers"
    if kind is None:
        raise ModalityError(
            f"column {column.name!r} holds {found}. Say what it is: column_kinds="
            f"{{{column.name!r}: kind}} with one of {', '.join(map(repr, COLUMN_KINDS))}."
        )
    return kind


def _refuse_texts(cells: Column, kind: str | None) -> None:
    """Refuse a text in a column of another kind; among texts the reader names other cells."""
    if kind in (None, "text"):
        return
    for i in cells.present:
        cell = cells.cells[i]
        if isinstance(cell, str) and not looks_like_a_path(cell) and not _kind_of_path(cell):
            raise ModalityError(
                f"column {cells.name!r} holds cells of the kind {kind!r}, and in row "
                f"{cells.rows[i]!r} the text {cell!r:.60}: a column is of one kind."
            )


def _kind_of_cell(cell: Any) -> tuple[str | None, str]:
    """Kind of a cell, None where it isn't clear; and what it is in words."""
    if isinstance(cell, str | os.PathLike):
        text = os.fspath(cell)
        is_path = len(text) <= _LONGEST_PATH and "\n" not in text
        if not (is_path and text.lower().endswith(".npy")):
            kind = _kind_of_path(text) if is_path else None
            return kind or ("text" if isinstance(cell, str) else None), "files"
        cell = open_npy(Path(text))
    if not isinstance(cell, np.ndarray | list | tuple) and not hasattr(cell, "__array__"):
        return None, f"a {type(cell).__name__}"
    try:
        array = np.asarray(cell)
    except ValueError as error:
        return None, f"lists that aren't rectangular ({error})"
    return _kind_of_array(array), f"arrays of shape {array.shape} and type {array.dtype}"


def _kind_of_path(text: str) -> str | None:
    if text.lower().endswith(_IMAGE_FILES):
        return "image"
    if text.lower().endswith(VOLUME_FILES):
        return "volume"
    return "series" if names_a_signal(text) else None


def _kind_of_array(array: np.ndarray) -> str | None:
    if array.dtype.kind not in "fiub":
        return None
    ends = {array.shape[0], array.shape[-1]} if array.ndim else set()
    if array.ndim == 1:
        return "series"
    if array.ndim == 2:  # eight bits make a grey image as likely
        return None if array.dtype == np.uint8 else "series"
    if array.ndim == 3 and not ends & {1, 3}:
        return "volume"
    if array.ndim == 3 and array.shape[-1] in (1, 3) and array.dtype == np.uint8:
        return "image"
    return "volume" if array.ndim == 4 and 1 in ends else None
