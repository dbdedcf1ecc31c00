"""Rows as the user's table calls them, for results and for messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import _num_samples

from medfusion_sdk.exceptions import CellError

__all__ = ["refuse_infinity", "row_labels"]


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
