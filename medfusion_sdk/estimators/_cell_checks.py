"""What a cohort table has to be before it is read: numbers as numbers, channels as in training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._rows import as_numbers
from medfusion_sdk.exceptions import CellError, ModalityError, ModalityWarning
from medfusion_sdk.readers.cells import read_column

if TYPE_CHECKING:
    from medfusion_sdk.estimators._layout import Layout

__all__ = [
    "channel_names",
    "numeric_columns",
    "plain_table",
    "refuse_cells_in_blocks",
    "refuse_other_channels",
]


def plain_table(X: Any) -> Any:
    """Make what pandas holds as objects or in types of its own plain floats, where it is numbers.

    Parameters
    ----------
    X : DataFrame or ndarray
        As the user gave it; it stays as it is.

    Returns
    -------
    DataFrame or ndarray
        A table with cells of arrays is a DataFrame, whatever it was: meta-estimators such as
        bagging hand over arrays of objects.

    Raises
    ------
    CellError
        If most cells of a column are numbers, and one is something else.

    Warns
    -----
    ModalityWarning
        If an array holds several columns of numbers beside arrays: their names told modalities.
    """
    if not isinstance(X, pd.DataFrame):
        if not _holds_cells(X):
            return X
        X = pd.DataFrame(X).infer_objects()
        if len(numeric_columns(X)) > 1:
            warnings.warn(
                "this table lost its names, as inside a BaggingClassifier: all its numbers are "
                "taken as one modality.",
                ModalityWarning,
                stacklevel=3,
            )
    X = X.infer_objects()
    numeric = set(numeric_columns(X))
    for i, dtype in enumerate(X.dtypes):
        column = X.iloc[:, i]
        if i not in numeric and _is_of_numbers(column):
            X.isetitem(i, as_numbers(column))
        elif i in numeric and not isinstance(dtype, np.dtype):
            X.isetitem(i, column.to_numpy(np.float64, na_value=np.nan))
    return X


def _is_of_numbers(column: pd.Series) -> bool:
    """Whether most cells are numbers, so that another one is a slip."""
    numbers = sum(isinstance(cell, Number) and not pd.isna(cell) for cell in column)
    others = sum(not (cell is None or cell is pd.NA or isinstance(cell, Number)) for cell in column)
    return numbers > others


def _holds_cells(X: Any) -> bool:
    objects = isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.hasobject
    return objects and any(isinstance(cell, np.ndarray | list) for cell in X.flat)


def numeric_columns(X: pd.DataFrame) -> list[int]:
    """Give the positions of the columns of numbers.

    Parameters
    ----------
    X : DataFrame
        A table.

    Returns
    -------
    list of int
        Positions.
    """
    return [i for i, dtype in enumerate(X.dtypes) if pd.api.types.is_numeric_dtype(dtype)]


def refuse_cells_in_blocks(X: pd.DataFrame, layout: Layout) -> None:
    """Refuse a table that has something else where training had numbers.

    Parameters
    ----------
    X : DataFrame
        From :func:`plain_table`.
    layout : Layout
        Of the training table.

    Raises
    ------
    CellError
        Naming the first such cell.
    """
    numeric = set(numeric_columns(X))
    for m in layout.of_kind("block"):
        for position in set(layout.columns[m].tolist()) - numeric:
            column = read_column(X.iloc[:, position])
            for i in column.present:
                cell = column.cells[i]
                raise CellError(
                    f"expected a number, as in training, found {type(cell).__name__} {cell!r:.40}."
                ).located(column.rows[i], column.name)


def channel_names(X: Any) -> dict[str, list[str]]:
    """Read the names of the channels of a table's series, where it tells them.

    Parameters
    ----------
    X : DataFrame or ndarray
        As of :func:`~medfusion_sdk.grid_events`, which notes them in ``attrs["channels"]``.

    Returns
    -------
    dict of str to list of str
        Channels of each column; empty for a table that doesn't tell.
    """
    told = X.attrs.get("channels") if isinstance(X, pd.DataFrame) else None
    if not isinstance(told, Mapping):
        return {}
    return {str(name): [str(channel) for channel in own] for name, own in told.items()}


def refuse_other_channels(X: Any, channels: Mapping[str, list[str]]) -> None:
    """Refuse a table whose series have other channels than those of training, or in other order.

    Parameters
    ----------
    X : DataFrame or ndarray
        As the user gave it.
    channels : mapping of str to list of str
        From :func:`channel_names` of the training table.

    Raises
    ------
    ModalityError
        Naming the first such column. Nothing is said of tables that don't tell their channels.
    """
    for name, own in channel_names(X).items():
        if channels.get(name, own) != own:
            raise ModalityError(
                f"column {name!r} has the channels {own}, in training {channels[name]}: put this "
                "table on a grid with the same groups."
            )
