"""The expert beside AMFN's networks: cross-fitted trees on summaries, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)

from medfusion_sdk.estimators._forest import Forest
from medfusion_sdk.estimators._group_folds import N_FOLDS, group_folds
from medfusion_sdk.exceptions import ParameterError

__all__ = ["Expert", "fit_beside", "fit_expert", "trees_suffice"]

_BOOSTING = {
    "learning_rate": 0.04,
    "max_iter": 200,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 20,
    "l2_regularization": 5.0,
    "max_features": 0.15,
    "max_bins": 63,
    "early_stopping": False,
}
_EXTRA = {"n_estimators": 60, "min_samples_leaf": 5, "max_features": 0.2}
# How much boosting counts beside the extra trees; by cross-validation on PhysioNet 2012.
_BOOSTING_SHARE = 0.7
# A leaf of an extra tree can hold one class alone.
_LEAST_SHARE = 1e-4
# "auto" has an expert from here on: trees have little to learn from fewer.
_ROWS, _CLASS_ROWS = 500, 20


@dataclass(frozen=True)
class Expert:
    """Cross-fitted experts; each left out one fifth of the training rows.

    Attributes
    ----------
    columns : list of ndarray of int
        Columns that the experts of each fold read: those that varied among their rows.
    boosting, extra : list of list of Forest
        Of each fold, for each target.
    kind : {"classes", "labels", "numbers"}
        What the targets are.
    """

    columns: list[np.ndarray]
    boosting: list[list[Forest]]
    extra: list[list[Forest]]
    kind: str

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Mean of all folds' scores, for rows that no expert has seen.

        Parameters
        ----------
        x : ndarray of shape (n, n_columns)
            Rows, NaN where missing.

        Returns
        -------
        ndarray of shape (n, n_outputs)
            Log-odds around zero, or means.
        """
        return np.mean([self.fold_scores(x, fold) for fold in range(len(self.columns))], axis=0)

    def fold_scores(self, x: np.ndarray, fold: int) -> np.ndarray:
        """Scores of one fold's experts.

        Parameters
        ----------
        x : ndarray of shape (n, n_columns)
            Rows, NaN where missing.
        fold : int
            Which.

        Returns
        -------
        ndarray of shape (n, n_outputs)
            Log-odds around zero, or means.
        """
        own = _rounded(x[:, self.columns[fold]])
        pairs = zip(self.boosting[fold], self.extra[fold], strict=True)
        found = [_READ[self.kind](one.sums(own), other.sums(own)) for one, other in pairs]
        return np.hstack(found)


def fit_expert(
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    groups: np.ndarray,
    *,
    kind: str,
    seed: int,
) -> tuple[Expert, np.ndarray]:
    """Fit five experts, each without one fifth of the groups.

    Parameters
    ----------
    x : ndarray of shape (n, n_columns)
        Training rows, NaN where missing.
    y : ndarray of shape (n,) of int, or (n, K)
        Classes; columns of labels or of numbers.
    weight : ndarray of shape (n,)
        Of the rows.
    groups : ndarray of shape (n,) of int
        What belongs together.
    kind : {"classes", "labels", "numbers"}
        What y holds.
    seed : int
        All randomness follows from it.

    Returns
    -------
    expert : Expert
        For rows to come.
    scores : ndarray of shape (n, n_outputs)
        Of the training rows, each from the experts that were fitted without its group.
    """
    fold = group_folds(groups, None if kind == "numbers" else y, weight, seed=seed)
    folds = [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in np.unique(fold)]
    targets = y[:, None] if y.ndim == 1 else y
    columns: list[np.ndarray] = []
    boosting: list[list[Forest]] = []
    extra: list[list[Forest]] = []
    for kept, _ in folds:
        columns.append(_varied(x[kept]))
        own = _rounded(x[kept][:, columns[-1]])
        pairs = [_fit(own, one[kept], weight[kept], kind, seed) for one in targets.T]
        boosting.append([one for one, _ in pairs])
        extra.append([other for _, other in pairs])
    expert = Expert(columns, boosting, extra, kind)
    parts = [
        (left_out, expert.fold_scores(x[left_out], i)) for i, (_, left_out) in enumerate(folds)
    ]
    scores = np.empty((len(x), parts[0][1].shape[1]))
    for left_out, found in parts:
        scores[left_out] = found
    return expert, scores


def fit_beside(
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    groups: np.ndarray,
    learnt: np.ndarray,
    *,
    wanted: bool | str,
    kind: str,
    seed: int,
) -> tuple[Expert | None, np.ndarray | None]:
    """Fit experts on some rows and score all, each by experts that haven't seen its group.

    Parameters
    ----------
    x, y, weight, groups : ndarray
        All rows; see :func:`fit_expert`.
    learnt : ndarray of int
        Positions of the rows to learn from.
    wanted : bool or "auto"
        Whether there is to be an expert; "auto" where there are 500 rows or more, and 20 of each
        class, in five groups at least.
    kind : {"classes", "labels", "numbers"}
        What y holds.
    seed : int
        All randomness follows from it.

    Returns
    -------
    expert : Expert or None
        For rows to come.
    scores : ndarray of shape (n, n_outputs) or None
        Of all rows.

    Raises
    ------
    ParameterError
        If a class has fewer groups than there are folds.
    """
    if (
        wanted is False
        or not x.shape[1]
        or (wanted == "auto" and not trees_suffice(y[learnt], kind, groups[learnt]))
    ):
        return None, None
    _require_classes(y[learnt], kind, groups[learnt])
    parts = x[learnt], y[learnt], weight[learnt], groups[learnt]
    expert, own = fit_expert(*parts, kind=kind, seed=seed)
    scores = expert.scores(x)
    scores[learnt] = own
    return expert, scores


def _require_classes(y: np.ndarray, kind: str, groups: np.ndarray) -> None:
    rarest = _rarest_groups(y if kind == "classes" else np.zeros(len(y), dtype=int), groups)
    if rarest < N_FOLDS:
        raise ParameterError(
            f"expert=True fits trees in {N_FOLDS} folds, each with every class; of the rarest "
            f"there are training rows in {rarest} groups (without groups, in rows that differ). "
            'expert="auto" goes without trees then.'
        )


def _rarest_groups(y: np.ndarray, groups: np.ndarray) -> int:
    """Number of groups that have the class that fewest groups have."""
    pairs = np.unique(np.column_stack([y, groups]), axis=0)
    return int(np.bincount(pairs[:, 0]).min())


def trees_suffice(y: np.ndarray, kind: str, groups: np.ndarray) -> bool:
    """Tell whether there are rows enough for trees.

    Parameters
    ----------
    y : ndarray of shape (n,) of int, or (n, K)
        Classes; columns of labels or of numbers.
    kind : {"classes", "labels", "numbers"}
        What y holds.
    groups : ndarray of shape (n,) of int
        What belongs together.

    Returns
    -------
    bool
        Whether there are 500, and 20 of each class, and for and against each label; and each class
        in five groups.
    """
    classes = y if kind == "classes" else np.zeros(len(y), dtype=int)
    if len(y) < _ROWS or _rarest_groups(classes, groups) < N_FOLDS:
        return False
    if kind == "numbers":
        return True
    counts = np.bincount(y) if kind == "classes" else np.concatenate([y.sum(0), (1 - y).sum(0)])
    return bool(counts.min() >= _CLASS_ROWS)


def _fit(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, kind: str, seed: int
) -> tuple[Forest, Forest]:
    boosting, extra = _MODELS[kind == "numbers"]
    boosted = boosting(**_BOOSTING, random_state=seed).fit(x, y, sample_weight=weight)
    random = extra(**_EXTRA, random_state=seed).fit(x, y, sample_weight=weight)
    return Forest.of_boosting(boosted), Forest.of_extra_trees(random)


_MODELS: dict[bool, tuple[Callable[..., Any], Callable[..., Any]]] = {
    False: (HistGradientBoostingClassifier, ExtraTreesClassifier),
    True: (HistGradientBoostingRegressor, ExtraTreesRegressor),
}


def _class_scores(raw: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Log-odds around zero (n, C): both models' together."""
    if raw.shape[1] == 1:
        raw = np.hstack([-raw / 2, raw / 2])
    logs = np.log(np.maximum(shares, _LEAST_SHARE))
    return _blend(raw - raw.mean(axis=1, keepdims=True), logs - logs.mean(axis=1, keepdims=True))


def _blend(boosted: np.ndarray, random: np.ndarray) -> np.ndarray:
    return _BOOSTING_SHARE * boosted + (1 - _BOOSTING_SHARE) * random


def _label_scores(raw: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Log-odds (n, 1) of a label."""
    return np.diff(_class_scores(raw, shares), axis=1)


_READ: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "classes": _class_scores,
    "labels": _label_scores,
    "numbers": _blend,
}


def _varied(x: np.ndarray) -> np.ndarray:
    known = ~np.isnan(x)
    low = np.where(known, x, np.inf).min(axis=0)
    high = np.where(known, x, -np.inf).max(axis=0)
    return np.flatnonzero(high > low)


def _rounded(x: np.ndarray) -> np.ndarray:
    # Extra trees compare in single precision; what is copied from them has to as well.
    return x.astype(np.float32).astype(np.float64)
