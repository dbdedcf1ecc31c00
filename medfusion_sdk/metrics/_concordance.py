"""Concordance of risks and survival times: Harrell's index, and Uno's for censored follow-up."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_consistent_length

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.estimators._groups import group_codes
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.metrics._censoring import inverse_censoring
from medfusion_sdk.survival import SurvivalTimes, concordance

__all__ = ["concordance_index", "concordance_index_ipcw"]


def concordance_index(y_true: Any, risk: ArrayLike, *, strata: ArrayLike | None = None) -> float:
    """Share of comparable pairs in which the higher risk had the event first (Harrell 1982).

    A pair is comparable where the earlier time is an event, or where of two equal times exactly
    one is. Tied risks count one half.

    Parameters
    ----------
    y_true : structured array, DataFrame or array-like of shape (n, 2)
        Event and time, in any form that :class:`~medfusion_sdk.survival.SurvivalTimes` reads.
    risk : array-like of shape (n,)
        The higher, the earlier the event is expected; only the order counts.
    strata : array-like of shape (n,), default=None
        Compare within these groups only: sites, or the folds that scores come from, whose risks
        needn't share a scale.

    Returns
    -------
    float
        0.5 for chance, 1 for a perfect order; NaN where no pair is comparable.

    Warns
    -----
    UndefinedMetricWarning
        If no pair is comparable.

    Examples
    --------
    >>> from medfusion_sdk.metrics import concordance_index
    >>> from medfusion_sdk.survival import survival_target
    >>> y = survival_target(event=[1, 1, 0, 1], time=[2, 4, 5, 9])
    >>> concordance_index(y, [3.0, 1.0, 2.0, 0.5])
    0.8
    """
    check_aligned(y_true=y_true, risk=risk, strata=strata)
    y, risk = check_outcome_and_risk(y_true, risk)
    stratum = None if strata is None else group_codes(strata, len(y))
    return _told(concordance(y, risk, stratum=stratum))


def concordance_index_ipcw(
    y_train: Any, y_true: Any, risk: ArrayLike, *, tau: float | None = None
) -> float:
    """Concordance that doesn't depend on who was censored when (Uno et al. 2011).

    Each pair weighs the inverse squared probability of still being followed at the event.

    Parameters
    ----------
    y_train : structured array, DataFrame or array-like of shape (n_train, 2)
        Outcome from which the distribution of censoring is estimated.
    y_true : structured array, DataFrame or array-like of shape (n, 2)
        Outcome to score on.
    risk : array-like of shape (n,)
        The higher, the earlier the event is expected.
    tau : float, default=None
        Events from this time on aren't counted; needed where hardly anyone is followed so long.

    Returns
    -------
    float
        0.5 for chance, 1 for a perfect order; NaN where no pair is comparable.

    Raises
    ------
    DataError
        If an event happens when no training row is followed any more.

    Examples
    --------
    >>> from medfusion_sdk.datasets import load_heart_failure
    >>> from medfusion_sdk.metrics import concordance_index_ipcw
    >>> X, y = load_heart_failure(return_X_y=True)
    >>> round(concordance_index_ipcw(y, y, X["serum_creatinine"], tau=200), 3)
    0.685
    """
    y, risk = check_outcome_and_risk(y_true, risk)
    counted = y.event if tau is None else y.event & (y.time < tau)
    weight = np.zeros(len(y))
    weight[counted] = inverse_censoring(y_train, y.time[counted]) ** 2
    return _told(concordance(y, risk, weight=weight))


def _told(value: float) -> float:
    """Warn of a value that isn't defined."""
    if np.isnan(value):
        warnings.warn(
            "no pair of rows is comparable: nobody had the event before another one left.",
            UndefinedMetricWarning,
            stacklevel=3,
        )
    return value


def check_outcome_and_risk(y_true: Any, risk: ArrayLike) -> tuple[SurvivalTimes, np.ndarray]:
    """Read an outcome and one finite risk for each of its rows."""
    check_aligned(y_true=y_true, risk=risk)
    y, scores = SurvivalTimes.of(y_true), np.asarray(risk, dtype=np.float64)
    check_consistent_length(y.time, scores)
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise DataError(
            f"risk has shape {scores.shape} and {np.sum(~np.isfinite(scores))} entries that aren't "
            "finite; one finite number per row is needed."
        )
    return y, scores
