"""How well answers are ranked: recall among the first k, label ranking average precision."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import hypergeom
from sklearn.exceptions import UndefinedMetricWarning

from medfusion_sdk._alignment import check_aligned, check_same_columns
from medfusion_sdk.exceptions import DataError, ParameterError

__all__ = ["lrap", "recall_at_k"]


def recall_at_k(y_true: ArrayLike, y_score: ArrayLike, *, k: int = 5) -> float:
    """Share of queries with a relevant item among their k best: Recall@k of cross-modal retrieval.

    Where each query has one relevant item this is recall as elsewhere; where several are relevant,
    one of them among the k best is a hit. Of items with the same score none comes first: the
    query counts with the probability of a hit under a random order of theirs. Equal reports have
    equal embeddings, and a list that happened to keep the right one in front would look better
    than it is.

    Parameters
    ----------
    y_true : array-like of shape (n_queries, n_items)
        True or 1 where an item answers a query.
    y_score : array-like of shape (n_queries, n_items)
        Similarities, the higher the better. NaN where an item isn't a candidate: the query itself,
        an item without the modality asked for, one of another fold's gallery.
    k : int, default=5
        Number of items that are looked at.

    Returns
    -------
    float
        Mean over the queries that have a relevant candidate; NaN where none has.

    Warns
    -----
    UndefinedMetricWarning
        If queries are left out.

    See Also
    --------
    bootstrap_interval : Its interval; pass ``functools.partial(recall_at_k, k=10)``.

    Examples
    --------
    >>> from medfusion_sdk.metrics import recall_at_k
    >>> relevant = [[1, 0, 0], [0, 1, 0]]
    >>> recall_at_k(relevant, [[0.9, 0.1, 0.3], [0.5, 0.4, 0.8]], k=1)
    0.5
    >>> recall_at_k(relevant, [[0.9, 0.9, 0.3], [0.5, 0.4, 0.8]], k=1)  # half a chance, and none
    0.25
    """
    return _mean(partial(_recalls, k=k), y_true, y_score)


def lrap(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Label ranking average precision: of the items down to a relevant one, how many are relevant.

    The mean over each query's relevant items, then over queries;
    :func:`sklearn.metrics.label_ranking_average_precision_score` with two differences: an item may
    be no candidate, and a query without a relevant item is left out where scikit-learn counts it
    as perfect. Items of the same score share the worst of their ranks.

    Parameters
    ----------
    y_true : array-like of shape (n_queries, n_items)
        True or 1 where an item answers a query, such as one with a diagnosis in common.
    y_score : array-like of shape (n_queries, n_items)
        Similarities, the higher the better; NaN where an item isn't a candidate.

    Returns
    -------
    float
        Above 0, at most 1; NaN where no query has a relevant candidate.

    Warns
    -----
    UndefinedMetricWarning
        If queries are left out.

    Examples
    --------
    >>> from medfusion_sdk.metrics import lrap
    >>> round(lrap([[1, 0, 1]], [[0.9, 0.5, 0.1]]), 3)  # precision 1/1 and 2/3
    0.833
    """
    return _mean(_precisions, y_true, y_score)


def row_scores(metric: Callable[..., float]) -> Callable[[Any, Any], np.ndarray] | None:
    """Return what a metric is the mean of, NaN left out; None for a metric that is no such mean."""
    if isinstance(metric, partial):
        rows = row_scores(metric.func)
        return None if rows is None else partial(rows, *metric.args, **metric.keywords)
    if metric is recall_at_k:
        return _recalls
    return _precisions if metric is lrap else None


def _mean(rows: Callable[[Any, Any], np.ndarray], y_true: Any, y_score: Any) -> float:
    values = rows(y_true, y_score)
    defined = ~np.isnan(values)
    if not defined.all():
        warnings.warn(
            f"{int((~defined).sum())} of {len(values)} queries have no relevant candidate and are "
            "left out of the mean.",
            UndefinedMetricWarning,
            stacklevel=3,
        )
    return float(values[defined].mean()) if defined.any() else float("nan")


def _recalls(y_true: Any, y_score: Any, k: int = 5) -> np.ndarray:
    """Probability of a hit of each query, over orders of equal scores; NaN where undefined."""
    if not isinstance(k, int | np.integer) or k < 1:
        raise ParameterError(f"k={k!r}; a whole number of 1 or more is needed.")
    relevant, score = _checked(y_true, y_score)
    best = np.max(np.where(relevant, score, -np.inf), axis=1, initial=-np.inf)[:, None]
    above = (score > best).sum(axis=1)
    tied = score == best
    n_tied, n_right = tied.sum(axis=1), (tied & relevant).sum(axis=1)
    drawn = np.clip(k - above, 0, n_tied)
    hits = hypergeom.sf(0, np.maximum(n_tied, 1), n_right, drawn)
    return np.where(relevant.any(axis=1), hits, np.nan)


def _precisions(y_true: Any, y_score: Any) -> np.ndarray:
    """Average precision of each query; NaN where undefined."""
    relevant, score = _checked(y_true, y_score)
    precisions = np.full(len(score), np.nan)
    for i in np.flatnonzero(relevant.any(axis=1)):
        right = np.sort(score[i, relevant[i]])
        # Ranks from the end: how many are as good as this one, or better.
        among_right = len(right) - np.searchsorted(right, right)
        among_all = score.shape[1] - np.searchsorted(np.sort(score[i]), right)
        precisions[i] = np.mean(among_right / among_all)
    return precisions


def _checked(y_true: Any, y_score: Any) -> tuple[np.ndarray, np.ndarray]:
    """Relevance as bool and scores, minus infinity where an item isn't a candidate."""
    check_aligned(y_true=y_true, y_score=y_score)
    check_same_columns(y_true=y_true, y_score=y_score)
    relevant, score = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    if relevant.ndim != 2 or relevant.shape != score.shape:
        raise DataError(
            f"y_true has shape {relevant.shape} and y_score {score.shape}; both need one row per "
            "query and one column per item."
        )
    if not np.isin(relevant, (0, 1)).all():
        raise DataError("y_true says by 0 and 1 which items are relevant; other values were found.")
    if np.isinf(score).any():
        raise DataError("y_score has infinite entries; mark what isn't a candidate by NaN.")
    candidate = ~np.isnan(score)
    return relevant.astype(bool) & candidate, np.where(candidate, score, -np.inf)
