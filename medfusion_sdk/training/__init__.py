"""Train a module: batches by slicing, early stopping, devices, progress.

Names are imported when they are first used: the configuration and scikit-learn's callbacks are
there without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medfusion_sdk.backbones.devices import is_out_of_memory, limit_threads, resolve_device
    from medfusion_sdk.training.callbacks import (
        CallbackSupportMixin,
        FitCallbacks,
        with_callbacks,
    )
    from medfusion_sdk.training.config import TrainingConfig, TrainingResult
    from medfusion_sdk.training.engine import train
    from medfusion_sdk.training.inference import predict_batches
    from medfusion_sdk.training.randomness import seed_generators
    from medfusion_sdk.training.state import load_state, module_to_state

__all__ = [
    "CallbackSupportMixin",
    "FitCallbacks",
    "TrainingConfig",
    "TrainingResult",
    "is_out_of_memory",
    "limit_threads",
    "load_state",
    "module_to_state",
    "predict_batches",
    "resolve_device",
    "seed_generators",
    "train",
    "with_callbacks",
]

_HOME = {
    "CallbackSupportMixin": "training.callbacks",
    "FitCallbacks": "training.callbacks",
    "TrainingConfig": "training.config",
    "TrainingResult": "training.config",
    "is_out_of_memory": "backbones.devices",
    "limit_threads": "backbones.devices",
    "load_state": "training.state",
    "module_to_state": "training.state",
    "predict_batches": "training.inference",
    "resolve_device": "backbones.devices",
    "seed_generators": "training.randomness",
    "train": "training.engine",
    "with_callbacks": "training.callbacks",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(f"medfusion_sdk.{home}"), name)
    globals()[name] = value  # the next look-up finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
