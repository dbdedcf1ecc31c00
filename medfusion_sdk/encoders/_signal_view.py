"""From a cell to what a signal network sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import SignalError
from medfusion_sdk.readers.beats import find_r_peaks, median_beat, rhythm
from medfusion_sdk.readers.signal import read_signal

# Around an R peak: from before the P wave to after the T wave at usual heart rates.
SECONDS_BEFORE_R, SECONDS_AFTER_R = 0.4, 0.6


@dataclass(frozen=True)
class SignalView:
    """How cells are read and what is shown of them; fields as :class:`SignalEncoder` has them.

    ``source_leads`` and ``resampling`` are those of :func:`read_signal`. ``expected`` is the shape
    that a signal must have once it is cut to the view, and ``shortest`` the least of its samples.
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

    def shape(self, signal: np.ndarray) -> tuple[int, int]:
        """Shape of what the network will see of a signal."""
        if self.view == "full" or self.fs is None:
            return signal.shape[0], signal.shape[1]
        return signal.shape[0], sum(_window(self.fs))

    def look(self, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
        peaks = find_r_peaks(signal, self.fs)
        beat, n_beats = median_beat(signal, peaks, *_window(self.fs))
        return standardise(beat), rhythm(peaks, n_beats, self.fs)


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
