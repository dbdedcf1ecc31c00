"""Folds of whole patients, stratified by several labels, and a guard against leaks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from medfusion_sdk.exceptions import DataError, MedFusionWarning, ParameterError
from medfusion_sdk.metrics._groups import group_codes

__all__ = ["MultilabelStratifiedGroupKFold", "check_disjoint_groups"]


class MultilabelStratifiedGroupKFold(BaseCrossValidator):
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

    # scikit-learn reads this when metadata routing is on: groups belong to split by default.
    __metadata_request__split: ClassVar[dict[str, bool]] = {"groups": True}

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object, default=None
            Not used; scikit-learn's signature.

        Returns
        -------
        int
            ``n_splits``.
        """
        return self.n_splits

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
        groups : array-like of shape (n_samples,)
            Patient of each row. No patient is in two folds.

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

    def _iter_test_indices(
        self, X: Any = None, y: Any = None, groups: Any = None
    ) -> Iterator[np.ndarray]:
        labels, group = self._checked(y, groups)
        counts = np.zeros((group.max() + 1, labels.shape[1]), dtype=np.int64)
        np.add.at(counts, group, labels)
        rng = None
        if self.shuffle:
            # check_random_state(None) is the global generator.
            seed = np.random.RandomState() if self.random_state is None else self.random_state
            rng = check_random_state(seed)
        fold = _deal(counts, np.bincount(group), self.n_splits, rng)[group]
        for number in range(self.n_splits):
            yield np.flatnonzero(fold == number)

    def _checked(self, y: Any, groups: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the label matrix and the number of each row's group."""
        if not isinstance(self.n_splits, (int, np.integer)) or self.n_splits < 2:
            raise ParameterError(f"n_splits={self.n_splits!r}; an integer of 2 or more is needed.")
        if self.random_state is not None and not self.shuffle:
            raise ParameterError("random_state has no effect without shuffle=True.")
        if y is None or groups is None:
            raise DataError("Both y and groups are needed: pass split(X, y, groups).")
        labels = label_table(y)
        group = group_codes(groups, len(labels))
        if group.max() + 1 < self.n_splits:
            raise DataError(f"n_splits={self.n_splits} exceeds the {group.max() + 1} groups.")
        n_groups = labels.groupby(group).any().sum()
        rare = n_groups[(n_groups > 0) & (n_groups < self.n_splits)]
        if len(rare):
            found = ", ".join(f"{name} ({count})" for name, count in rare.items())
            warnings.warn(
                f"In fewer groups than n_splits={self.n_splits}, so some folds lack them: {found}.",
                MedFusionWarning,
                stacklevel=6,
            )
        return labels.to_numpy(dtype=np.int64), group


def label_table(y: Any) -> pd.DataFrame:
    """Return one column of 0 and 1 per label or class."""
    kind = type_of_target(y)
    if kind == "multilabel-indicator":
        table = pd.DataFrame(y.toarray() if issparse(y) else y)
        return table.reset_index(drop=True)
    if kind in ("binary", "multiclass"):
        return pd.get_dummies(column_or_1d(y))
    raise DataError(f"y is {kind}; classes, or a matrix of 0 and 1 per label, are needed.")


def _deal(
    counts: np.ndarray, size: np.ndarray, n_folds: int, rng: np.random.RandomState | None
) -> np.ndarray:
    """Give each group a fold: rarest label first, to the fold that lacks it most.

    ``counts`` is (groups, labels), the rows with each label; ``size`` the rows of each group.
    """
    # What each fold still lacks, times n_folds: whole numbers, so that ties are exact.
    lack = np.tile(counts.sum(axis=0), (n_folds, 1))
    lack_size = np.full(n_folds, size.sum())
    order = np.arange(len(size)) if rng is None else rng.permutation(len(size))
    fold = np.full(len(size), -1)

    def give(groups: np.ndarray, demand: np.ndarray) -> None:
        for group in groups:
            best = np.flatnonzero(demand == demand.max())
            best = best[lack_size[best] == lack_size[best].max()]
            chosen = best[0] if rng is None else rng.choice(best)
            fold[group] = chosen
            lack[chosen] -= n_folds * counts[group]
            lack_size[chosen] -= n_folds * size[group]

    while (left := counts[fold < 0].sum(axis=0)).any():
        label = int(np.argmin(np.where(left > 0, left, np.inf)))
        holders = order[(fold[order] < 0) & (counts[order, label] > 0)]
        # The large ones first, while there is room to make up for them.
        holders = holders[np.argsort(-counts[holders, label], kind="stable")]
        give(holders, lack[:, label])
    unlabelled = order[fold[order] < 0]
    give(unlabelled[np.argsort(-size[unlabelled], kind="stable")], lack_size)
    return fold


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
