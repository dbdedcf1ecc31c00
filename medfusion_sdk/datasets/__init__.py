"""Real data, carried by the package or read from a folder, and generated cohorts."""

from __future__ import annotations

from medfusion_sdk.datasets._adrenal import load_adrenal
from medfusion_sdk.datasets._cohort import make_multimodal_cohort
from medfusion_sdk.datasets._heart_failure import load_heart_failure
from medfusion_sdk.datasets._icu_cohort import make_icu_cohort
from medfusion_sdk.datasets._mi_complications import load_mi_complications
from medfusion_sdk.datasets._nifti_cohort import load_nifti_cohort
from medfusion_sdk.datasets._physionet2012 import load_physionet2012
from medfusion_sdk.datasets._ptbxl import load_ptbxl
from medfusion_sdk.datasets._tcga import load_tcga
from medfusion_sdk.datasets._volume_cohort import make_volume_cohort
from medfusion_sdk.datasets._vqa_rad import load_vqa_rad

__all__ = [
    "load_adrenal",
    "load_heart_failure",
    "load_mi_complications",
    "load_nifti_cohort",
    "load_physionet2012",
    "load_ptbxl",
    "load_tcga",
    "load_vqa_rad",
    "make_icu_cohort",
    "make_multimodal_cohort",
    "make_volume_cohort",
]
