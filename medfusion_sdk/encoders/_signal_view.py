"""From a cell to what a signal network sees of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import MissingDependencyError, SignalError
from medfusion_sdk.readers.beat_rate import implausible_rate
from medfusion_sdk.readers.beats import find_r_peaks, median_beat, rhythm
from medfusion_sdk.readers.signal import read_signal

# Around an R peak: from before the P wave to after the T wave at usual heart rates.
SECONDS_BEFORE_R, SECONDS_AFTER_R = 0.4, 0.6


@dataclass(frozen=True)
class SignalView:
    """How cells are read and what is shown of them; fields as :class:`SignalEncoder` has them.

    ``source_leads`` and ``resampling`` are those of :func:`read_signal`. ``expected`` is the shape
    that a signal must have once it is cut to the view, and ``shortest`` the least of its samples;
    ``is_ecg`` says that signals are ECGs even where the view doesn't look for beats.
    """

    view: str
    fs: float | None
    duration: float | None
    leads: Sequence[str | int] | None
    source_fs: float | None
    max_gap: float
    expected: tuple[int, int] | None
    shortest: int
    standardised: bool
    source_leads: Sequence[str] | None = None
    resampling: str = "polyphase"
    is_ecg: bool = False

    def read(self, cell: Any) -> np.ndarray:
        """Read a cell as ``(channels, time)``."""
        return read_signal(
            cell,
            leads=self.leads,
            fs=self.fs,
            duration=self.duration,
            source_fs=self.source_fs,
            source_leads=self.source_leads,
            max_gap=self.max_gap,
            resampling=self.resampling,
        )

    def peaks(self, signal: np.ndarray) -> np.ndarray | None:
        """R peaks, (n,), of what is taken for an ECG; None where the view doesn't ask for them."""
        if self.view == "full" or self.fs is None:
            return None
        return find_r_peaks(signal, self.fs)

    def doubt(self, cell: Any, signal: np.ndarray, peaks: np.ndarray | None) -> str | None:
        """What speaks against the rate that an ECG without one is taken to have, or None."""
        told = isinstance(cell, str | os.PathLike) and not _is_npy(cell)
        if self.fs is None or self.source_fs is not None or told:
            return None
        if peaks is None and self.is_ecg:
            with suppress(MissingDependencyError):  # ST-MEM itself does without the detector
                peaks = find_r_peaks(signal, self.fs)
        if peaks is None:
            return None
        rate = implausible_rate(signal, self.fs, peaks)
        return None if rate is None else f"{rate:.0f} beats a minute"

    def shape(self, signal: np.ndarray) -> tuple[int, int]:
        """Shape of what the network will see of a signal."""
        if self.view == "full" or self.fs is None:
            return signal.shape[0], signal.shape[1]
        return signal.shape[0], sum(_window(self.fs))

    def look(
        self, signal: np.ndarray, peaks: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what the network sees, and the numbers that go beside its features."""
        from medfusion_sdk.backbones.minirocket import standardise

        found = self.shape(signal)
        if found != self.expected or found[1] < self.shortest:
            raise SignalError(
                f"expected {self.shortest} samples or more and the same (channels, samples) as the "
                f"column's first signal, {self.expected}; found {found}. Name leads=... that all "
                "signals have, and give a duration=..."
            )
        if self.view == "full" or self.fs is None:
            seen = standardise(signal) if self.standardised else signal
            return seen, np.empty(0, dtype=np.float32)
        peaks = find_r_peaks(signal, self.fs) if peaks is None else peaks
        beat, n_beats = median_beat(signal, peaks, *_window(self.fs))
        return standardise(beat), rhythm(peaks, n_beats, self.fs)


def _is_npy(path: str | os.PathLike[str]) -> bool:
    """Whether a cell's path leads to an array, which doesn't state its rate."""
    if Path(path).suffix == ".npy":
        return True
    stated = Path(path).suffix in (".hea", ".dat") or Path(f"{os.fspath(path)}.hea").is_file()
    return not stated


def _window(fs: float) -> tuple[int, int]:
    """Samples of a beat before its R peak, and from it on."""
    return round(SECONDS_BEFORE_R * fs), round(SECONDS_AFTER_R * fs)


def is_matrix(X: Any) -> bool:
    """Tell a matrix of numbers, one signal a row, from a column of cells."""
    if isinstance(X, pd.DataFrame):
        return X.shape[1] > 1 and all(pd.api.types.is_numeric_dtype(kind) for kind in X.dtypes)
    if isinstance(X, np.ndarray) and X.ndim == 2:
        return X.dtype.kind not in "OUST" or X.shape[1] != 1
    return hasattr(X, "toarray")
