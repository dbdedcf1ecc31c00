"""Scores, and how sure of them one may be: intervals over patients, paired differences."""

from __future__ import annotations

from medfusion_sdk.metrics._auroc import macro_auroc, macro_auroc_scorer
from medfusion_sdk.metrics._bootstrap import bootstrap_interval, paired_difference, score_table
from medfusion_sdk.metrics._concordance import concordance_index, concordance_index_ipcw
from medfusion_sdk.metrics._coverage import coverage_table
from medfusion_sdk.metrics._resampling import Interval
from medfusion_sdk.metrics._retrieval import lrap, recall_at_k
from medfusion_sdk.metrics._survival import (
    brier_score,
    cumulative_dynamic_auc,
    integrated_brier_score,
)
from medfusion_sdk.metrics._survival_scorers import SurvivalScorer

__all__ = [
    "Interval",
    "SurvivalScorer",
    "bootstrap_interval",
    "brier_score",
    "concordance_index",
    "concordance_index_ipcw",
    "coverage_table",
    "cumulative_dynamic_auc",
    "integrated_brier_score",
    "lrap",
    "macro_auroc",
    "macro_auroc_scorer",
    "paired_difference",
    "recall_at_k",
    "score_table",
]
