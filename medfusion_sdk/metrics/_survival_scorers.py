"""Survival scores for scikit-learn's ``scoring=``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.metrics._concordance import concordance_index, concordance_index_ipcw
from medfusion_sdk.metrics._survival import cumulative_dynamic_auc, integrated_brier_score
from medfusion_sdk.survival import SurvivalTimes
from medfusion_sdk.survival._wrapped import curve_method

__all__ = ["SurvivalScorer"]

_METRICS = ("concordance", "ipcw", "auc", "neg_brier")
# Where scores are taken by default: where there are events before and patients after.
_FROM, _TO, _N_TIMES = 10, 80, 15


class SurvivalScorer:
    """Scorer for ``GridSearchCV``, ``cross_validate`` and their like.

    Parameters
    ----------
    metric : {"concordance", "ipcw", "auc", "neg_brier"}, default="ipcw"
        :func:`concordance_index`, :func:`concordance_index_ipcw`, the mean of
        :func:`cumulative_dynamic_auc`, or minus :func:`integrated_brier_score`. The first three
        ask the estimator for ``predict`` (a risk), the last for ``predict_survival_function``.
    y_train : structured array, DataFrame or array-like of shape (n, 2), default=None
        Outcome from which the distribution of censoring is estimated, such as that of the whole
        cohort. By default that of the rows that are scored, as Uno et al. do.
    tau : float, default=None
        For "ipcw": events from this time on aren't counted. By default the end of follow-up of
        the rows that are scored.
    times : array-like of shape (n_times,), default=None
        For "auc" and "neg_brier". By default 15 quantiles, from 10 % to 80 %, of the times of
        events among the rows that are scored, as far as the estimator's curves go; or 15 even
        steps of their follow-up, where events leave too few times.

    See Also
    --------
    macro_auroc_scorer : The same for classifiers.

    Examples
    --------
    >>> from medfusion_sdk.metrics import SurvivalScorer
    >>> scoring = {name: SurvivalScorer(name) for name in ("ipcw", "auc", "neg_brier")}
    >>> scoring["neg_brier"]
    SurvivalScorer('neg_brier')
    """

    def __init__(
        self,
        metric: str = "ipcw",
        *,
        y_train: Any = None,
        tau: float | None = None,
        times: ArrayLike | None = None,
    ) -> None:
        if metric not in _METRICS:
            raise ParameterError(f"metric={metric!r}; known are {_METRICS}.")
        self.metric = metric
        self.y_train = y_train
        self.tau = tau
        self.times = times

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : survival estimator
            Fitted; its ``predict`` returns risks, as all here and scikit-survival's do.
        X : array-like or DataFrame
            Rows to score on.
        y : structured array, DataFrame or array-like of shape (n, 2)
            Their outcome.

        Returns
        -------
        float
            The greater the better; NaN where the rows can't tell.
        """
        check_aligned(X=X, y=y)
        y = SurvivalTimes.of(y)
        y_train = y if self.y_train is None else self.y_train
        if self.metric == "neg_brier":
            curves = curve_method(estimator, "predict_survival_function")(X)
            times = self._times(y, 2, min(curve.domain[1] for curve in curves))
            if not len(times):
                return np.nan
            survival = np.stack([curve(times) for curve in curves])
            return -integrated_brier_score(y_train, y, survival, times)
        risk = estimator.predict(X)
        if self.metric == "auc":
            times = self._times(y, 1)
            return cumulative_dynamic_auc(y_train, y, risk, times)[1] if len(times) else np.nan
        if self.metric == "ipcw":
            tau = float(y.time.max()) if self.tau is None else self.tau
            return concordance_index_ipcw(y_train, y, risk, tau=tau)
        return concordance_index(y, risk)

    def _times(self, y: SurvivalTimes, least: int, last: float = np.inf) -> np.ndarray:
        """Where to score; nowhere if all were followed equally long, or longer than to `last`."""
        if self.times is not None:
            return np.asarray(self.times, dtype=np.float64)
        start, end = y.time.min(), y.time.max()
        happened = y.time[y.event] if y.event.any() else y.time
        found = np.unique(np.percentile(happened, np.linspace(_FROM, _TO, _N_TIMES)))
        found = found[(found < end) & (found <= last)]
        if len(found) >= least:
            return found
        even = np.linspace(start, min(end, last), _N_TIMES, endpoint=False)
        return even if start < even[-1] else even[:0]

    def __repr__(self) -> str:
        return f"SurvivalScorer({self.metric!r})"
