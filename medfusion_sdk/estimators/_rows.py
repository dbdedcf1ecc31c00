"""A table's numbers, and its rows as the user calls them, for results and for messages."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import _num_samples, validate_data

from medfusion_sdk.exceptions import CellError, ModalityError, ModalityWarning

__all__ = [
    "ReadRows",
    "as_numbers",
    "checked_numbers",
    "refuse_infinity",
    "refuse_lost_names",
    "row_labels",
    "values_of",
]


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


def refuse_lost_names(estimator: Any, X: Any) -> None:
    """Refuse an array where training had names, which told several modalities apart.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    X : DataFrame or array of shape (n, n_features)
        As the user gave it, to predict on.

    Raises
    ------
    ModalityError
        With the names that are lacking.
    """
    modalities = list(getattr(estimator, "modalities_", ()))
    if hasattr(X, "columns") or len(modalities) < 2 or not hasattr(estimator, "feature_names_in_"):
        return
    names = [str(name) for name in estimator.feature_names_in_]
    raise ModalityError(
        f"{type(estimator).__name__} was fitted on a table whose {len(names)} columns have names, "
        f"which tell the modalities {modalities} apart, and this is a {type(X).__name__} without "
        f"names. Give a DataFrame with the columns {names[:5]}{', ...' if len(names) > 5 else ''}."
    )


def checked_numbers(estimator: Any, X: Any, *y: Any, **options: Any) -> Any:
    """Check a table of numbers as scikit-learn does, NaN allowed.

    Parameters
    ----------
    estimator : estimator
        Whose fit or prediction it is.
    X : DataFrame or array of shape (n, n_features)
        As the user gave it; columns of any type whose cells are numbers or missing.
    *y : object
        Targets, where they are to be checked too.
    **options : object
        For :func:`~sklearn.utils.validation.validate_data`.

    Returns
    -------
    ndarray of shape (n, n_features), or tuple of it and y
        In float64.

    Raises
    ------
    CellError
        If a cell is infinite, or a DataFrame's no number.
    """
    table = _plain(X) if isinstance(X, pd.DataFrame) else X
    found = validate_data(
        estimator, table, *y, dtype=np.float64, ensure_all_finite=False, **options
    )
    values = found[0] if y else found
    refuse_infinity(values, X)
    if options.get("reset", True) and not hasattr(X, "columns"):
        _tell_missing_together(values, getattr(estimator, "modalities", "auto"))
    return found


def _tell_missing_together(values: np.ndarray, modalities: Any) -> None:
    """Warn of an array without names some of whose columns are missing in the same rows."""
    missing = np.isnan(values)
    if not isinstance(modalities, str) or not missing.any():
        return
    patterns, columns = np.unique(missing, axis=1, return_counts=True)
    together = columns[patterns.any(axis=0)].max(initial=0)
    if 1 < together < values.shape[1]:
        warnings.warn(
            f"{together} of {values.shape[1]} columns without names are missing in the same rows, "
            "as those of one modality are, and all columns are taken as one modality. Give a "
            "DataFrame with columns named modality__feature, or say which columns are which with "
            "modalities={name: slice, ...}. BaggingClassifier and others hand arrays on.",
            ModalityWarning,
            stacklevel=4,
        )


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Give columns that pandas doesn't take for numbers, such as with ``pd.NA``, as numbers."""
    others = [i for i, dtype in enumerate(table.dtypes) if not pd.api.types.is_numeric_dtype(dtype)]
    table = table.copy(deep=False) if others else table
    for place in others:
        table.isetitem(place, as_numbers(table.iloc[:, place]))
    return table


def as_numbers(column: pd.Series) -> pd.Series:
    """Give a column of numbers as floats, whatever pandas holds it as.

    Parameters
    ----------
    column : Series
        Cells that are numbers or missing.

    Returns
    -------
    Series
        The same in float64, NaN where missing.

    Raises
    ------
    CellError
        Naming the first cell that is something else.
    """
    missing = column.isna()
    dated = isinstance(column.dtype, np.dtype) and column.dtype.kind in "mM"
    cells = column.astype(object)
    numbers = cells.where(cells.isna()) if dated else pd.to_numeric(cells, errors="coerce")
    wrong = np.flatnonzero(numbers.isna() & ~missing)
    if len(wrong):
        raise CellError(
            f"found {cells.iloc[wrong[0]]!r}; a number is needed, or a missing cell. Turn text and "
            "dates into numbers first, for example by an OneHotEncoder in "
            "make_modality_transformer.",
            row=column.index[wrong[0]],
            column=column.name,
        )
    return numbers.astype(np.float64)
