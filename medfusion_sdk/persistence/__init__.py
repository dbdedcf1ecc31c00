"""Fitted models as a folder of two files: arrays in safetensors, the rest in readable JSON."""

from medfusion_sdk.persistence._folder import load_estimator, save_estimator

__all__ = ["load_estimator", "save_estimator"]
