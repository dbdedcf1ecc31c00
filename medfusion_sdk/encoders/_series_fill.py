"""Filling of gaps (NaN) along the last axis."""

from __future__ import annotations

import numpy as np


def last_seen(observed: np.ndarray) -> np.ndarray:
    """Step of the last observation up to each step, -1 before the first."""
    steps = np.arange(observed.shape[-1])
    return np.maximum.accumulate(np.where(observed, steps, -1), axis=-1)


def fill_forward(values: np.ndarray) -> np.ndarray:
    """Repeat the last observation; what lies before the first stays open."""
    before = last_seen(~np.isnan(values))
    found = np.take_along_axis(values, np.maximum(before, 0), axis=-1)
    return np.where(before < 0, np.nan, found)


def fill_linear(values: np.ndarray) -> np.ndarray:
    """Draw lines between observations, and repeat the last behind it."""
    n_steps = values.shape[-1]
    observed = ~np.isnan(values)
    before = last_seen(observed)
    # Seen from the end, the next observation is the last one.
    after = n_steps - 1 - last_seen(observed[..., ::-1])[..., ::-1]
    after = np.where(after == n_steps, before, after)
    start = np.take_along_axis(values, np.maximum(before, 0), axis=-1)
    end = np.take_along_axis(values, np.maximum(after, 0), axis=-1)
    share = (np.arange(n_steps) - before) / np.maximum(after - before, 1)
    return np.where(before < 0, np.nan, start + share * (end - start))
