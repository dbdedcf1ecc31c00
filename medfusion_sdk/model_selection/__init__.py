"""Splitting by patient, models on the same folds, representations with few labels."""

from __future__ import annotations

from medfusion_sdk.model_selection._baselines import modality_baselines
from medfusion_sdk.model_selection._compare import compare
from medfusion_sdk.model_selection._event_folds import EventStratifiedKFold
from medfusion_sdk.model_selection._few_shot import few_shot_table
from medfusion_sdk.model_selection._folds import (
    MultilabelStratifiedGroupKFold,
    check_disjoint_groups,
)

__all__ = [
    "EventStratifiedKFold",
    "MultilabelStratifiedGroupKFold",
    "check_disjoint_groups",
    "compare",
    "few_shot_table",
    "modality_baselines",
]
