"""What y means: classes (binary, multiclass) or independent labels (multilabel)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, column_or_1d

from medfusion_sdk.exceptions import ParameterError, TrainingWarning

__all__ = ["Targets", "balanced_weights", "row_weights", "warn_of_lost_classes"]


@dataclass(frozen=True)
class Targets:
    """Encoded y.

    Attributes
    ----------
    classes : ndarray
        Sorted classes, or positions 0..L-1 of the labels (scikit-learn's MLPClassifier does the
        same).
    codes : ndarray of shape (n,) int64, or (n, L) float
        Position of each row's class, or 0/1 labels.
    names : ndarray
        What tables call the classes or labels.
    """

    classes: np.ndarray
    codes: np.ndarray
    names: np.ndarray

    @property
    def original(self) -> np.ndarray:
        """The targets as they came."""
        return self.codes.astype(int) if self.multilabel else self.classes[self.codes]

    @property
    def multilabel(self) -> bool:
        """Labels are independent."""
        return self.codes.ndim == 2

    @property
    def strata(self) -> np.ndarray:
        """What folds, and rows held out, have alike: classes or labels."""
        return self.codes

    def take(self, rows: np.ndarray) -> Targets:
        """Take some rows.

        Parameters
        ----------
        rows : ndarray of int or bool
            Which.

        Returns
        -------
        Targets
            Those.
        """
        return replace(self, codes=self.codes[rows])

    @classmethod
    def encode(cls, y: Any, raw: Any = None) -> Targets:
        """Encode a validated y.

        Parameters
        ----------
        y : ndarray of shape (n,) or (n, L)
            Targets, checked for length and finiteness.
        raw : object, optional
            y as the user passed it, for the labels' names.

        Returns
        -------
        Targets
            The encoding.
        """
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if y.ndim == 1:
            classes, codes = np.unique(y, return_inverse=True)
            return cls(classes, codes.astype(np.int64), classes)
        if type_of_target(y) != "multilabel-indicator":
            raise ParameterError(
                f"y has shape {y.shape}; two columns or more must be 0/1 labels (multilabel). "
                "Several multiclass targets need one estimator each, for example through "
                "sklearn.multioutput.MultiOutputClassifier."
            )
        positions = np.arange(y.shape[1])
        names = np.asarray(getattr(raw, "columns", positions))
        return cls(positions, np.asarray(y, dtype=np.float64), names)


def row_weights(X: np.ndarray, y: np.ndarray, sample_weight: Any, class_weight: Any) -> np.ndarray:
    """Weights that rows come with: sample weights times class weights that are given.

    Parameters
    ----------
    X : ndarray
        For the number of rows.
    y : ndarray
        Targets.
    sample_weight : array-like of shape (n,) or None
        The user's.
    class_weight : dict, "balanced" or None
        scikit-learn's meaning; several labels multiply. "balanced" is left to
        :func:`balanced_weights`, once it is known which rows are learnt from.

    Returns
    -------
    ndarray of shape (n,)
        At least zero; float64.

    Raises
    ------
    ParameterError
        If no row has a positive weight.
    """
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not (weight > 0).any():
        raise ParameterError("every sample weight is zero; at least one row must count.")
    if class_weight is None or isinstance(class_weight, str):
        return weight
    factors = np.zeros_like(weight)
    counted = weight > 0
    factors[counted] = compute_sample_weight(class_weight, y[counted])
    return weight * factors


def balanced_weights(codes: np.ndarray, weight: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Weigh rows so that each class, or both answers to a label, weigh the same together.

    Parameters
    ----------
    codes : ndarray of shape (n,) of int, or (n, L)
        Classes or 0/1 labels.
    weight : ndarray of shape (n,)
        Sample weights; a row of weight two is two rows.
    kept : ndarray of int
        Positions of the rows to learn from, which the classes are counted in.

    Returns
    -------
    ndarray of shape (n,)
        `weight` times, for each label, the total over the number of classes and the class's own
        total: scikit-learn's "balanced".
    """
    found = weight.astype(np.float64)
    for label in codes.reshape(len(codes), -1).T:
        _, position = np.unique(label, return_inverse=True)
        totals = np.bincount(position[kept], weight[kept], position.max() + 1)
        there = totals > 0
        # A class of which nothing is learnt weighs what it weighs.
        shares = np.where(there, totals, totals.sum() / there.sum()) * there.sum()
        found = found * (totals.sum() / shares)[position]
    return found


def warn_of_lost_classes(y: np.ndarray, counted: np.ndarray) -> None:
    """Name the classes whose every row weighs zero.

    Parameters
    ----------
    y : ndarray of shape (n,) or (n, L)
        Classes; of labels there is nothing to say.
    counted : ndarray of shape (n,), bool
        Rows of positive weight.
    """
    if counted.all() or (y.ndim == 2 and y.shape[1] > 1):
        return
    classes = np.ravel(y)
    lost = np.setdiff1d(classes[~counted], classes[counted])
    if len(lost):
        warnings.warn(
            f"every row of the classes {lost.tolist()} has weight zero (sample_weight or "
            "class_weight): as if the rows weren't there, these classes aren't in classes_, and "
            "have no column in predict_proba. Give their rows a positive weight to learn them.",
            TrainingWarning,
            stacklevel=4,
        )
