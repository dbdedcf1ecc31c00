"""Whether a signal's beats are those of a heart at the rate that it is taken to have."""

from __future__ import annotations

import numpy as np

from medfusion_sdk.readers.beats import LOWEST_FS, find_r_peaks

__all__ = ["FASTEST", "SLOWEST", "implausible_rate"]

SLOWEST, FASTEST = 20.0, 300.0  # beats a minute

# The detector finds beats of 30 to 250 a minute, so beats that come too fast are looked for as if
# the signal was recorded at some part of the rate, and beats too slow at some multiple. Of real
# ECGs at the right rate, looked at so, either the rate is plausible or the beats are unlike each
# other (0.15 at most); of signals taken for too fast by 2.5 to 10 they are alike (0.8 at least).
_SLOWED = (0.4, 0.2, 0.1)
_HASTENED = (2.5, 5.0, 10.0, 25.0)
_ALIKE = 0.8
_FEWEST = 5
_AROUND = 0.15  # seconds around a beat in which it is compared with the others


def implausible_rate(signal: np.ndarray, fs: float, peaks: np.ndarray) -> float | None:
    """Tell a heart rate that no heart has, which says that a signal's rate isn't `fs`.

    Parameters
    ----------
    signal : ndarray of shape (leads, time)
        ECG.
    fs : float
        Samples per second that it is taken to have.
    peaks : ndarray of int
        Its R peaks at that rate.

    Returns
    -------
    float or None
        Beats a minute if they are under 20 or over 300; None if they are plausible, or if nothing
        in the signal looks like beats.
    """
    minutes = signal.shape[1] / fs / 60
    if len(peaks) > 2:
        slow = (len(peaks) - 1) / (np.ptp(peaks) / fs / 60)
    else:  # a strip that just begins and ends between two beats has two more of them
        slow = (len(peaks) + 1) / minutes if len(peaks) else SLOWEST
    if slow < SLOWEST:
        return slow
    parts = list(_SLOWED)
    if not len(peaks) or _likeness(signal, fs, peaks) < _ALIKE:
        parts += _HASTENED
    for part in parts:
        if fs * part < LOWEST_FS:
            continue
        found = find_r_peaks(signal, fs * part)
        rate = len(found) / minutes
        if not SLOWEST <= rate <= FASTEST and _likeness(signal, fs * part, found) >= _ALIKE:
            return rate
    return None


def _likeness(signal: np.ndarray, fs: float, peaks: np.ndarray) -> float:
    """Median correlation of beats, all leads together, with their median; 0 for fewer than five."""
    around = round(_AROUND * fs)
    whole = peaks[(peaks >= around) & (peaks + around < signal.shape[1])]
    if len(whole) < _FEWEST:
        return 0.0
    beats = signal[:, whole[:, np.newaxis] + np.arange(-around, around)]
    beats = (beats - beats.mean(axis=2, keepdims=True)).transpose(1, 0, 2).reshape(len(whole), -1)
    typical = np.median(beats, axis=0)
    size = np.linalg.norm(beats, axis=1) * np.linalg.norm(typical)
    alike = np.divide(beats @ typical, size, out=np.zeros(len(beats)), where=size > 0)
    return float(np.median(alike))
