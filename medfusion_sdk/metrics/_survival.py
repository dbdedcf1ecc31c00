"""Scores of survival predictions at given times: dynamic AUC and Brier score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.metrics._censoring import inverse_censoring
from medfusion_sdk.metrics._concordance import check_outcome_and_risk
from medfusion_sdk.survival import SurvivalTimes, kaplan_meier
from medfusion_sdk.survival._concordance import TIED

__all__ = ["brier_score", "cumulative_dynamic_auc", "integrated_brier_score"]


def cumulative_dynamic_auc(
    y_train: Any, y_true: Any, risk: ArrayLike, times: ArrayLike
) -> tuple[np.ndarray, float]:
    """Area under the ROC curve of "had the event by then" against "not yet", at several times.

    Those who had the event weigh the inverse probability of still being followed then (Uno 2007,
    Hung and Chiang 2010).

    Parameters
    ----------
    y_train : structured array, DataFrame or array-like of shape (n_train, 2)
        Outcome from which the distribution of censoring is estimated.
    y_true : structured array, DataFrame or array-like of shape (n, 2)
        Outcome to score on.
    risk : array-like of shape (n,) or (n, n_times)
        The higher, the earlier the event is expected; two dimensions where it depends on time.
    times : array-like of shape (n_times,)
        Ascending, within the follow-up of `y_true`.

    Returns
    -------
    auc : ndarray of shape (n_times,)
        At each time; NaN where nobody had the event yet, or everybody.
    mean : float
        Their mean, each weighed by the drop in survival since the last time.

    Raises
    ------
    DataError
        If times aren't ascending or lie outside the follow-up.

    Examples
    --------
    >>> from medfusion_sdk.datasets import load_heart_failure
    >>> from medfusion_sdk.metrics import cumulative_dynamic_auc
    >>> X, y = load_heart_failure(return_X_y=True)
    >>> auc, mean = cumulative_dynamic_auc(y, y, X["serum_creatinine"], [30, 90, 180])
    >>> auc.round(3), round(mean, 3)
    (array([0.666, 0.667, 0.692]), 0.674)
    """
    check_aligned(y_true=y_true, risk=risk)
    times = _check_times(times, y_true)
    scores = np.asarray(risk, dtype=np.float64)
    if scores.ndim == 1:
        scores = np.broadcast_to(scores[:, None], (len(scores), len(times)))
    if scores.shape[1] != len(times):
        raise DataError(f"risk has {scores.shape[1]} columns for {len(times)} times.")
    y = SurvivalTimes.of(y_true)
    weight = np.zeros(len(y))
    early = y.event & (y.time <= times[-1])
    weight[early] = inverse_censoring(y_train, y.time[early])
    auc = np.array(
        [
            _auc(y, check_outcome_and_risk(y, scores[:, k])[1], weight, time)
            for k, time in enumerate(times)
        ]
    )
    drops = -np.diff(kaplan_meier(y)(times), prepend=1.0)
    # Before the first event there is no AUC, and no drop either.
    defined = ~np.isnan(auc) & (drops > 0)
    mean = np.average(auc[defined], weights=drops[defined]) if defined.any() else np.nan
    return auc, float(mean)


def brier_score(y_train: Any, y_true: Any, survival: ArrayLike, times: ArrayLike) -> np.ndarray:
    """Mean squared error of survival probabilities at several times (Graf et al. 1999).

    Parameters
    ----------
    y_train : structured array, DataFrame or array-like of shape (n_train, 2)
        Outcome from which the distribution of censoring is estimated.
    y_true : structured array, DataFrame or array-like of shape (n, 2)
        Outcome to score on.
    survival : array-like of shape (n, n_times)
        Predicted probability of no event up to each time.
    times : array-like of shape (n_times,)
        Ascending, within the follow-up of `y_true`.

    Returns
    -------
    ndarray of shape (n_times,)
        0 is perfect; always predicting one half gives 0.25.

    Raises
    ------
    DataError
        If shapes don't fit, or times aren't ascending or lie outside the follow-up.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk.datasets import load_heart_failure
    >>> from medfusion_sdk.metrics import brier_score
    >>> X, y = load_heart_failure(return_X_y=True)
    >>> brier_score(y, y, np.full((len(y), 2), 0.5), [30, 90]).round(3)
    array([0.25, 0.25])
    """
    check_aligned(y_true=y_true, survival=survival)
    times = _check_times(times, y_true)
    y, predicted = SurvivalTimes.of(y_true), np.asarray(survival, dtype=np.float64)
    if predicted.shape != (len(y), len(times)):
        raise DataError(
            f"survival has shape {predicted.shape}; {(len(y), len(times))} is needed: one "
            "probability per row and time."
        )
    weight = np.zeros(len(y))
    early = y.event & (y.time <= times[-1])
    weight[early] = inverse_censoring(y_train, y.time[early])
    had = (y.time[:, None] <= times) * weight[:, None]
    had_not = (y.time[:, None] > times) * inverse_censoring(y_train, times)
    return (had * predicted**2 + had_not * (1 - predicted) ** 2).mean(axis=0)


def integrated_brier_score(
    y_train: Any, y_true: Any, survival: ArrayLike, times: ArrayLike
) -> float:
    """Brier score averaged over time, by the trapezoid rule.

    Parameters
    ----------
    y_train, y_true, survival, times : array-like
        As in :func:`brier_score`, with two times at least.

    Returns
    -------
    float
        0 is perfect.

    Raises
    ------
    DataError
        As :func:`brier_score`, and for a single time.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk.datasets import load_heart_failure
    >>> from medfusion_sdk.metrics import integrated_brier_score
    >>> from medfusion_sdk.survival import kaplan_meier
    >>> X, y = load_heart_failure(return_X_y=True)
    >>> times = np.arange(10.0, 200.0, 10.0)
    >>> same_for_all = np.tile(kaplan_meier(y)(times), (len(y), 1))
    >>> round(integrated_brier_score(y, y, same_for_all, times), 3)
    0.171
    """
    scores, times = brier_score(y_train, y_true, survival, times), np.asarray(times, float)
    if len(times) < 2:
        raise DataError("integrated_brier_score needs two times at least to integrate between.")
    return float(trapezoid(scores, times) / (times[-1] - times[0]))


def _check_times(times: ArrayLike, y_true: Any) -> np.ndarray:
    found = np.atleast_1d(np.asarray(times, dtype=np.float64))
    followed = SurvivalTimes.of(y_true).time
    low, high = followed.min(), followed.max()
    if found.ndim != 1 or not len(found) or not (np.diff(found) > 0).all():
        raise DataError(f"times must be ascending and distinct, got {np.asarray(times).tolist()}.")
    if found[0] < low or found[-1] >= high:
        raise DataError(
            f"times from {found[0]:g} to {found[-1]:g} leave the follow-up of y_true, which goes "
            f"from {low:g} to {high:g}: before, nobody can have had the event; from the last on, "
            "nobody is left."
        )
    return found


def _auc(y: SurvivalTimes, risk: np.ndarray, weight: np.ndarray, time: float) -> float:
    had, had_not = y.event & (y.time <= time), y.time > time
    if not had.any() or not had_not.any():
        return np.nan
    others = np.sort(risk[had_not])
    # Lower risks are beaten, equal ones by one half.
    beaten = np.searchsorted(others, risk[had] - TIED, side="left")
    reached = np.searchsorted(others, risk[had] + TIED, side="right")
    wins = weight[had] @ (beaten + reached) / 2
    return float(wins / (weight[had].sum() * len(others)))
