"""Censored times: outcomes in every common form, Kaplan-Meier, baseline hazard, step functions."""

from __future__ import annotations

from medfusion_sdk.survival._concordance import concordance
from medfusion_sdk.survival._curves import (
    BaselineHazard,
    StepFunction,
    censoring_curve,
    kaplan_meier,
)
from medfusion_sdk.survival._times import SurvivalTimes, survival_target

__all__ = [
    "BaselineHazard",
    "StepFunction",
    "SurvivalTimes",
    "censoring_curve",
    "concordance",
    "kaplan_meier",
    "survival_target",
]
