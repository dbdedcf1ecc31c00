"""Models compared on the same folds: scores, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _num_samples

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.estimators._groups import group_codes
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.metrics._bootstrap import interval_table
from medfusion_sdk.metrics._resampling import Resamples
from medfusion_sdk.model_selection._answers import Answers, answer_fold, average, by_row
from medfusion_sdk.model_selection._event_folds import EventStratifiedKFold
from medfusion_sdk.model_selection._folds import MultilabelStratifiedGroupKFold
from medfusion_sdk.model_selection._partition import partition
from medfusion_sdk.model_selection._scoring import combined_metric, named_scorers

__all__ = ["compare"]


def compare(
    estimators: Mapping[str, Any] | Sequence[Any],
    X: Any,
    y: Any,
    *,
    scoring: Any = None,
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
    scoring : str, callable, sequence or mapping of these, or None, default=None
        Name of one of scikit-learn's scorers, or any ``scorer(estimator, X, y)``, the greater the
        better. None is :func:`~medfusion_sdk.metrics.macro_auroc` for classes and labels, R2 for
        numbers, the concordance index for survival. Several make one table each.
    cv : int, splitter, iterable or pair, default=5
        As in scikit-learn. A number of folds stratifies by classes, labels or events, and keeps
        groups together where there are any. Any splitter or list of splits will do, repeated or
        in the order of time; a tuple of training and test rows is a single split. A row that is
        tested several times counts as often, and is resampled as one patient.
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
        ``difference_high``. With several scorers indexed by ``metric`` before.
    predictions : dict of str to ndarray
        With ``return_predictions=True``: what the (first) scorer asked each model for, row by row;
        the mean where a row was tested several times, NaN where never.

    Raises
    ------
    DataError
        If a patient or a row is on both sides of a fold, folds' training rows lack a class, labels
        of X, y and groups are in different orders, or no score is defined.
    ParameterError
        If `reference` or a member of a late vote is none of the models, or a split has no rows.

    See Also
    --------
    modality_baselines : Simple models that belong into the comparison.
    medfusion_sdk.inspection.ComparisonDisplay : Draws the table.

    Notes
    -----
    Intervals hold for the models as they were fitted; other training sets would move the scores by
    more. Folds' models needn't share a scale, so what scores an order counts within folds: macro
    AUROC and concordance compare pairs of one fold; scikit-learn's AUROC and average precision,
    Uno's concordance and dynamic AUC are means over folds. Other scorers see all answers at once.

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
    check_aligned(X=X, y=y, groups=groups)
    models = _named(estimators)
    _check_names(models, reference)
    kind = _kind(models, y)
    scorers = named_scorers(scoring, kind)
    splitter = _splitter(cv, kind, groups, y)
    once = isinstance(cv, Integral)
    folds = partition(splitter, X, y, groups, classifier=kind == "classes", once=once)
    answers = _answers(models, X, y, folds, list(scorers.values()), n_jobs, groups)
    tests = np.concatenate([test for _, test in folds])
    order = np.argsort(tests, kind="stable")
    rows = tests[order]
    fold = np.repeat(np.arange(len(folds)), [len(test) for _, test in folds])[order]
    tested = y if np.array_equal(rows, np.arange(_num_samples(X))) else _safe_indexing(y, rows)
    patients = group_codes(rows if groups is None else _safe_indexing(groups, rows), len(rows))
    tables = {}
    for place, (name, scorer) in enumerate(scorers.items()):
        options = n_resamples, confidence_level, random_state
        resamples = Resamples(len(rows), patients, *options)
        metrics = {
            model: combined_metric(scorer, place, answer, fold) for model, answer in answers.items()
        }
        tables[name] = _table(resamples, metrics, tested, reference)
    several = isinstance(scoring, Mapping | list | tuple | set)
    table = pd.concat(tables, names=["metric"]) if several else tables[next(iter(tables))]
    if return_predictions:
        n_rows = _num_samples(X)
        return table, {name: by_row(answer.first, rows, n_rows) for name, answer in answers.items()}
    return table


def _table(
    resamples: Resamples, metrics: Mapping[str, Any], y: Any, reference: str | None
) -> pd.DataFrame:
    """Scores of the models by one scorer, from each one's metric, scores and strata."""
    estimates, values = {}, {}
    for name, (metric, score, strata) in metrics.items():
        whole = metric if strata is None else partial(metric, strata=strata)
        estimates[name] = float(whole(y, score))
        values[name] = resamples.values(metric, y, score, strata=strata)
    return interval_table(resamples, estimates, values, reference)


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


def _splitter(cv: Any, kind: str, groups: Any, y: Any) -> Any:
    if not isinstance(cv, Integral):
        return cv
    n_splits = int(cv)
    if kind == "survival":
        return EventStratifiedKFold(n_splits)
    if groups is not None:
        return (
            MultilabelStratifiedGroupKFold(n_splits) if kind == "classes" else GroupKFold(n_splits)
        )
    if kind == "classes" and type_of_target(y) == "multilabel-indicator":
        return MultilabelStratifiedGroupKFold(n_splits)
    return KFold(n_splits) if kind == "values" else n_splits


def _answers(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    folds: list[Any],
    scorers: list[Any],
    n_jobs: int | None,
    groups: Any,
) -> dict[str, Answers]:
    fitted = {name: model for name, model in models.items() if not _is_vote(model)}
    parts = iter(
        Parallel(n_jobs=n_jobs)(
            delayed(answer_fold)(model, X, y, fold, scorers, groups)
            for model in fitted.values()
            for fold in folds
        )
    )
    own = {name: Answers.gathered([next(parts) for _ in folds], folds, name) for name in fitted}
    return {
        name: average([own[member] for member in model]) if _is_vote(model) else own[name]
        for name, model in models.items()
    }
