"""Splitting by patient, and what a representation is worth with few labels."""

from __future__ import annotations

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
    "few_shot_table",
]
