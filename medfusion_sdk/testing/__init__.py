"""Checks that a multimodal classifier keeps its promises: for our estimators and for yours."""

from medfusion_sdk.testing._runner import check_multimodal_estimator, multimodal_checks

__all__ = ["check_multimodal_estimator", "multimodal_checks"]
