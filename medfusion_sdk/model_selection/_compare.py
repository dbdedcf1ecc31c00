"""Models compared on the same folds: scores, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from sklearn.metrics import get_scorer
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils import get_tags
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _num_samples

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.metrics import (
    SurvivalScorer,
    concordance_index,
    macro_auroc,
    macro_auroc_scorer,
)
from medfusion_sdk.metrics._bootstrap import interval_table
from medfusion_sdk.metrics._resampling import Resamples
from medfusion_sdk.model_selection._answers import Answers, answer_fold, average
from medfusion_sdk.model_selection._event_folds import EventStratifiedKFold
from medfusion_sdk.model_selection._folds import MultilabelStratifiedGroupKFold
from medfusion_sdk.model_selection._partition import partition

__all__ = ["compare"]

# What y is scored by where nothing else is asked for.
_SCORING: Mapping[str, Any] = {
    "classes": macro_auroc_scorer,
    "values": "r2",
    "survival": SurvivalScorer("concordance"),
}


def compare(
    estimators: Mapping[str, Any] | Sequence[Any],
    X: Any,
    y: Any,
    *,
    scoring: str | Callable[..., float] | None = None,
    cv: Any = 5,
    groups: ArrayLike | None = None,
    reference: str | None = None,
    n_jobs: int | None = None,
    return_predictions: bool = False,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | None = None,
) -> Any:
    """Compare models on the same folds, with intervals over patients.

    Each model is fitted on each fold's training rows and answers for its test rows. The answers to
    all rows are scored together, and again on resamples of the patients, the same ones for every
    model; so a difference between two models has an interval of its own.

    Parameters
    ----------
    estimators : mapping of str to estimator, or sequence of estimators
        What is compared: classifiers, regressors or estimators of survival, pipelines too. In
        place of an estimator a list of names is a late vote of those: the mean of their logits,
        or of their values. A sequence is named by its classes.
    X : DataFrame or array of n_samples rows
        What they read.
    y : array-like of n_samples rows
        Classes, 0/1 labels, numbers, or a survival outcome.
    scoring : str, callable or None, default=None
        Name of one of scikit-learn's scorers, or any ``scorer(estimator, X, y)``, the greater the
        better. None is :func:`~medfusion_sdk.metrics.macro_auroc` for classes and labels, R2 for
        numbers, the concordance index for survival.
    cv : int, splitter or iterable, default=5
        As in scikit-learn, each row tested once. A number of folds stratifies by classes, labels
        or events, and keeps groups together where there are any.
    groups : array-like of shape (n_samples,), default=None
        Patient of each row, for splitting, for the intervals, and for models whose fit takes
        them, also in a pipeline or a search. No fold may have one on both sides.
    reference : str, default=None
        Name of the model that the others are compared with.
    n_jobs : int, default=None
        Fits at once, as in scikit-learn.
    return_predictions : bool, default=False
        Whether to return the out-of-fold answers too.
    n_resamples : int, default=1000
        Bootstrap resamples of patients.
    confidence_level : float, default=0.95
        Between 0 and 1.
    random_state : int or None, default=None
        Seed of the resamples. Models have seeds of their own.

    Returns
    -------
    table : DataFrame
        Indexed by ``model``, as :func:`~medfusion_sdk.metrics.score_table` has it: ``score``,
        ``low``, ``high``; with a reference ``difference``, ``difference_low`` and
        ``difference_high``.
    predictions : dict of str to ndarray
        With ``return_predictions=True``: what the scorer asked each model for, row by row.

    Raises
    ------
    DataError
        If a patient is on both sides of a fold, or folds' training rows lack a class.
    ParameterError
        If `reference` or a member of a late vote is none of the models, or `cv` doesn't test
        each row once.

    See Also
    --------
    modality_baselines : Simple models that belong into the comparison.
    medfusion_sdk.inspection.ComparisonDisplay : Draws the table.

    Notes
    -----
    Intervals hold for the models as they were fitted; other training sets would move the scores by
    more. Concordance compares risks within folds, since the folds' models needn't share a scale;
    other scorers see the answers of all folds at once.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from medfusion_sdk.model_selection import compare
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> models = {"prior": DummyClassifier(), "Bayes": GaussianNB()}
    >>> compare(models, X, y, reference="prior", random_state=0)["difference"].round(1)
    model
    prior    NaN
    Bayes    0.5
    Name: difference, dtype: float64
    """
    models = _named(estimators)
    _check_names(models, reference)
    kind = _kind(models, y)
    scorer = _SCORING[kind] if scoring is None else scoring
    scorer = get_scorer(scorer) if isinstance(scorer, str) else scorer
    folds = partition(_splitter(cv, kind, groups), X, y, groups, classifier=kind == "classes")
    answers = _answers(models, X, y, folds, scorer, n_jobs, groups)
    fold = np.empty(_num_samples(X), dtype=int)
    for number, (_, test) in enumerate(folds):
        fold[test] = number
    resamples = Resamples(len(fold), groups, n_resamples, confidence_level, random_state)
    estimates, values = {}, {}
    for name, answer in answers.items():
        metric, score = _metric(scorer, answer, fold)
        estimates[name] = float(metric(y, score))
        values[name] = resamples.values(metric, y, score)
    table = interval_table(resamples, estimates, values, reference)
    if return_predictions:
        return table, {name: answer.first for name, answer in answers.items()}
    return table


def _named(estimators: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    if isinstance(estimators, Mapping):
        return dict(estimators)
    names = [type(estimator).__name__ for estimator in estimators]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ParameterError(f"two of the estimators are called {twice[0]}: name them by a dict.")
    return dict(zip(names, estimators, strict=True))


def _check_names(models: Mapping[str, Any], reference: str | None) -> None:
    if not any(not _is_vote(model) for model in models.values()):
        raise ParameterError("there is no estimator to compare.")
    if reference is not None and reference not in models:
        raise ParameterError(f"reference={reference!r} is none of the models {list(models)}.")
    for name, members in models.items():
        if not _is_vote(members):
            continue
        unknown = [m for m in members if m not in models or _is_vote(models[m])]
        if unknown or not members:
            raise ParameterError(
                f"{name!r} is the late vote of {list(members)}; no estimators are {unknown}."
            )


def _is_vote(model: Any) -> bool:
    return isinstance(model, list | tuple)


def _kind(models: Mapping[str, Any], y: Any) -> str:
    types = {get_tags(m).estimator_type for m in models.values() if not _is_vote(m)}
    for kind, known in (
        ("survival", "survival"),
        ("classifier", "classes"),
        ("regressor", "values"),
    ):
        if kind in types:
            return known
    return "values" if type_of_target(y).startswith("continuous") else "classes"


def _splitter(cv: Any, kind: str, groups: Any) -> Any:
    if not isinstance(cv, Integral):
        return cv
    n_splits = int(cv)
    if kind == "survival":
        return EventStratifiedKFold(n_splits)
    if groups is not None:
        return (
            MultilabelStratifiedGroupKFold(n_splits) if kind == "classes" else GroupKFold(n_splits)
        )
    return KFold(n_splits) if kind == "values" else n_splits


def _answers(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    folds: list[Any],
    scorer: Any,
    n_jobs: int | None,
    groups: Any,
) -> dict[str, Answers]:
    fitted = {name: model for name, model in models.items() if not _is_vote(model)}
    parts = iter(
        Parallel(n_jobs=n_jobs)(
            delayed(answer_fold)(model, X, y, fold, scorer, groups)
            for model in fitted.values()
            for fold in folds
        )
    )
    own = {name: Answers.gathered([next(parts) for _ in folds], folds, name) for name in fitted}
    return {
        name: average([own[member] for member in model]) if _is_vote(model) else own[name]
        for name, model in models.items()
    }


def _metric(scorer: Any, answers: Answers, fold: np.ndarray) -> tuple[Any, Any]:
    """A metric of y and one score per row, whichever of these can be resampled quickest."""
    if scorer is macro_auroc_scorer:
        return macro_auroc, answers.first
    if isinstance(scorer, SurvivalScorer) and scorer.metric == "concordance":
        return _concordance_within, np.column_stack([answers.first, fold])
    return partial(_rescore, scorer, answers), np.arange(len(fold))


def _rescore(scorer: Any, answers: Answers, y: Any, rows: np.ndarray) -> float:
    return scorer(answers, rows, y)


def _concordance_within(y: Any, risk_and_fold: np.ndarray) -> float:
    return concordance_index(y, risk_and_fold[:, 0], strata=risk_and_fold[:, 1])
