"""Area under the ROC curve: many labels and many weightings of the rows at once."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_consistent_length

from medfusion_sdk._alignment import check_aligned, check_same_columns
from medfusion_sdk.estimators._groups import group_codes
from medfusion_sdk.exceptions import DataError

__all__ = ["macro_auroc", "macro_auroc_scorer"]


def macro_auroc(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    strata: ArrayLike | None = None,
) -> float:
    """Mean area under the ROC curve over labels, or over classes against the rest.

    Equals :func:`sklearn.metrics.roc_auc_score` (``average="macro"``, ``multi_class="ovr"``)
    where that is defined, and takes all kinds of target in the same call. A label of which all
    rows have the same value has no ROC curve: it is left out of the mean, and a warning says so.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_labels)
        Classes, or a matrix of 0 and 1 with one column per label.
    y_score : array-like of shape (n_samples,) or (n_samples, n_classes or n_labels)
        Scores, the higher the likelier. Two classes: one score of the second class, or two
        columns of which the second counts. Probabilities need not sum to one.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    labels : array-like of shape (n_classes,), default=None
        The class of each column of ``y_score``. Needed where ``y_true`` lacks a class; by default
        the sorted classes of ``y_true``.
    strata : array-like of shape (n_samples,), default=None
        Compare within these groups only: the folds that scores come from, whose models needn't
        share a scale, or sites. Pairs of all groups count alike.

    Returns
    -------
    float
        Mean over the labels that have both outcomes; NaN where none has.

    Warns
    -----
    UndefinedMetricWarning
        Names the labels that were left out.

    Examples
    --------
    >>> from medfusion_sdk.metrics import macro_auroc
    >>> macro_auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    >>> macro_auroc([[1, 0], [0, 0], [1, 1]], [[0.9, 0.2], [0.1, 0.3], [0.8, 0.4]])
    1.0
    """
    check_aligned(y_true=y_true, y_score=y_score, sample_weight=sample_weight, strata=strata)
    check_same_columns(y_true=y_true, y_score=y_score)
    positive, score, names = one_vs_rest(y_true, y_score, labels)
    weight = np.ones(len(score)) if sample_weight is None else np.asarray(sample_weight, float)
    check_consistent_length(score, weight)
    stratum = None if strata is None else group_codes(strata, len(score))
    areas = weighted_auroc(positive, score, weight[None, :], stratum)[0]
    undefined = np.isnan(areas)
    if undefined.any():
        left_out = ", ".join(str(name) for name in np.asarray(names)[undefined])
        warnings.warn(
            f"AUROC needs rows with and without a label; left out of the mean: {left_out}.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
    return float(mean_of_defined(areas))


def macro_auroc_scorer(estimator: Any, X: Any, y: ArrayLike) -> float:
    """Score a fitted classifier by :func:`macro_auroc`; a scorer for scikit-learn's tools.

    Unlike ``scoring="roc_auc"``, it takes multiclass targets too, and folds that lack a class.

    Parameters
    ----------
    estimator : classifier
        Fitted, with ``predict_proba`` or ``decision_function``.
    X : array-like or DataFrame
        Rows to score on.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Their target.

    Returns
    -------
    float
        Macro AUROC.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from medfusion_sdk.metrics import macro_auroc_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000)
    >>> cross_val_score(model, X, y, scoring=macro_auroc_scorer, cv=3).round(2)
    array([1., 1., 1.])
    """
    check_aligned(X=X, y=y)
    if hasattr(estimator, "predict_proba"):
        score = estimator.predict_proba(X)
    else:
        score = estimator.decision_function(X)
    if isinstance(score, list):
        # scikit-learn's forests and neighbours give one matrix of two columns per label.
        score = np.column_stack([label[:, -1] for label in score])
    multilabel = np.ndim(y) == 2 and np.shape(y)[1] > 1
    return macro_auroc(y, score, labels=None if multilabel else estimator.classes_)


def one_vs_rest(
    y_true: ArrayLike, y_score: ArrayLike, labels: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Bring target and scores to the same shape (rows, labels), as bool and float."""
    target, score = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    check_consistent_length(target, score)
    if not np.isfinite(score).all():
        raise DataError(f"y_score has {np.sum(~np.isfinite(score))} entries that aren't finite.")
    if target.ndim == 2 and target.shape[1] > 1:
        return _from_multilabel(target, score, getattr(y_true, "columns", None))
    return _from_classes(target.reshape(len(target), -1)[:, 0], score, labels)


def _from_multilabel(
    target: np.ndarray, score: np.ndarray, names: Any
) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    if score.shape != target.shape:
        raise DataError(
            f"y_true has shape {target.shape} and y_score {score.shape}; a multilabel target needs "
            "one score per row and label. From a list of one (n_samples, 2) array per label, stack "
            "their second columns."
        )
    positive = target == 1
    if not (positive | (target == 0)).all():
        raise DataError("A multilabel y_true holds 0 and 1 only; other values were found.")
    return positive, score, list(range(target.shape[1]) if names is None else names)


def _from_classes(
    target: np.ndarray, score: np.ndarray, labels: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    classes = np.unique(target) if labels is None else np.asarray(labels)
    unknown = np.setdiff1d(target, classes)
    if len(unknown):
        raise DataError(f"y_true holds classes that labels lacks: {unknown.tolist()}.")
    score = score.reshape(len(score), -1)
    n_columns = score.shape[1]
    if n_columns <= 2 and len(classes) <= 2:
        return (target == classes[-1])[:, None], score[:, -1:], [classes[-1]]
    if n_columns != len(classes):
        raise DataError(
            f"y_score has {n_columns} columns for {len(classes)} classes {classes.tolist()}; "
            "name the class of each column by labels=."
        )
    return target[:, None] == classes[None, :], score, classes.tolist()


def weighted_auroc(
    positive: np.ndarray, score: np.ndarray, weight: np.ndarray, stratum: np.ndarray | None = None
) -> np.ndarray:
    """Return the AUROC of every label under every weighting of the rows.

    Parameters are (rows, labels), (rows, labels) and (weightings, rows); the result is
    (weightings, labels), NaN where positives or negatives have no weight. Integer weights are
    repeated rows, which makes a bootstrap one sort per label. Rows of one stratum are compared.
    """
    wins, pairs = np.zeros((2, len(weight), score.shape[1]))
    parts = [np.arange(len(score))]
    if stratum is not None:
        parts = [np.flatnonzero(stratum == number) for number in np.unique(stratum)]
    for rows in parts:
        for label in range(score.shape[1]):
            won, compared = _pairs(positive[rows, label], score[rows, label], weight[:, rows])
            wins[:, label] += won
            pairs[:, label] += compared
    return np.divide(wins, pairs, out=np.full(wins.shape, np.nan), where=pairs > 0)


def _pairs(
    positive: np.ndarray, score: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are in order, and all pairs of a positive and a negative, by weighting."""
    order = np.argsort(score, kind="stable")
    ranked, is_positive = score[order], positive[order]
    above = weight[:, order[is_positive]]
    below = np.where(is_positive, 0.0, weight[:, order])
    below = np.pad(np.cumsum(below, axis=1), ((0, 0), (1, 0)))
    # A positive wins against negatives of lower score and half against those of equal score.
    lower = np.searchsorted(ranked, ranked[is_positive], side="left")
    upper = np.searchsorted(ranked, ranked[is_positive], side="right")
    wins = 0.5 * np.sum(above * (below[:, lower] + below[:, upper]), axis=1)
    return wins, above.sum(axis=1) * below[:, -1]


def mean_of_defined(areas: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis without NaN; NaN where nothing else is there."""
    defined = ~np.isnan(areas)
    total = np.where(defined, areas, 0.0).sum(axis=-1)
    count = defined.sum(axis=-1)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
