"""How AdaCoMed reads a cohort table: blocks for the large path, cells for the small one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._rows import ReadRows, refuse_infinity
from medfusion_sdk.exceptions import ModalityError
from medfusion_sdk.tables import SEPARATOR, group_blocks

__all__ = ["CohortReader", "CohortRows", "check_cohort_table"]


@dataclass(frozen=True)
class CohortRows(ReadRows):
    """Rows of a cohort table, read for both paths; the values are the large path's blocks.

    Attributes
    ----------
    cells : DataFrame
        What the small model reads: the frame, or what a pipeline makes of it.
    has_small : ndarray of shape (n,), bool
        Rows that have a cell of it.
    """

    cells: pd.DataFrame
    has_small: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> CohortRows:
        places = np.arange(len(self))[rows]
        return CohortRows(
            self.frame.iloc[places],
            self.values[places],
            self.cells.iloc[places],
            self.has_small[places],
        )


@dataclass(frozen=True)
class CohortReader:
    """Turns a cohort table into what both paths read.

    Attributes
    ----------
    large : transformer
        Gives the large path's block table; fitted.
    block_names : list of str
        Its columns.
    before_small : Pipeline or None
        What the small model reads through; fitted.
    small_columns : list of str
        Which columns of that the small model takes.
    """

    large: Any
    block_names: list[str]
    before_small: Pipeline | None
    small_columns: list[str]

    @classmethod
    def fit(
        cls, large: Any, before_small: Pipeline | None, small: Any, table: TrainingTable
    ) -> tuple[CohortReader, CohortRows]:
        """Fit on the rows to learn from, and read all.

        Parameters
        ----------
        large : transformer
            Unfitted; a clone of it is fitted.
        before_small : Pipeline or None
            Likewise.
        small : SmallMultimodalClassifier or None
            Unfitted, or None for one with defaults; says which columns it takes.
        table : TrainingTable
            Whose X is the cohort table.

        Returns
        -------
        reader : CohortReader
            Fitted.
        rows : CohortRows
            The table, read.

        Raises
        ------
        ModalityError
            If what a transformer gives is no block table.
        """
        frame: Any = table.X
        large, cells = clone(large), frame
        blocks = _fit_transform(large, table)
        names = _block_names(blocks)
        if before_small is not None:
            before_small = clone(before_small)
            cells = _fit_transform(before_small, table)
        reader = cls(large, names, before_small, _columns_read(small, cells))
        return reader, reader._rows(frame, blocks, cells)

    def read(self, frame: pd.DataFrame) -> CohortRows:
        """Read a checked cohort table.

        Parameters
        ----------
        frame : DataFrame
            With the columns of the fit.

        Returns
        -------
        CohortRows
            The table, read.
        """
        blocks = _as_frame(self.large.transform(frame), frame)
        cells = frame
        if self.before_small is not None:
            cells = _as_frame(self.before_small.transform(frame), frame)
        return self._rows(frame, blocks[self.block_names], cells)

    def _rows(self, frame: pd.DataFrame, blocks: pd.DataFrame, cells: pd.DataFrame) -> CohortRows:
        values = blocks.to_numpy(dtype=np.float64, na_value=np.nan)
        refuse_infinity(values, blocks)
        return CohortRows(frame, values, cells, _has_cells(cells[self.small_columns]))


def check_cohort_table(X: Any, columns: Sequence[str] = ()) -> None:
    """Refuse what isn't a cohort table, or lacks a column of the fit.

    Parameters
    ----------
    X : object
        As the user gave it.
    columns : sequence of str
        Those of the fit; none in a fit.

    Raises
    ------
    ModalityError
        Saying what is wrong.
    """
    if not isinstance(X, pd.DataFrame):
        raise ModalityError(
            "large reads a cohort table, so X has to be a DataFrame of raw columns; found a "
            f"{type(X).__name__}."
        )
    if unnamed := [column for column in X.columns if not isinstance(column, str)]:
        raise ModalityError(f"columns of a cohort table need text as names, found {unnamed[0]!r}.")
    if absent := [column for column in columns if column not in X.columns]:
        raise ModalityError(
            f"the table lacks the columns {absent} of the fit; where a modality wasn't taken of "
            "anyone, give its column with None in each row."
        )


def _fit_transform(transformer: Any, table: TrainingTable) -> pd.DataFrame:
    """Fit a transformer on the rows to learn from; give all rows, transformed."""
    frame: Any = table.X
    kept, original = table.kept, table.targets.original
    learnt = frame.iloc[kept]
    first = _as_frame(transformer.fit_transform(learnt, original[kept]), learnt)
    if table.held is None:
        return first
    held = frame.iloc[table.held]
    both = pd.concat([first, _as_frame(transformer.transform(held), held)])
    return both.iloc[np.argsort(np.concatenate([kept, table.held]))]


def _as_frame(made: Any, rows: pd.DataFrame) -> pd.DataFrame:
    if not isinstance(made, pd.DataFrame):
        raise ModalityError(
            f"expected a DataFrame of columns modality{SEPARATOR}feature from the transformer, "
            f"found a {type(made).__name__}: use make_modality_transformer, or "
            'set_output(transform="pandas").'
        )
    if len(made) != len(rows):
        raise ModalityError(
            f"the transformer made {len(made)} rows of {len(rows)}; each patient has one."
        )
    return made


def _block_names(blocks: pd.DataFrame) -> list[str]:
    for name, dtype in zip(blocks.columns, blocks.dtypes, strict=True):
        if not pd.api.types.is_numeric_dtype(dtype):
            raise ModalityError(
                f"large gives a column {name!r} of {dtype}; the large path reads numbers alone. "
                "Encode that column, or drop it."
            )
    return [str(name) for name in blocks.columns]


def _columns_read(small: Any, cells: pd.DataFrame) -> list[str]:
    """Columns that a small model takes."""
    kinds = getattr(small, "column_kinds", None) or {}
    names = [str(column) for column in cells.columns if kinds.get(column) != "ignore"]
    blocks = group_blocks(names, len(names), getattr(small, "modalities", "auto"))
    return [names[i] for columns in blocks.values() for i in columns]


def _has_cells(cells: pd.DataFrame) -> np.ndarray:
    """Rows of which a cell is there."""
    there = cells.notna().to_numpy()
    for k, (column, dtype) in enumerate(cells.dtypes.items()):
        if not pd.api.types.is_numeric_dtype(dtype):
            there[:, k] &= [not _nothing_observed(cell) for cell in cells[column]]
    return there.any(axis=1)


def _nothing_observed(cell: Any) -> bool:
    """Tell whether a cell is a series of nothing but NaN."""
    if not isinstance(cell, np.ndarray) or cell.dtype.kind != "f" or not cell.size:
        return False
    # Most cells show by their first value that they aren't.
    return bool(np.isnan(cell.flat[0])) and bool(np.isnan(cell).all())
