"""How often the higher risk has the event first."""

from __future__ import annotations

import numpy as np

from medfusion_sdk.survival._times import SurvivalTimes

__all__ = ["TIED", "concordance"]

# Risks nearer than this are tied: the last digits of a float32 network order nobody.
TIED = 1e-8
# Rows that are compared with all others at once.
_CHUNK = 256


def concordance(
    y: SurvivalTimes,
    risk: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    stratum: np.ndarray | None = None,
) -> float:
    """Share of comparable pairs in order; :mod:`medfusion_sdk.metrics` has it for the user.

    Parameters
    ----------
    y : SurvivalTimes
        Outcome of n rows.
    risk : ndarray of shape (n,)
        The higher, the earlier the event is expected.
    weight : ndarray of shape (n,), optional
        What pairs count in which the row has the event first; zero where it had none. All 1 by
        default.
    stratum : ndarray of shape (n,), optional
        Only rows of one stratum are compared.

    Returns
    -------
    float
        NaN where no pair is comparable.
    """
    weight = y.event.astype(np.float64) if weight is None else weight
    first = np.flatnonzero(weight)
    won = compared = 0.0
    for start in range(0, len(first), _CHUNK):
        rows = first[start : start + _CHUNK]
        later = (y.time > y.time[rows, None]) | ((y.time == y.time[rows, None]) & ~y.event)
        if stratum is not None:
            later &= stratum == stratum[rows, None]
        excess = risk[rows, None] - risk
        wins = np.where(np.abs(excess) <= TIED, 0.5, excess > 0)
        won += float(weight[rows] @ (later * wins).sum(axis=1))
        compared += float(weight[rows] @ later.sum(axis=1))
    return won / compared if compared else np.nan
