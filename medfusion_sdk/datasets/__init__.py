"""Real data that the package carries, and generated cohorts whose optimum is known."""

from __future__ import annotations

from medfusion_sdk.datasets._cohort import make_multimodal_cohort
from medfusion_sdk.datasets._heart_failure import load_heart_failure
from medfusion_sdk.datasets._ptbxl import load_ptbxl

__all__ = ["load_heart_failure", "load_ptbxl", "make_multimodal_cohort"]
