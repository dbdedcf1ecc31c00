"""Folds that test each row once and keep patients together."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils.validation import _num_samples

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.model_selection._folds import check_disjoint_groups

__all__ = ["partition"]


def partition(cv: Any, X: Any, y: Any, groups: Any, *, classifier: bool = True) -> list[Any]:
    """Split rows by a splitter, checked.

    Parameters
    ----------
    cv : int, splitter or iterable
        As in scikit-learn.
    X, y : object
        Rows and targets.
    groups : array-like or None
        Patients; none may be on both sides of a fold.
    classifier : bool, default=True
        Whether a number of folds is to be stratified by y.

    Returns
    -------
    list of (train, test)
        Positions of the rows.

    Raises
    ------
    DataError
        If a patient is on both sides.
    ParameterError
        If a row is tested more than once, or never.
    """
    folds = list(check_cv(cv, y, classifier=classifier).split(X, y, groups))
    if groups is not None:
        check_disjoint_groups(folds, groups)
    tested = np.bincount(np.concatenate([test for _, test in folds]), minlength=_num_samples(X))
    if (tested != 1).any():
        raise ParameterError(
            f"cv={cv!r} tests {int((tested != 1).sum())} rows more than once or never; use one "
            "that parts the rows, as KFold does."
        )
    return folds
