"""What models are compared by: scorers by name, and answers of several folds scored together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, get_scorer, roc_auc_score
from sklearn.utils import _safe_indexing

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.metrics import (
    SurvivalScorer,
    concordance_index,
    macro_auroc,
    macro_auroc_scorer,
)
from medfusion_sdk.model_selection._answers import Answers

__all__ = ["combined_metric", "named_scorers"]

# What y is scored by where nothing else is asked for.
_SCORING: Mapping[str, Any] = {
    "classes": macro_auroc_scorer,
    "values": "r2",
    "survival": SurvivalScorer("concordance"),
}
# Scores of an order, which mean something only among answers on one scale.
_OF_ORDER = (roc_auc_score, average_precision_score)


def named_scorers(scoring: Any, kind: str) -> dict[str, Callable[..., float]]:
    """Return scorers by name, as ``scoring`` of :func:`compare` gives them."""
    scoring = _SCORING[kind] if scoring is None else scoring
    if not isinstance(scoring, Mapping | list | tuple | set):
        scoring = [scoring]
    if not scoring:
        raise ParameterError("scoring is empty; name one scorer at least.")
    if isinstance(scoring, Mapping):
        return {name: _scorer(one) for name, one in scoring.items()}
    ordered = sorted(scoring, key=str) if isinstance(scoring, set) else scoring
    return {_name(one): _scorer(one) for one in ordered}


def _name(scorer: Any) -> str:
    return scorer if isinstance(scorer, str) else getattr(scorer, "__name__", repr(scorer))


def _scorer(scorer: Any) -> Any:
    return get_scorer(scorer) if isinstance(scorer, str) else scorer


def combined_metric(
    scorer: Any, place: int, answers: Answers, fold: np.ndarray
) -> tuple[Any, Any, np.ndarray | None]:
    """A metric of y and one score per row, whichever can be resampled quickest, and its strata.

    `place` is the scorer's among all of them, `fold` the fold that each row was answered in.
    """
    if scorer is macro_auroc_scorer:
        return macro_auroc, answers.answered[answers.asked[place]], fold
    if isinstance(scorer, SurvivalScorer) and scorer.metric == "concordance":
        risk = answers.answered[answers.asked[place]]
        return _concordance_within, np.column_stack([risk, fold]), None
    of_order = getattr(scorer, "_score_func", None) in _OF_ORDER
    if of_order or (isinstance(scorer, SurvivalScorer) and scorer.metric in ("ipcw", "auc")):
        return partial(_mean_over_folds, scorer, answers, fold), np.arange(len(fold)), None
    return partial(_rescore, scorer, answers), np.arange(len(fold)), None


def _rescore(scorer: Any, answers: Answers, y: Any, rows: np.ndarray) -> float:
    return scorer(answers, rows, y)


def _mean_over_folds(
    scorer: Any, answers: Answers, fold: np.ndarray, y: Any, rows: np.ndarray
) -> float:
    """Mean of the folds' scores, each by its number of rows; a fold that can't be scored is out."""
    scores, sizes = [], []
    for number in np.unique(fold):
        own = np.flatnonzero(fold[rows] == number)
        if not len(own):
            continue
        try:
            score = scorer(answers, rows[own], _safe_indexing(y, own))
        except ValueError:
            continue
        if not np.isnan(score):
            scores.append(score)
            sizes.append(len(own))
    return float(np.average(scores, weights=sizes)) if scores else float("nan")


def _concordance_within(y: Any, risk_and_fold: np.ndarray) -> float:
    return concordance_index(y, risk_and_fold[:, 0], strata=risk_and_fold[:, 1])
