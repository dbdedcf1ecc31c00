"""Folds that test each row once and keep patients together."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils.validation import _num_samples

from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.model_selection._folds import check_disjoint_groups

__all__ = ["partition"]


def partition(
    cv: Any, X: Any, y: Any, groups: Any, *, classifier: bool = True, once: bool = True
) -> list[Any]:
    """Split rows by a splitter, checked.

    Parameters
    ----------
    cv : int, splitter, iterable or pair
        As in scikit-learn; a tuple of training and test rows is a single split.
    X, y : object
        Rows and targets.
    groups : array-like or None
        Patients; none may be on both sides of a fold.
    classifier : bool, default=True
        Whether a number of folds is to be stratified by y.
    once : bool, default=True
        Whether each row has to be tested exactly once.

    Returns
    -------
    list of (train, test)
        Positions of the rows.

    Raises
    ------
    DataError
        If a patient or a row is on both sides.
    ParameterError
        If a row is tested more than once, or never.
    """
    cv = [_as_positions(cv)] if _is_pair(cv) else cv
    folds = list(check_cv(cv, y, classifier=classifier).split(X, y, groups))
    _check_folds(folds, _num_samples(X), cv)
    if groups is not None:
        check_disjoint_groups(folds, groups)
    tested = np.bincount(np.concatenate([test for _, test in folds]), minlength=_num_samples(X))
    if once and (tested != 1).any():
        raise ParameterError(
            f"cv={cv!r} tests {int((tested != 1).sum())} rows more than once or never; use one "
            "that parts the rows, as KFold does."
        )
    return folds


def _is_pair(cv: Any) -> bool:
    """Whether it is one split, (training rows, test rows), rather than several."""
    return isinstance(cv, tuple) and len(cv) == 2 and all(_is_flat(rows) for rows in cv)


def _is_flat(rows: Any) -> bool:
    if isinstance(rows, list | tuple) and len(rows) and np.ndim(rows[0]):
        return False
    return np.asarray(rows).ndim == 1 and np.asarray(rows).dtype.kind in "biu"


def _as_positions(pair: tuple[Any, Any]) -> tuple[np.ndarray, ...]:
    arrays = [np.asarray(rows) for rows in pair]
    return tuple(np.flatnonzero(rows) if rows.dtype.kind == "b" else rows for rows in arrays)


def _check_folds(folds: list[Any], n_rows: int, cv: Any) -> None:
    if not folds:
        raise ParameterError(f"cv={cv!r} gives no split.")
    for number, (train, test) in enumerate(folds):
        rows = np.concatenate([train, test])
        if not len(train) or not len(test) or rows.min() < 0 or rows.max() >= n_rows:
            raise ParameterError(
                f"split {number}: {len(train)} training and {len(test)} test rows; both need "
                f"positions from 0 to {n_rows - 1}."
            )
        shared = np.intersect1d(train, test)
        if len(shared):
            raise DataError(
                f"split {number}: {len(shared)} rows are in training and test set, the first at "
                f"position {shared[0]}."
            )
