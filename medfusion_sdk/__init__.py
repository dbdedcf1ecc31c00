"""Multimodal medical methods as scikit-learn estimators over frozen pretrained encoders.

Names are imported when they are first used, so that ``import medfusion_sdk`` stays quick and
loads neither torch nor transformers.

Examples
--------
>>> import medfusion_sdk
>>> "make_modality_transformer" in dir(medfusion_sdk)
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medfusion_sdk import (
        datasets,
        exceptions,
        inspection,
        metrics,
        model_selection,
        survival,
        testing,
    )
    from medfusion_sdk.embedding_cache import EmbeddingCache
    from medfusion_sdk.encoders.image import ImageEncoder
    from medfusion_sdk.encoders.lab_text import LabTest, LabTextEncoder
    from medfusion_sdk.encoders.series import SeriesPreprocessor
    from medfusion_sdk.encoders.signal import SignalEncoder
    from medfusion_sdk.encoders.skip_missing import SkipMissing
    from medfusion_sdk.encoders.text import TextEncoder
    from medfusion_sdk.encoders.video import VideoEncoder
    from medfusion_sdk.encoders.volume import VolumeEncoder
    from medfusion_sdk.estimators.adacomed import AdaCoMedClassifier
    from medfusion_sdk.estimators.amfn_classifier import AMFNClassifier
    from medfusion_sdk.estimators.amfn_regressor import AMFNRegressor
    from medfusion_sdk.estimators.brain_adapter import BrainAdapterClassifier
    from medfusion_sdk.estimators.dual_adapter import DualAdapterClassifier
    from medfusion_sdk.estimators.dual_adapter_embedder import DualAdapterEmbedder
    from medfusion_sdk.estimators.small import SmallMultimodalClassifier
    from medfusion_sdk.estimators.tgmm_classifier import TGMMClassifier
    from medfusion_sdk.estimators.tgmm_multitask import TGMMMultiTask
    from medfusion_sdk.estimators.tgmm_retriever import TGMMRetriever
    from medfusion_sdk.estimators.tgmm_survival import TGMMSurvival
    from medfusion_sdk.persistence import load_estimator, save_estimator
    from medfusion_sdk.readers.events import grid_events
    from medfusion_sdk.readers.prefixes import make_prefixes
    from medfusion_sdk.readers.windows import make_forecast_windows, make_windows
    from medfusion_sdk.tables import make_modality_transformer

__version__ = "0.1.0"

__all__ = [
    "AMFNClassifier",
    "AMFNRegressor",
    "AdaCoMedClassifier",
    "BrainAdapterClassifier",
    "DualAdapterClassifier",
    "DualAdapterEmbedder",
    "EmbeddingCache",
    "ImageEncoder",
    "LabTest",
    "LabTextEncoder",
    "SeriesPreprocessor",
    "SignalEncoder",
    "SkipMissing",
    "SmallMultimodalClassifier",
    "TGMMClassifier",
    "TGMMMultiTask",
    "TGMMRetriever",
    "TGMMSurvival",
    "TextEncoder",
    "VideoEncoder",
    "VolumeEncoder",
    "datasets",
    "exceptions",
    "grid_events",
    "inspection",
    "load_estimator",
    "make_forecast_windows",
    "make_modality_transformer",
    "make_prefixes",
    "make_windows",
    "metrics",
    "model_selection",
    "save_estimator",
    "survival",
    "testing",
]

# Public name -> the submodule that defines it; a submodule of that name is public itself.
_HOME = {
    "AMFNClassifier": "estimators.amfn_classifier",
    "AMFNRegressor": "estimators.amfn_regressor",
    "AdaCoMedClassifier": "estimators.adacomed",
    "BrainAdapterClassifier": "estimators.brain_adapter",
    "DualAdapterClassifier": "estimators.dual_adapter",
    "DualAdapterEmbedder": "estimators.dual_adapter_embedder",
    "EmbeddingCache": "embedding_cache",
    "ImageEncoder": "encoders.image",
    "LabTest": "encoders.lab_text",
    "LabTextEncoder": "encoders.lab_text",
    "SeriesPreprocessor": "encoders.series",
    "SignalEncoder": "encoders.signal",
    "SkipMissing": "encoders.skip_missing",
    "SmallMultimodalClassifier": "estimators.small",
    "TGMMClassifier": "estimators.tgmm_classifier",
    "TGMMMultiTask": "estimators.tgmm_multitask",
    "TGMMRetriever": "estimators.tgmm_retriever",
    "TGMMSurvival": "estimators.tgmm_survival",
    "TextEncoder": "encoders.text",
    "VideoEncoder": "encoders.video",
    "VolumeEncoder": "encoders.volume",
    "datasets": "datasets",
    "exceptions": "exceptions",
    "grid_events": "readers.events",
    "inspection": "inspection",
    "load_estimator": "persistence",
    "make_forecast_windows": "readers.windows",
    "make_modality_transformer": "tables",
    "make_prefixes": "readers.prefixes",
    "make_windows": "readers.windows",
    "metrics": "metrics",
    "model_selection": "model_selection",
    "save_estimator": "persistence",
    "survival": "survival",
    "testing": "testing",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    module = importlib.import_module(f"{__name__}.{home}")
    value = module if home == name else getattr(module, name)
    globals()[name] = value  # the next look-up finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
