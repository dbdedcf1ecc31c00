"""Folds of whole patients, stratified by several labels, and a guard against leaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from medfusion_sdk.estimators._groups import group_codes
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.model_selection._dealing import DealtKFold

__all__ = ["MultilabelStratifiedGroupKFold", "check_disjoint_groups"]


class MultilabelStratifiedGroupKFold(DealtKFold):
    """K folds of whole groups in which every label is about as frequent as in all rows.

    :class:`~sklearn.model_selection.StratifiedGroupKFold` refuses multilabel targets, and
    :class:`~sklearn.model_selection.GroupKFold` leaves rare labels to chance. Here the rarest
    label is dealt out first, group by group, each to the fold that lacks it most; then the next.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    shuffle : bool, default=False
        Deal the groups in random order, and break ties between folds at random.
    random_state : int, RandomState instance or None, default=None
        Seed of the order, where ``shuffle=True``. None draws afresh at each call of ``split`` and
        leaves NumPy's global generator alone.

    See Also
    --------
    sklearn.model_selection.StratifiedGroupKFold : For one class per row.

    Notes
    -----
    Iterative stratification of Sechidis, Tsoumakas and Vlahavas (2011), On the stratification of
    multi-label data, ECML PKDD, with the group in place of the row as the unit that is dealt out.

    Examples
    --------
    >>> from medfusion_sdk.datasets import load_ptbxl
    >>> from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold
    >>> ptbxl = load_ptbxl()
    >>> folds = MultilabelStratifiedGroupKFold(n_splits=5)
    >>> for train, test in folds.split(ptbxl.data, ptbxl.target, ptbxl.groups):
    ...     print(len(test), int(ptbxl.target["HYP"].iloc[test].sum()))
    71 5
    71 5
    70 5
    69 5
    72 5
    """

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows of each training and test set.

        Parameters
        ----------
        X : array-like or DataFrame of n_samples rows
            Only its length counts.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Classes, or a matrix of 0 and 1 with one column per label.
        groups : array-like of shape (n_samples,), default=None
            Patient of each row. No patient is in two folds. By default each row is one.

        Yields
        ------
        train, test : ndarray of int
            Positions of the rows.

        Warns
        -----
        MedFusionWarning
            A label occurs in fewer groups than there are folds.
        """
        yield from super().split(X, y, groups)

    def _read(self, y: Any, groups: Any) -> tuple[pd.DataFrame, np.ndarray]:
        if y is None:
            raise DataError("y is needed: pass split(X, y, groups).")
        labels = label_table(y)
        alone = np.arange(len(labels))
        return labels, alone if groups is None else group_codes(groups, len(labels))


def label_table(y: Any) -> pd.DataFrame:
    """Return one column of 0 and 1 per label or class."""
    kind = type_of_target(y)
    if kind == "multilabel-indicator":
        table = pd.DataFrame(y.toarray() if issparse(y) else y)
        return table.reset_index(drop=True)
    if kind in ("binary", "multiclass"):
        return pd.get_dummies(column_or_1d(y))
    raise DataError(f"y is {kind}; classes, or a matrix of 0 and 1 per label, are needed.")


def check_disjoint_groups(splits: Iterable[tuple[ArrayLike, ArrayLike]], groups: ArrayLike) -> None:
    """Raise if a group is in both the training and the test set of a split.

    Parameters
    ----------
    splits : iterable of (train, test)
        Positions of rows, as ``split`` of a cross-validator yields them.
    groups : array-like of shape (n_samples,)
        Patient of each row.

    Raises
    ------
    DataError
        Names the split and the first groups found on both sides.

    Examples
    --------
    >>> from sklearn.model_selection import KFold
    >>> from medfusion_sdk.model_selection import check_disjoint_groups
    >>> patients = ["p1", "p1", "p2", "p2"]
    >>> check_disjoint_groups(KFold(2).split(patients), patients)
    >>> check_disjoint_groups(KFold(4).split(patients), patients)
    Traceback (most recent call last):
    medfusion_sdk.exceptions.DataError: split 0: 1 groups are in training and test set: ['p1']...
    """
    labels = column_or_1d(groups)
    codes = group_codes(labels, len(labels))
    for number, (train, test) in enumerate(splits):
        shared = np.intersect1d(codes[np.asarray(train)], codes[np.asarray(test)])
        if len(shared):
            first = [labels[codes == code][0] for code in shared[:5]]
            raise DataError(
                f"split {number}: {len(shared)} groups are in training and test set: {first}. "
                "Split with a splitter that takes groups."
            )
