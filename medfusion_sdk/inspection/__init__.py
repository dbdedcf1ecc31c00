"""Look at fitted estimators: displays after scikit-learn's convention."""

from __future__ import annotations

from medfusion_sdk.inspection.attention_map import AttentionMapDisplay
from medfusion_sdk.inspection.comparison import ComparisonDisplay
from medfusion_sdk.inspection.coverage import CoverageDisplay
from medfusion_sdk.inspection.few_shot import FewShotDisplay
from medfusion_sdk.inspection.gates import GateDisplay
from medfusion_sdk.inspection.kaplan_meier import KaplanMeierDisplay
from medfusion_sdk.inspection.modality_graph import ModalityGraphDisplay
from medfusion_sdk.inspection.modality_weights import ModalityWeightsDisplay
from medfusion_sdk.inspection.over_time import explain_over_time
from medfusion_sdk.inspection.router import RouterDisplay
from medfusion_sdk.inspection.signal_attribution import SignalAttributionDisplay
from medfusion_sdk.inspection.survival_calibration import SurvivalCalibrationDisplay
from medfusion_sdk.inspection.volume_map import VolumeMapDisplay
from medfusion_sdk.inspection.weights_over_time import WeightsOverTimeDisplay

__all__ = [
    "AttentionMapDisplay",
    "ComparisonDisplay",
    "CoverageDisplay",
    "FewShotDisplay",
    "GateDisplay",
    "KaplanMeierDisplay",
    "ModalityGraphDisplay",
    "ModalityWeightsDisplay",
    "RouterDisplay",
    "SignalAttributionDisplay",
    "SurvivalCalibrationDisplay",
    "VolumeMapDisplay",
    "WeightsOverTimeDisplay",
    "explain_over_time",
]
