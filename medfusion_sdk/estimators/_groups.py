"""Which rows belong together: groups as users give them, or rows of one content."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._content import content_codes
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.readers.parts import whole_of_parts
from medfusion_sdk.tables import shown_rows

__all__ = ["LEAST_CONTENTS", "checked_groups", "group_codes", "row_groups"]

# Fewer different rows are a few coarse columns, not patients: there each row is by itself.
LEAST_CONTENTS = 20


def checked_groups(
    groups: Any, n_rows: int, rows: pd.Index | None = None, counted: np.ndarray | None = None
) -> np.ndarray | None:
    """Check the groups of rows.

    Parameters
    ----------
    groups : array-like of shape (n,) or None
        As the user gave them: values of any hashable type.
    n_rows : int
        Length that they must have.
    rows : Index, optional
        What the table calls its rows, for messages; positions by default.
    counted : ndarray of shape (n,), bool, optional
        Rows that count; all by default. Others may lack a group.

    Returns
    -------
    ndarray of shape (n,) or None
        One value for each row; None without groups.

    Raises
    ------
    DataError
        If there are more or fewer than rows, some are missing, or can't be told apart.
    """
    if groups is None:
        return None
    labels = _flat(groups)
    if len(labels) != n_rows:
        raise DataError(f"groups has {len(labels)} entries for {n_rows} rows.")
    missing = np.array([pd.isna(label) is True for label in labels.tolist()], dtype=bool)
    if labels.dtype.kind in "mM":
        missing = np.isnat(labels)
    if counted is not None:
        missing &= counted
    if missing.any():
        places = np.flatnonzero(missing)
        first = f"the first at position {places[0]}"
        if rows is not None:
            first = f"of the labels {shown_rows(rows, places)}"
        raise DataError(
            f"groups is missing in {len(places)} rows, {first}. Give a row without a known patient "
            "a value of its own."
        )
    return labels


def group_codes(groups: Any, n_rows: int) -> np.ndarray:
    """Number the groups from 0 in order of appearance.

    Parameters
    ----------
    groups : array-like of shape (n,) or None
        As the user gave them; None for each row by itself.
    n_rows : int
        Length that they must have.

    Returns
    -------
    ndarray of shape (n,), int
        Of each row.

    Raises
    ------
    DataError
        As of :func:`checked_groups`.
    """
    labels = checked_groups(groups, n_rows)
    return np.arange(n_rows) if labels is None else _numbered(labels)


def row_groups(X: Any, groups: Any, rows: pd.Index, counted: np.ndarray) -> np.ndarray:
    """Number what belongs together among the rows that count.

    Rows belong together that share a group. Without groups the windows and prefixes that
    ``make_windows`` and its like have cut of a row do, by their index; else rows that hold the
    same, unless the table has few different rows.

    Parameters
    ----------
    X : ndarray of shape (n, d), DataFrame or ReadRows
        Validated rows.
    groups : array-like of shape (n,) or None
        As the user gave them.
    rows : Index of length n
        What the user's table calls its rows.
    counted : ndarray of shape (n,), bool
        Rows of positive weight.

    Returns
    -------
    ndarray of shape (n_counted,), int
        From 0. The numbers follow from the rows' content, not from their order, so that a fit
        that deals by them doesn't depend on that.

    Raises
    ------
    DataError
        If groups don't fit the rows, or all rows are one group.
    """
    content = content_codes(X[counted])
    labels = checked_groups(groups, len(counted), rows, counted)
    labels = whole_of_parts(rows[counted]) if labels is None else labels[counted]
    if labels is None:
        coarse = content.max() + 1 < min(LEAST_CONTENTS, len(content))
        return _ranked(np.arange(len(content)), content) if coarse else content
    codes = _ranked(_numbered(labels), content)
    if groups is not None and len(codes) > 1 and not codes.any():
        raise DataError(
            f"groups has one value alone, {labels[0]!r}: no row can be left out that another one "
            "doesn't belong to. Give each patient a value of their own, or leave groups away."
        )
    return codes


def _ranked(codes: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Number groups anew, in order of the least content that each has."""
    least = np.full(codes.max() + 1, len(content))
    np.minimum.at(least, codes, content)
    rank = np.empty(len(least), dtype=int)
    rank[np.argsort(least, kind="stable")] = np.arange(len(least))
    return rank[codes]


def _flat(groups: Any) -> np.ndarray:
    """One value per row, tuples left whole."""
    if isinstance(groups, pd.MultiIndex):
        groups = groups.to_flat_index()
    if isinstance(groups, list | tuple):
        if not any(isinstance(label, list | tuple | np.ndarray) for label in groups):
            return pd.Series(list(groups), dtype=object).to_numpy()
        labels = np.empty(len(groups), dtype=object)
        for place, label in enumerate(groups):
            labels[place] = label
        return labels
    values = np.asarray(groups)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"groups has shape {values.shape}; one value for each row is needed.")
    return values


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Number labels from 0 in order of appearance."""
    try:
        return pd.factorize(labels, use_na_sentinel=False)[0]
    except TypeError as error:
        raise DataError(f"groups has values that can't be told apart: {error}.") from error
