"""Exact intervals of shares, where resampling says that nothing could be otherwise."""

from __future__ import annotations

from scipy.stats import binomtest

__all__ = ["exact_interval"]


def exact_interval(n_true: int, n: int, confidence_level: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share; all of [0, 1] where there is nobody."""
    if n == 0:
        return 0.0, 1.0
    found = binomtest(n_true, n).proportion_ci(confidence_level, method="exact")
    return float(found.low), float(found.high)
