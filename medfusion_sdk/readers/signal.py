"""One signal cell -> ``(channels, time)``, float32, in mV.

A cell is the path of a WFDB record or of a ``.npy`` file, an array or a list. What comes out has
the leads, the sampling rate and the duration that were asked for, and no sample that isn't finite.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import CellFileNotFoundError, SignalError
from medfusion_sdk.readers.digest import array_digest, files_digest
from medfusion_sdk.readers.files import is_file, shown
from medfusion_sdk.readers.npy import open_npy
from medfusion_sdk.readers.signal_rate import resample_signal, resampled_length
from medfusion_sdk.readers.wfdb_header import read_header, record_files
from medfusion_sdk.readers.wfdb_record import read_record
from medfusion_sdk.readers.wfdb_segments import layout_of
from medfusion_sdk.readers.wfdb_signals import MAX_SAMPLES

__all__ = ["read_signal", "signal_digest", "stated_rate"]


def read_signal(
    cell: Any,
    *,
    leads: Sequence[str | int] | None = None,
    fs: float | None = None,
    duration: float | None = None,
    source_fs: float | None = None,
    source_leads: Sequence[str] | None = None,
    max_gap: float = 0.0,
    resampling: str = "polyphase",
) -> np.ndarray:
    """Read one signal cell.

    Parameters
    ----------
    cell : str, Path, ndarray or list
        A WFDB record (its path with or without ``.hea``), a ``.npy`` file, or the samples
        themselves: ``(channels, time)``, or one dimension for a single channel. Records are
        converted to mV by their headers; arrays are taken as they are.
    leads : sequence of str or int, optional
        Channels to keep, in this order: by name, whatever its case, for records; by position
        for any cell. By default all of them. Nothing else of a record is read or checked.
    fs : float, optional
        Samples per second to resample to, each lead from its own rate. By default the cell's own
        rate, which all its leads must have.
    duration : float, optional
        Seconds. A longer signal keeps its beginning; a shorter one is followed by zeros.
    source_fs : float, optional
        Samples per second of arrays and ``.npy`` files, which don't say. By default `fs`.
    source_leads : sequence of str, optional
        Names of the channels of arrays and ``.npy`` files, which don't say. One with as many
        channels as `leads` names is taken to hold those. By default such channels have no names.
    max_gap : float, default=0.0
        Seconds. A run of NaN no longer than this is filled on a straight line between its
        neighbours; a longer one is an error.
    resampling : {"polyphase", "fourier"}, default="polyphase"
        By a filter, or by cutting the spectrum, which takes the signal for periodic.

    Returns
    -------
    ndarray of shape (channels, time), float32
        Finite samples in mV.

    Raises
    ------
    SignalError
        For a cell that can't be used; the message says what was expected, what was found and
        what to do.
    CellFileNotFoundError
        For a path without a file.

    Examples
    --------
    >>> import numpy as np
    >>> read_signal(np.ones((2, 500)), source_fs=250, fs=100, duration=3).shape
    (2, 300)
    """
    rate = source_fs if source_fs is not None else fs
    source = _load(cell, rate, duration, leads, source_leads)
    if duration is not None:
        source = _begin(source, duration)
    samples, rate = _at_one_rate(source, _finite(source, max_gap), fs, resampling)
    if duration is not None and rate is not None:
        samples = _fit_length(samples, round(duration * rate))
    with np.errstate(over="ignore"):
        samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        raise SignalError(f"{source.what} has samples beyond float32, {np.finfo('f4').max:.3g}.")
    return samples


def signal_digest(cell: Any) -> bytes:
    """Digest of a cell's content: of every file of a record, or of the samples.

    Parameters
    ----------
    cell : str, Path, ndarray or list
        As for :func:`read_signal`.

    Returns
    -------
    bytes
        32 bytes; equal for two copies of a file.

    Raises
    ------
    CellFileNotFoundError, SignalError
        If a file is missing or the cell is no signal.
    """
    if isinstance(cell, str | os.PathLike):
        path = _find(cell)
        files = [path] if path.suffix == ".npy" else record_files(path)
        return files_digest(files, SignalError)
    return array_digest(_as_array(cell))


def stated_rate(cell: Any) -> float | None:
    """Say at which rate a cell was recorded, as far as it says so itself.

    Parameters
    ----------
    cell : str, Path, ndarray or list
        As for :func:`read_signal`.

    Returns
    -------
    float or None
        Samples per second of a WFDB record's fastest lead; None for arrays and ``.npy`` files.
    """
    path = _find(cell) if isinstance(cell, str | os.PathLike) else None
    if path is None or path.suffix == ".npy":
        return None
    header = read_header(path)
    signals = layout_of(header) if header.segments else header.signals
    return header.fs * max(signal.per_frame for signal in signals)


@dataclass(frozen=True)
class _Source:
    """Channels as they were found, each at its rate, and how to speak of them in a message."""

    channels: tuple[np.ndarray, ...]
    rates: tuple[float | None, ...]
    leads: tuple[str, ...] | None
    what: str

    def channel(self, index: int) -> str:
        return f"channel {index}" if self.leads is None else f"lead {self.leads[index]}"


def _load(
    cell: Any,
    fs: float | None,
    duration: float | None,
    leads: Sequence[str | int] | None,
    source_leads: Sequence[str] | None,
) -> _Source:
    """Read the chosen channels of a cell."""
    path = _find(cell) if isinstance(cell, str | os.PathLike) else None
    what = "this array" if path is None else str(path)

    def choose(names: tuple[str, ...]) -> list[int]:
        return (
            list(range(len(names))) if leads is None else _positions(names, len(names), leads, what)
        )

    if path is not None and path.suffix != ".npy":
        record = read_record(path, duration, choose)
        return _Source(record.signals, record.rates, record.leads, what)
    samples = _as_array(cell) if path is None else _as_channels(open_npy(path, SignalError), what)
    names = None
    if source_leads is not None:
        names = _names(len(samples), leads, source_leads, what)
    if leads is not None:
        chosen = _positions(names, len(samples), leads, what)
        samples = samples[chosen]
        names = None if names is None else tuple(names[i] for i in chosen)
    return _Source(tuple(samples), (fs,) * len(samples), names, what)


def _find(cell: str | os.PathLike[str]) -> Path:
    """Header or ``.npy`` file that a path cell stands for."""
    path = Path(cell)
    if path.suffix in (".npy", ".hea"):
        candidates = [path]
    elif path.suffix == ".dat":
        candidates = [path.with_suffix(".hea")]
    else:
        candidates = [path.with_name(path.name + ".hea"), path.with_name(path.name + ".npy")]
    for candidate in candidates:
        if is_file(candidate):
            return candidate
    if is_file(path):
        raise SignalError(f"{path} is neither a WFDB record (.hea and .dat) nor a .npy file.")
    raise CellFileNotFoundError(
        f"no signal file at {shown(path)}; looked for {' and '.join(map(shown, candidates))}."
    )


def _as_array(cell: Any) -> np.ndarray:
    if isinstance(cell, bytes | Number) or not hasattr(cell, "__len__"):
        raise SignalError(
            f"expected a signal (path, array or list), found {type(cell).__name__} "
            f"{str(cell)[:40]!r}. Reshape your data if its numbers are one signal: a cell holds "
            "all of a signal's samples."
        )
    try:
        array = np.asarray(cell)
    except ValueError as cause:
        raise SignalError(
            f"this list isn't rectangular: {cause}. Give channels of one length."
        ) from cause
    return _as_channels(array, "this array")


def _as_channels(array: np.ndarray, what: str) -> np.ndarray:
    """Check type and shape; one dimension is one channel."""
    if array.dtype.kind not in "fiu":
        raise SignalError(f"{what} holds {array.dtype}, expected real numbers.")
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or array.size == 0:
        raise SignalError(f"{what} has shape {array.shape}, expected (channels, time).")
    channels, time = array.shape
    if channels > time:
        raise SignalError(
            f"{what} has shape {array.shape}: more channels than samples. Signals are (channels, "
            "time); if this one is (time, channels), hand over array.T."
        )
    return array


def _names(
    n_channels: int, leads: Sequence[str | int] | None, source_leads: Sequence[str], what: str
) -> tuple[str, ...]:
    """Name the channels of an array."""
    choices = [tuple(map(str, names)) for names in (source_leads, leads) if names is not None]
    for names in choices:
        if len(names) == n_channels:
            return names
    expected = " or ".join(f"{len(names)} ({', '.join(names)})" for names in choices)
    raise SignalError(
        f"{what} has {n_channels} channels, expected {expected}. Say with leads which of these it "
        "holds."
    )


def _positions(
    names: tuple[str, ...] | None, n_channels: int, leads: Sequence[str | int], what: str
) -> list[int]:
    return [_position(names, n_channels, lead, what) for lead in leads]


def _position(names: tuple[str, ...] | None, n_channels: int, lead: str | int, what: str) -> int:
    if isinstance(lead, str):
        if names is None:
            raise SignalError(
                f"{what} has no lead names, so lead {lead!r} can't be found. Give positions from 0 "
                f"to {n_channels - 1} instead."
            )
        folded = [name.casefold() for name in names]
        if folded.count(lead.casefold()) == 1:
            return folded.index(lead.casefold())
        found = "several" if lead.casefold() in folded else "no"
        raise SignalError(
            f"{what} has {found} leads named {lead!r}; its leads are {', '.join(names)}."
        )
    if not 0 <= lead < n_channels:
        raise SignalError(f"{what} has channels 0 to {n_channels - 1}, not {lead}.")
    return lead


def _begin(source: _Source, duration: float) -> _Source:
    """Leave out what comes after `duration` seconds."""
    cut = []
    for channel, rate in zip(source.channels, source.rates, strict=True):
        if rate is None:
            raise SignalError(
                f"{source.what}: duration={duration:g} s needs a sampling rate; give fs or "
                "source_fs."
            )
        cut.append(channel[: math.ceil(duration * rate)])
    return replace(source, channels=tuple(cut))


def _finite(source: _Source, max_gap: float) -> list[np.ndarray]:
    """Copy the channels; fill short runs of NaN, refuse longer ones and infinities."""
    size = sum(map(len, source.channels))
    if size > MAX_SAMPLES:
        raise SignalError(
            f"{source.what} has {size} samples; at most {MAX_SAMPLES} are read at once. Give a "
            "shorter duration."
        )
    channels = [np.array(channel, dtype=np.float64) for channel in source.channels]
    for index, (channel, rate) in enumerate(zip(channels, source.rates, strict=True)):
        if not np.isfinite(channel).all():
            _fill(channel, 0 if rate is None else int(max_gap * rate), source, index)
    return channels


def _fill(channel: np.ndarray, longest: int, source: _Source, index: int) -> None:
    """Fill runs of NaN up to a length, in place."""
    where = source.channel(index)
    if np.isinf(channel).any():
        raise SignalError(f"{source.what}: {where} is infinite at {np.isinf(channel).argmax()}.")
    absent = np.isnan(channel)
    edges = np.flatnonzero(np.diff(absent, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2):
        if stop - start > longest or absent.all():
            raise SignalError(
                f"{source.what}: {where} is NaN from sample {start} to {stop - 1}; runs of up to "
                f"{longest} samples are filled. Raise max_gap, choose other leads, or count such a "
                "cell as missing."
            )
    known = np.flatnonzero(~absent)
    channel[absent] = np.interp(np.flatnonzero(absent), known, channel[known])


def _at_one_rate(
    source: _Source, channels: Sequence[np.ndarray], fs: float | None, resampling: str
) -> tuple[np.ndarray, float | None]:
    """Bring channels to the rate asked for, each by one step, or to the one they all have."""
    rates = dict.fromkeys(source.rates)
    if fs is None and len(rates) > 1:
        each = ", ".join(
            f"{source.channel(i)} at {rate:g} Hz" for i, rate in enumerate(source.rates)
        )
        raise SignalError(
            f"{source.what} has leads at several rates: {each}. Say by fs=... to which rate to "
            "bring them, or choose leads of one rate."
        )
    parts: dict[int, np.ndarray] = {}
    for rate in rates:
        members = [i for i, each in enumerate(source.rates) if each == rate]
        samples = np.stack([channels[i] for i in members])
        if fs is not None and rate is not None and fs != rate:
            samples = _resample(samples, rate, fs, source.what, resampling)
        parts.update(zip(members, samples, strict=True))
    # Rounding may leave one of several rates a sample longer.
    length = min(map(len, parts.values()))
    target = fs if fs is not None else next(iter(rates))
    return np.stack([parts[i][:length] for i in range(len(parts))]), target


def _resample(
    samples: np.ndarray, rate: float, fs: float, what: str, resampling: str
) -> np.ndarray:
    from scipy.signal import resample

    # The spectrum's way takes whole samples only, as those who trained ST-MEM on it did.
    exact = samples.shape[1] * fs / rate
    fourier = resampling == "fourier"
    length = math.floor(exact + 1e-9) if fourier else resampled_length(samples.shape[1], rate, fs)
    if length < 1 or length * len(samples) > MAX_SAMPLES:
        raise SignalError(
            f"{what} has {samples.shape[1]} samples at {rate:g} Hz: {length} samples at {fs:g} Hz."
        )
    return resample(samples, length, axis=1) if fourier else resample_signal(samples, rate, fs)


def _fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    short = length - samples.shape[1]
    if short > 0:
        return np.pad(samples, ((0, 0), (0, short)))
    return samples[:, :length]
