"""Real data that the package carries, and generated cohorts whose optimum is known."""

from __future__ import annotations

from medfusion_sdk.datasets._ptbxl import load_ptbxl

__all__ = ["load_ptbxl"]
