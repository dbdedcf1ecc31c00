"""Series columns of a cohort table: cells (channels, steps) with NaN where nothing was observed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import ModalityError, SignalError
from medfusion_sdk.readers.cells import Column, is_missing, read_column

__all__ = ["as_cohort_table", "read_series", "series_columns"]


def as_cohort_table(X: Any) -> pd.DataFrame:
    """Take a cohort table, or one column of it, as a DataFrame.

    Parameters
    ----------
    X : DataFrame or Series
        Series columns and others.

    Returns
    -------
    DataFrame
        The table itself, or the column as a table.

    Raises
    ------
    ModalityError
        If it is neither.

    Examples
    --------
    >>> as_cohort_table(pd.Series([None, None], name="vitals")).shape
    (2, 1)
    """
    if isinstance(X, pd.Series):
        return X.to_frame("series" if X.name is None else X.name)
    if not isinstance(X, pd.DataFrame):
        raise ModalityError(
            f"expected a cohort table (a DataFrame) or a column of it, found {type(X).__name__}."
        )
    return X


def series_columns(table: pd.DataFrame) -> list[Any]:
    """Name the columns of a cohort table that hold series.

    Parameters
    ----------
    table : DataFrame
        A cohort table.

    Returns
    -------
    list
        Columns whose first present cell is an array or a list, and those without any present
        cell that aren't columns of numbers: a modality that none of these rows has.

    Examples
    --------
    >>> table = pd.DataFrame({"vitals": [None, np.zeros((2, 3))], "static__age": [61.0, 70.0]})
    >>> series_columns(table)
    ['vitals']
    """
    return [name for name in table if _holds_series(table[name])]


def _holds_series(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column.dtype):
        return False
    first = next((cell for cell in column if not is_missing(cell)), None)
    return first is None or isinstance(first, np.ndarray | list)


def read_series(column: pd.Series, n_channels: int | None = None) -> Column:
    """Check the cells of a series column.

    Parameters
    ----------
    column : Series
        Arrays or lists (channels, steps); one dimension is one channel.
    n_channels : int, optional
        Channels that each cell must have; by default those of the first.

    Returns
    -------
    Column
        Float arrays of two dimensions. A cell in which nothing was observed is missing.

    Raises
    ------
    SignalError
        For a cell that isn't such an array, has other channels or holds infinity.

    Examples
    --------
    >>> cells = read_series(pd.Series([[1.0, float("nan")], [float("nan")], None])).cells
    >>> cells[0].shape, cells[1], cells[2]
    ((1, 2), None, None)
    """
    raw = read_column(column)
    cells: list[np.ndarray | None] = []
    for row, cell in zip(raw.rows, raw.cells, strict=True):
        try:
            series = None if cell is None else _as_series(cell, n_channels)
        except SignalError as error:
            raise error.located(row, raw.name) from error
        if series is not None:
            n_channels = len(series)
        cells.append(None if series is None or np.isnan(series).all() else series)
    return Column(cells, raw.rows, raw.name)


def _as_series(cell: Any, n_channels: int | None) -> np.ndarray:
    try:
        series = np.asarray(cell)
        series = series if series.dtype.kind == "f" else series.astype(np.float64)
    except (TypeError, ValueError) as cause:
        raise SignalError(f"expected an array (channels, steps) of numbers: {cause}") from cause
    series = series[None] if series.ndim == 1 else series
    if series.ndim != 2:
        raise SignalError(f"expected an array (channels, steps), found shape {series.shape}.")
    if n_channels is not None and len(series) != n_channels:
        raise SignalError(
            f"this series has {len(series)} channels, others of the column {n_channels}. A "
            "channel that a row lacks is a row of NaN."
        )
    with np.errstate(over="ignore"):
        infinite = np.isinf(series.astype(np.float32, copy=False))
    if infinite.any():
        raise SignalError(
            "this series holds infinity, or a number beyond single precision; mark what wasn't "
            "observed by NaN."
        )
    return series
