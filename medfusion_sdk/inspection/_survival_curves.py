"""Kaplan-Meier with bands, and log-rank: by lifelines, which only the displays need."""

from __future__ import annotations

from typing import Any

import numpy as np

from medfusion_sdk.exceptions import MissingDependencyError
from medfusion_sdk.metrics._exact import exact_interval
from medfusion_sdk.survival import SurvivalTimes

__all__ = ["banded_kaplan_meier", "log_rank_p", "survival_at"]


def banded_kaplan_meier(y: SurvivalTimes, confidence_level: float) -> dict[str, np.ndarray]:
    """Times from zero on, survival, and its pointwise band (log-log transformed Greenwood).

    With how many are at risk just before each time, and how many are censored at it.

    Where nobody has had the event yet, or everybody, Greenwood's variance is zero and says nothing:
    there the band is the exact binomial one, of the patients still at risk or of the events.
    """
    fitted = _lifelines().KaplanMeierFitter(alpha=1 - confidence_level).fit(y.time, y.event)
    band = fitted.confidence_interval_.to_numpy()
    time = fitted.survival_function_.index.to_numpy(dtype=np.float64)
    survival = fitted.survival_function_.to_numpy()[:, 0]
    counts = fitted.event_table.loc[fitted.survival_function_.index, ["at_risk", "censored"]]
    low, high = band[:, 0].copy(), band[:, 1].copy()
    for place in np.flatnonzero((survival == 1) | (survival == 0)):
        low[place], high[place] = _exact_band(y, time[place], survival[place], confidence_level)
    curve = {"time": time, "survival": survival, "low": low}
    curve["high"] = np.minimum.accumulate(high)
    return curve | {name: counts[name].to_numpy(dtype=int) for name in counts}


def survival_at(
    y: SurvivalTimes, horizon: float, confidence_level: float
) -> tuple[float, float, float]:
    """Kaplan-Meier survival at a time within the follow-up, and its interval's bounds."""
    curve = banded_kaplan_meier(y, confidence_level)
    last = int(np.searchsorted(curve["time"], horizon, side="right")) - 1
    survival = float(curve["survival"][last])
    if survival == 1:
        return survival, *_exact_band(y, horizon, survival, confidence_level)
    return survival, float(curve["low"][last]), float(curve["high"][last])


def _exact_band(
    y: SurvivalTimes, time: float, survival: float, confidence_level: float
) -> tuple[float, float]:
    if survival == 1:
        followed = int((y.time >= time).sum())
        return exact_interval(followed, followed, confidence_level)
    return exact_interval(0, int(y.event.sum()), confidence_level)


def log_rank_p(y: SurvivalTimes, group: np.ndarray) -> float:
    """Probability of curves so different if all groups had the same hazard."""
    test = _lifelines().statistics.multivariate_logrank_test
    return float(test(y.time, group, y.event).p_value)


def _lifelines() -> Any:
    try:
        import lifelines
        import lifelines.statistics
    except ImportError as error:
        raise MissingDependencyError(
            "survival displays need lifelines: pip install medfusion-sdk[survival]."
        ) from error
    return lifelines
