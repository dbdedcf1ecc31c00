"""A signal at another rate, by any ratio: sample k of what comes out lies at k / fs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

__all__ = ["resample_signal", "resampled_length"]

# The filter passes what is below 0.4 of the lower rate and stops what is above half of it, by
# 77 dB: Kaiser's rule for this reach, in samples of the lower rate to each side.
_REACH = 24
_CUTOFF = 0.45
_BETA = 7.5
# Ratios of whole numbers up to this go to scipy's compiled filter, all others through the same
# kernel, of which so many points are tabulated.
_LARGEST_TERM = 20_000
_TABULATED = 1 << 17
_WEIGHTS_AT_ONCE = 1 << 21


def resampled_length(n_samples: int, rate: float, fs: float) -> int:
    """Count the samples of a signal at another rate.

    Parameters
    ----------
    n_samples : int
        Samples at `rate`.
    rate, fs : float
        Samples per second, before and after.

    Returns
    -------
    int
        The nearest whole number to the same duration.
    """
    return round(n_samples * fs / rate)


def resample_signal(samples: np.ndarray, rate: float, fs: float) -> np.ndarray:
    """Bring signals to another rate by a windowed sinc.

    What lies below 0.4 of the lower of both rates keeps its amplitude, frequency and phase; what
    the new rate can't carry, above half of it, is gone to 1.5 parts in 10,000. A constant stays
    what it is. Beyond both ends the signal is continued by its turned-over mirror image, so that a
    trend goes on and the ends don't ring.

    Parameters
    ----------
    samples : ndarray of shape (channels, time), float64
        Finite.
    rate, fs : float
        Samples per second, before and after.

    Returns
    -------
    ndarray of shape (channels, round(time * fs / rate)), float64
        Sample k lies at k / fs seconds.

    Examples
    --------
    >>> import numpy as np
    >>> resample_signal(np.arange(1000.0)[np.newaxis], 1000, 3.5).round()[:, 1:]
    array([[286., 571., 857.]])
    """
    length = resampled_length(samples.shape[1], rate, fs)
    slower = max(1.0, rate / fs)  # source samples in one of the lower rate
    pad = int(np.ceil(_REACH * slower)) + 1
    # Output may lie up to half of its own step behind the last sample.
    behind = pad + int(np.ceil(rate / fs))
    padded = np.pad(samples, ((0, 0), (pad, behind)), mode="reflect", reflect_type="odd")
    ratio = Fraction(fs / rate).limit_denominator(_LARGEST_TERM)
    if 0 < ratio.numerator <= _LARGEST_TERM and abs(ratio * rate / fs - 1) < 1e-13:
        resampled = _polyphase(padded, pad, length, ratio)
    else:
        resampled = _direct(padded, pad, length, rate / fs, slower)
    # Behind the last sample nothing is known; no value larger than all others is made up there.
    after = int((samples.shape[1] - 1) * fs / rate) + 1
    lowest, highest = samples.min(axis=1, keepdims=True), samples.max(axis=1, keepdims=True)
    resampled[:, after:] = resampled[:, after:].clip(lowest, highest)
    return resampled


def _kernel(distances: np.ndarray) -> np.ndarray:
    """Weight of samples by their distance from the place asked for, in those of the lower rate."""
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (distances / _REACH) ** 2, 0, None)))
    inside = np.abs(distances) < _REACH * (1 - 1e-9)  # rounding doesn't decide about the last one
    return np.where(inside, np.sinc(2 * _CUTOFF * distances) * window, 0.0)


def _polyphase(padded: np.ndarray, pad: int, length: int, ratio: Fraction) -> np.ndarray:
    from scipy.signal import upfirdn

    up, down = ratio.numerator, ratio.denominator
    half = int(np.ceil(_REACH * max(up, down)))
    taps = _kernel(np.arange(-half, half + 1) / max(up, down))
    for phase in range(up):
        taps[phase::up] /= taps[phase::up].sum()
    # Samples at pad, pad + down / up, ... of the padded signal, in the fine grid of the filter.
    first = pad * up + half
    lead = -first % down
    taps = np.pad(taps, (lead, 0))
    start = (first + lead) // down
    return upfirdn(taps, padded, up, down, axis=1)[:, start : start + length]


def _direct(padded: np.ndarray, pad: int, length: int, step: float, slower: float) -> np.ndarray:
    taps = np.arange(2 * pad)
    grid = np.linspace(0.0, _REACH, _TABULATED)
    heights = _kernel(grid)
    resampled = np.empty((len(padded), length))
    at_once = max(1, _WEIGHTS_AT_ONCE // (len(taps) * len(padded)))
    for begin in range(0, length, at_once):
        places = pad + np.arange(begin, min(begin + at_once, length)) * step
        sources = np.floor(places).astype(int)[:, np.newaxis] - pad + 1 + taps
        weights = np.interp(
            np.abs(places[:, np.newaxis] - sources) / slower, grid, heights, right=0.0
        )
        weights /= weights.sum(axis=1, keepdims=True)
        resampled[:, begin : begin + at_once] = np.einsum("ckt,kt->ck", padded[:, sources], weights)
    return resampled
