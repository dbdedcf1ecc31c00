"""Rows as the user's table calls them, for results and for messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import _num_samples

from medfusion_sdk.exceptions import CellError

__all__ = ["ReadRows", "refuse_infinity", "row_labels", "values_of"]


@dataclass(frozen=True)
class ReadRows(ABC):
    """Rows of a cohort table with the block table that was made of them.

    Attributes
    ----------
    frame : DataFrame
        As the user gave them.
    values : ndarray of shape (n, n_features)
        Their block table.
    """

    frame: pd.DataFrame
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    @abstractmethod
    def __getitem__(self, rows: np.ndarray) -> Self:
        """Take some rows, by position or mask."""


def values_of(X: Any) -> np.ndarray:
    """Give the block table of validated rows, whether it was made of raw columns or given.

    Parameters
    ----------
    X : ndarray or ReadRows
        Validated rows.

    Returns
    -------
    ndarray of shape (n, n_features)
        Values, NaN where missing.
    """
    return X.values if isinstance(X, ReadRows) else X


def row_labels(X: Any) -> pd.Index:
    """Index of a table, or positions.

    Parameters
    ----------
    X : DataFrame or array
        As the user gave it.

    Returns
    -------
    Index
        One label per row.
    """
    return X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(_num_samples(X))


def refuse_infinity(values: np.ndarray, X: Any) -> None:
    """Refuse a table with an infinite value.

    Parameters
    ----------
    values : ndarray of shape (n, n_features)
        The table's numbers; NaN is allowed.
    X : DataFrame or array
        As the user gave it.

    Raises
    ------
    CellError
        Naming the first one's row and column.
    """
    infinite = np.isinf(values)
    if not infinite.any():
        return
    row, column = (int(places[0]) for places in np.nonzero(infinite))
    raise CellError(
        f"found {values[row, column]}; a number must be finite, or NaN where it is missing.",
        row=row_labels(X)[row],
        column=X.columns[column] if isinstance(X, pd.DataFrame) else column,
    )
