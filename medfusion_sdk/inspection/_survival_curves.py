"""Kaplan-Meier with bands, and log-rank: by lifelines, which only the displays need."""

from __future__ import annotations

from typing import Any

import numpy as np

from medfusion_sdk.exceptions import MissingDependencyError
from medfusion_sdk.survival import SurvivalTimes

__all__ = ["banded_kaplan_meier", "log_rank_p"]


def banded_kaplan_meier(y: SurvivalTimes, confidence_level: float) -> dict[str, np.ndarray]:
    """Times from zero on, survival, and its pointwise band (log-log transformed Greenwood)."""
    fitted = _lifelines().KaplanMeierFitter(alpha=1 - confidence_level).fit(y.time, y.event)
    band = fitted.confidence_interval_.to_numpy()
    return {
        "time": fitted.survival_function_.index.to_numpy(dtype=np.float64),
        "survival": fitted.survival_function_.to_numpy()[:, 0],
        "low": band[:, 0],
        "high": band[:, 1],
    }


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
