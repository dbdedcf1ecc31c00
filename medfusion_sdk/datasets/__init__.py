"""Real data, carried by the package or read from a folder, and generated cohorts."""

from __future__ import annotations

from medfusion_sdk.datasets._cohort import make_multimodal_cohort
from medfusion_sdk.datasets._heart_failure import load_heart_failure
from medfusion_sdk.datasets._icu_cohort import make_icu_cohort
from medfusion_sdk.datasets._mi_complications import load_mi_complications
from medfusion_sdk.datasets._physionet2012 import load_physionet2012
from medfusion_sdk.datasets._ptbxl import load_ptbxl
from medfusion_sdk.datasets._tcga import load_tcga

__all__ = [
    "load_heart_failure",
    "load_mi_complications",
    "load_physionet2012",
    "load_ptbxl",
    "load_tcga",
    "make_icu_cohort",
    "make_multimodal_cohort",
]
