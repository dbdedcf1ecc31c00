"""What models answer out of fold, kept so that any scikit-learn scorer can score it again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import Tags, _safe_indexing, get_tags

from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.model_selection._group_fit import fit_with_groups
from medfusion_sdk.survival._wrapped import CURVES, curve_method

__all__ = ["Answers", "answer_fold", "average", "by_row"]

# What a scorer may ask an estimator for.
_METHODS = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "predict_survival_function",
    "predict_cumulative_hazard_function",
)
_LEAST_PROBABILITY = 1e-6


class _Listener:
    """A fitted estimator that remembers what it was asked."""

    def __init__(self, fitted: Any) -> None:
        self._fitted = fitted
        self.answered: dict[str, np.ndarray] = {}
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        value = (curve_method if name in CURVES else getattr)(self._fitted, name)
        if name not in _METHODS:
            return value

        def method(X: Any) -> Any:
            self.asked.append(name)
            self.answered[name] = _as_rows(value(X))
            return self.answered[name]

        method.__name__ = name  # scikit-learn's scorers go by it
        return method


class Answers:
    """Answers to all rows, in place of the estimators of the folds that gave them.

    A scorer takes it for a fitted estimator; what it passes as X are positions of rows.

    Parameters
    ----------
    answered : mapping of str to ndarray of n rows
        By method.
    classes : ndarray or None
        Of the estimators, where they have any.
    tags : Tags
        Of the estimators.
    """

    def __init__(
        self, answered: Mapping[str, np.ndarray], classes: np.ndarray | None, tags: Tags
    ) -> None:
        self.answered = dict(answered)
        # What each scorer asked for first, by its place among them.
        self.asked: list[str] = list(answered)[:1]
        self.tags = tags
        if classes is not None:
            self.classes_ = classes

    @classmethod
    def gathered(cls, parts: Sequence[Answers], folds: Sequence[Any], name: str) -> Answers:
        """Put the folds' answers in the order of the rows.

        Parameters
        ----------
        parts : sequence of Answers
            Of each fold's test rows.
        folds : sequence of (train, test)
            Positions of the rows.
        name : str
            What the model is called, for the message.

        Returns
        -------
        Answers
            Of all rows.

        Raises
        ------
        DataError
            If the folds' estimators have learnt different classes.
        """
        first = parts[0]
        known: list[Any] = [getattr(part, "classes_", None) for part in parts]
        if any(not np.array_equal(classes, known[0]) for classes in known):
            raise DataError(
                f"{name}: not every fold's training rows have all classes. Use fewer folds, or a "
                "stratified splitter."
            )
        order = np.argsort(np.concatenate([test for _, test in folds]), kind="stable")
        answered = {
            method: np.concatenate([part.answered[method] for part in parts])[order]
            for method in first.answered
        }
        found = cls(answered, known[0], first.tags)
        found.asked = first.asked
        return found

    def __getattr__(self, name: str) -> Any:
        answered = self.__dict__.get("answered", {})
        if name not in answered:
            raise AttributeError(f"no answers by {name!r}")

        def method(rows: Any) -> np.ndarray:
            return answered[name][np.asarray(rows)]

        method.__name__ = name
        return method

    def __sklearn_tags__(self) -> Tags:
        return self.tags

    @property
    def first(self) -> np.ndarray:
        """What was asked for first: probabilities, values or risks."""
        return self.answered[self.asked[0]]


def answer_fold(
    estimator: Any, X: Any, y: Any, fold: tuple[Any, Any], scorers: Any, groups: Any = None
) -> Answers:
    """Fit on a fold's training rows and keep what a scorer asks of its test rows.

    Parameters
    ----------
    estimator : estimator
        A clone of it is fitted.
    X, y : object
        All rows.
    fold : (train, test)
        Positions.
    scorers : sequence of callable
        Each ``scorer(estimator, X, y)``.
    groups : array-like or None, default=None
        Patients of all rows, for a fit that takes them.

    Returns
    -------
    Answers
        Of the test rows.
    """
    train, test = fold
    own = None if groups is None else _safe_indexing(groups, train)
    rows = _safe_indexing(X, train), _safe_indexing(y, train)
    fitted = fit_with_groups(clone(estimator), *rows, own)
    listener = _Listener(fitted)
    with warnings.catch_warnings():
        # A single fold may lack an outcome; all together are scored later.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        asked = [_asked_by(scorer, listener, X, y, test) for scorer in scorers]
    answers = Answers(listener.answered, getattr(fitted, "classes_", None), get_tags(fitted))
    answers.asked = asked
    return answers


def _asked_by(scorer: Any, listener: _Listener, X: Any, y: Any, test: np.ndarray) -> str:
    """Let a scorer ask; return the first method that it asked for."""
    listener.asked.clear()
    try:
        scorer(listener, _safe_indexing(X, test), _safe_indexing(y, test))
    except ValueError:
        # A metric may refuse rows of one class, or of none with an event, of a single fold.
        if not listener.asked:
            raise
    if not listener.asked:
        raise ParameterError(f"scoring={scorer!r} asked the estimator for nothing that is known.")
    return listener.asked[0]


def average(members: Sequence[Answers]) -> Answers:
    """Average models' answers: a late vote.

    Parameters
    ----------
    members : sequence of Answers
        Of the same rows.

    Returns
    -------
    Answers
        Probabilities by the mean of their logits, anything else by its mean.

    Raises
    ------
    ParameterError
        If there are answers that have no mean.
    """
    answered = {}
    for method, first in members[0].answered.items():
        values = [member.answered.get(method, np.empty(0)) for member in members]
        classes = method == "predict" and hasattr(members[0], "classes_")
        if classes or any(v.dtype.kind != "f" or v.shape != first.shape for v in values):
            raise ParameterError(
                f"a late vote needs numbers to average, and the models answer by {method!r} with "
                "something else. Use a scorer of probabilities."
            )
        answered[method] = _mean_probability(values) if "proba" in method else np.mean(values, 0)
    found = Answers(answered, getattr(members[0], "classes_", None), members[0].tags)
    found.asked = members[0].asked
    return found


def by_row(answer: np.ndarray, rows: np.ndarray, n_rows: int) -> np.ndarray:
    """Bring answers into the order of all rows: means of several, NaN where there is none."""
    if np.array_equal(rows, np.arange(n_rows)):
        return answer
    if answer.dtype.kind != "f":
        raise ParameterError(
            "return_predictions: rows are tested several times or never, and answers that are no "
            "numbers have no mean. Use a splitter that tests each row once."
        )
    total = np.zeros((n_rows, *answer.shape[1:]))
    np.add.at(total, rows, answer)
    count = np.bincount(rows, minlength=n_rows).reshape(-1, *[1] * (answer.ndim - 1))
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _mean_probability(values: Sequence[np.ndarray]) -> np.ndarray:
    least = _LEAST_PROBABILITY
    mean = expit(np.mean([logit(np.clip(p, least, 1 - least)) for p in values], axis=0))
    if all(np.allclose(p.sum(axis=1), 1) for p in values):
        mean /= mean.sum(axis=1, keepdims=True)
    return mean


def _as_rows(answer: Any) -> np.ndarray:
    """An array with one entry or row per row; of forests' lists the probability of each label."""
    if isinstance(answer, list) and np.ndim(answer[0]) == 2:
        return np.column_stack([label[:, -1] for label in answer])
    if isinstance(answer, np.ndarray):
        return answer
    rows = list(answer)
    if all(np.isscalar(row) for row in rows):
        return np.asarray(rows)
    curves = np.empty(len(rows), dtype=object)
    curves[:] = rows
    return curves
