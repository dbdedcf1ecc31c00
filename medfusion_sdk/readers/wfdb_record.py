"""WFDB records (``.hea`` with its signal files): each signal at its own rate, in mV.

A header is taken at its word only as far as the signal files bear it out: sizes are compared
before anything is allocated, checksums after. Only what was asked for is read and checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medfusion_sdk.exceptions import SignalError
from medfusion_sdk.readers.wfdb_header import read_header
from medfusion_sdk.readers.wfdb_segments import layout_of, read_segments
from medfusion_sdk.readers.wfdb_signals import read_signals

__all__ = ["Record", "read_record"]


@dataclass(frozen=True)
class Record:
    """Signals of a WFDB record.

    Attributes
    ----------
    signals : tuple of ndarray of shape (time of the signal,), float64
        In mV; samples that the file marks as invalid, or hasn't got, are NaN.
    rates : tuple of float
        Samples per second of each signal.
    leads : tuple of str
        Name of each signal.
    """

    signals: tuple[np.ndarray, ...]
    rates: tuple[float, ...]
    leads: tuple[str, ...]

    @property
    def fs(self) -> float:
        """Samples per second of the fastest signal."""
        return max(self.rates)


def read_record(
    path: Path,
    seconds: float | None = None,
    choose: Callable[[tuple[str, ...]], Sequence[int]] | None = None,
) -> Record:
    """Read a record's signals in mV, each at its own rate.

    Parameters
    ----------
    path : Path
        The header.
    seconds : float or None, default=None
        Read no more than this from the start.
    choose : callable or None, default=None
        From the names of all signals to the positions of those to read, in order. By default all
        of them. Of the others nothing but the place in their file matters.

    Returns
    -------
    Record
        Signals with their rates and names.

    Raises
    ------
    CellFileNotFoundError
        If the header or a file of a chosen signal is missing.
    SignalError
        If header and files contradict each other, or a chosen signal has no gain or a unit that is
        none of V, mV, uV and nV.
    """
    header = read_header(path)
    layout = layout_of(header) if header.segments else header.signals
    names = tuple(signal.name for signal in layout)
    chosen = list(range(len(names)) if choose is None else choose(names))
    stop = None if seconds is None else math.ceil(seconds * header.fs)
    if header.segments:
        signals = read_segments(header, layout, chosen, stop)
    else:
        signals = read_signals(header, chosen, stop)
    if not all(map(len, signals)):
        raise SignalError(f"{path} promises signals of no samples.")
    rates = tuple(header.fs * layout[i].per_frame for i in chosen)
    return Record(tuple(signals), rates, tuple(names[i] for i in chosen))
