"""Look at fitted estimators: displays after scikit-learn's convention."""

from __future__ import annotations

from medfusion_sdk.inspection.few_shot import FewShotDisplay
from medfusion_sdk.inspection.gates import GateDisplay
from medfusion_sdk.inspection.kaplan_meier import KaplanMeierDisplay
from medfusion_sdk.inspection.router import RouterDisplay
from medfusion_sdk.inspection.signal_attribution import SignalAttributionDisplay
from medfusion_sdk.inspection.survival_calibration import SurvivalCalibrationDisplay

__all__ = [
    "FewShotDisplay",
    "GateDisplay",
    "KaplanMeierDisplay",
    "RouterDisplay",
    "SignalAttributionDisplay",
    "SurvivalCalibrationDisplay",
]
