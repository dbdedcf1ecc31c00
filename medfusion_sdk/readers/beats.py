"""ECG beats: R peaks by wfdb's detector, and the median beat aligned on them."""

from __future__ import annotations

import numpy as np

from medfusion_sdk.exceptions import MissingDependencyError, SignalError
from medfusion_sdk.readers.signal_rate import resample_signal

__all__ = ["LOWEST_FS", "RHYTHM", "find_r_peaks", "median_beat", "rhythm"]

# Beats in the median; median, standard deviation and root mean square of successive differences
# of the RR intervals.
RHYTHM = ("n_beats", "rr_median", "rr_sd", "rr_rmssd")

# The QRS complex has its energy between 5 and 20 Hz.
_BAND = (5.0, 20.0)
LOWEST_FS = 50.0
# XQRS looks for complexes with a wavelet of four samples whatever the rate: right at 100 Hz, blind
# at 1000. Below 20 Hz there is nothing that 100 Hz would lose.
_DETECTION_FS = 100.0
MOST_BEATS = 1000  # in a median; of a longer recording every so many beats are taken
_AROUND = 0.15  # seconds
_REACH = 0.1  # seconds; hearts rest longer than this between beats
_NEAR = 0.007  # seconds; more than half a sample of the detector's rate
# On 353 records of PTB-XL no beat this soon after another is lower than 0.66 of it; T waves taken
# for beats are at 0.05 to 0.07.
_T_WAVE_WITHIN, _T_WAVE_BELOW = 0.45, 0.15


def find_r_peaks(signal: np.ndarray, fs: float) -> np.ndarray:
    """Find the R peaks of an ECG, from all its leads together.

    Each lead is band-passed to the QRS complex's frequencies and scaled by its median size, so
    that a noisy lead counts less. The mean square over leads goes to wfdb's XQRS detector. What it
    finds is moved uphill on that curve, 100 ms at a time, until nothing higher is in reach: from a
    P wave or the edge of a complex to its middle.

    Parameters
    ----------
    signal : ndarray of shape (leads, time)
        ECG, in any unit.
    fs : float
        Samples per second, at least 50.

    Returns
    -------
    ndarray of int
        Sample numbers in increasing order; empty for a signal without beats, or shorter than one
        second.

    Raises
    ------
    SignalError
        If `fs` is too low.
    MissingDependencyError
        If wfdb isn't installed.

    Examples
    --------
    >>> import numpy as np
    >>> beats = np.zeros((1, 1000))
    >>> beats[0, 50::80] = 1.0
    >>> find_r_peaks(beats, fs=100)[:3]
    array([ 50, 130, 210])
    """
    if fs < LOWEST_FS:
        raise SignalError(
            f"R peaks can't be found at {fs:g} samples per second; expected at least {LOWEST_FS:g}."
        )
    if signal.shape[1] < fs:
        return np.empty(0, dtype=int)
    signal = _without_gaps(signal)
    energy = _qrs_energy(signal, fs)
    if not energy.any():
        return np.empty(0, dtype=int)
    if fs == _DETECTION_FS:
        return _beats(energy)
    coarse = _qrs_energy(resample_signal(signal, fs, _DETECTION_FS), _DETECTION_FS)
    # The same beats at every rate, each moved to the curve's top beside it on the full signal.
    near = round(_NEAR * fs)
    starts = np.round(_beats(coarse) * (fs / _DETECTION_FS)).astype(int)
    return np.unique([_top(energy, min(start, len(energy) - 1), near) for start in starts]).astype(
        int
    )


def median_beat(
    signal: np.ndarray, peaks: np.ndarray, before: int, after: int
) -> tuple[np.ndarray, int]:
    """Take the sample-wise median over a window around each R peak.

    Parameters
    ----------
    signal : ndarray of shape (leads, time)
        ECG.
    peaks : ndarray of int
        Sample numbers of the R peaks.
    before, after : int
        Samples of the window before the peak, and from it on.

    Returns
    -------
    beat : ndarray of shape (leads, before + after)
        Each window's own median is taken off first, lead by lead, so that a wandering baseline
        doesn't count. Without a whole window around any peak this is the middle of the signal,
        with zeros around it where it is too short.
    n_beats : int
        Number of windows, at most 1000, spread evenly over a longer recording; 0 says that the
        beat is not aligned.

    Examples
    --------
    >>> import numpy as np
    >>> beat, n_beats = median_beat(np.eye(1, 30, 9), np.array([9]), before=2, after=3)
    >>> beat, n_beats
    (array([[0., 0., 1., 0., 0.]]), 1)
    """
    starts = peaks - before
    starts = starts[(starts >= 0) & (peaks + after <= signal.shape[1])]
    if not len(starts):
        return _centred(_middle(signal, before + after)), 0
    if len(starts) > MOST_BEATS:
        starts = starts[np.linspace(0, len(starts) - 1, MOST_BEATS).astype(int)]
    windows = signal[:, starts[:, np.newaxis] + np.arange(before + after)]
    return np.median(_centred(windows), axis=1), len(starts)


def rhythm(peaks: np.ndarray, n_beats: int, fs: float) -> np.ndarray:
    """Describe the rhythm that goes with a median beat, which itself has none.

    Parameters
    ----------
    peaks : ndarray of int
        Sample numbers of the R peaks.
    n_beats : int
        Number of beats in the median.
    fs : float
        Samples per second.

    Returns
    -------
    ndarray of shape (4,), float32
        As named in ``RHYTHM``, intervals in seconds; zeros where `n_beats` is 0.

    Examples
    --------
    >>> import numpy as np
    >>> rhythm(np.array([50, 130, 210, 290]), 3, fs=100).round(3)
    array([3. , 0.8, 0. , 0. ], dtype=float32)
    """
    described = np.zeros(len(RHYTHM), dtype=np.float32)
    intervals = np.diff(peaks) / fs
    if n_beats and len(intervals):
        successive = np.diff(intervals)
        described[1:3] = np.median(intervals), intervals.std()
        described[3] = np.sqrt((successive**2).mean()) if len(successive) else 0.0
    described[0] = n_beats
    return described


def _without_gaps(signal: np.ndarray) -> np.ndarray:
    """Straight lines where samples aren't finite; a lead without any finite one is zero."""
    absent = ~np.isfinite(signal)
    if not absent.any():
        return signal
    filled = np.array(signal, dtype=np.float64)
    for lead, gaps in zip(filled, absent, strict=True):
        known = np.flatnonzero(~gaps)
        lead[gaps] = np.interp(np.flatnonzero(gaps), known, lead[known]) if len(known) else 0.0
    return filled


def _qrs_energy(signal: np.ndarray, fs: float) -> np.ndarray:
    """Mean square over leads of what lies in the QRS complex's frequencies."""
    from scipy.signal import butter, sosfiltfilt

    band = butter(2, _BAND, btype="bandpass", fs=fs, output="sos")
    # Continued by equal times at every rate, or the first and last beat would move with it.
    around = min(round(_AROUND * fs), signal.shape[1] - 1)
    centred = signal - signal.mean(axis=1, keepdims=True)
    filtered = sosfiltfilt(band, centred, axis=1, padlen=around)
    size = np.median(np.abs(filtered), axis=1, keepdims=True)
    # A lead that is flat most of the time is scaled by its highest point instead; one that is
    # flat but for what rounding leaves says nothing.
    size = np.where(size > 0, size, np.abs(filtered).max(axis=1, keepdims=True))
    alive = size > 1e-9 * np.abs(signal).max()
    scaled = np.divide(filtered, size, out=np.zeros_like(filtered), where=alive)
    return (scaled**2).mean(axis=0)


def _beats(energy: np.ndarray) -> np.ndarray:
    """Beats on the curve at the detector's rate, (n,), each at the highest point in reach."""
    reach = round(_REACH * _DETECTION_FS)
    peaks = np.unique([_climb(energy, peak, reach) for peak in _detect(energy)]).astype(int)
    # T waves that the detector takes for beats, mostly while it learns how high beats are.
    soon = np.diff(peaks, prepend=-len(energy)) < _T_WAVE_WITHIN * _DETECTION_FS
    low = energy[peaks] < _T_WAVE_BELOW * np.r_[0.0, energy[peaks[:-1]]]
    return peaks[~(soon & low)]


def _climb(curve: np.ndarray, start: int, reach: int) -> int:
    while True:
        top = _top(curve, start, reach)
        if curve[top] <= curve[start]:
            return start
        start = top


def _top(curve: np.ndarray, around: int, reach: int) -> int:
    """Place of the highest value not further than `reach` from a place."""
    first = max(0, around - reach)
    return first + int(np.argmax(curve[first : around + reach + 1]))


def _detect(energy: np.ndarray) -> np.ndarray:
    try:
        from wfdb.processing import XQRS
    except ImportError as cause:
        raise MissingDependencyError(
            "finding R peaks needs wfdb: pip install 'medfusion-sdk[signals]'."
        ) from cause
    detector = XQRS(sig=energy / energy.max(), fs=_DETECTION_FS)
    # Divisions by zero where the signal is flat; the detector then finds nothing there.
    with np.errstate(all="ignore"):
        detector.detect(verbose=False)
    return np.asarray(detector.qrs_inds, dtype=int)


def _middle(signal: np.ndarray, length: int) -> np.ndarray:
    """The middle `length` samples, with zeros around a shorter signal."""
    short = max(0, length - signal.shape[1])
    signal = np.pad(signal, ((0, 0), (short // 2, short - short // 2)))
    start = (signal.shape[1] - length) // 2
    return signal[:, start : start + length]


def _centred(windows: np.ndarray) -> np.ndarray:
    return windows - np.median(windows, axis=-1, keepdims=True)
