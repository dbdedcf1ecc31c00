"""One signal cell -> ``(channels, time)``, float32, in mV.

A cell is the path of a WFDB record or of a ``.npy`` file, an array or a list. What comes out has
the leads, the sampling rate and the duration that were asked for, and no sample that isn't finite.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import CellFileNotFoundError, SignalError
from medfusion_sdk.readers.digest import array_digest, files_digest
from medfusion_sdk.readers.npy import open_npy
from medfusion_sdk.readers.wfdb_record import MAX_SAMPLES, read_record, record_files

__all__ = ["read_signal", "signal_digest"]


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
        for any cell. By default all of them.
    fs : float, optional
        Samples per second to resample to. By default the cell's own rate.
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
    source = _load(cell, source_fs if source_fs is not None else fs, duration)
    if source_leads is not None and source.leads is None:
        source = _named(source, leads, source_leads)
    if leads is not None:
        source = _select(source, leads)
    if duration is not None:
        source = _begin(source, duration)
    samples = _finite(source, max_gap)
    rate = source.fs
    if fs is not None and rate is not None and fs != rate:
        samples = _resample(samples, rate, fs, source.what, resampling)
        rate = fs
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


@dataclass(frozen=True)
class _Source:
    """Samples as they were found, and how to speak of them in a message."""

    samples: np.ndarray
    fs: float | None
    leads: tuple[str, ...] | None
    what: str

    def channel(self, index: int) -> str:
        return f"channel {index}" if self.leads is None else f"lead {self.leads[index]}"


def _load(cell: Any, fs: float | None, duration: float | None) -> _Source:
    if not isinstance(cell, str | os.PathLike):
        return _Source(_as_array(cell), fs, None, "this array")
    path = _find(cell)
    if path.suffix == ".npy":
        samples = _as_channels(open_npy(path, SignalError), str(path))
        return _Source(samples, fs, None, str(path))
    record = read_record(path, duration)
    return _Source(record.samples, record.fs, record.leads, str(path))


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
        if candidate.is_file():
            return candidate
    if path.is_file():
        raise SignalError(f"{path} is neither a WFDB record (.hea and .dat) nor a .npy file.")
    raise CellFileNotFoundError(
        f"no signal file at {path}; looked for {' and '.join(map(str, candidates))}."
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


def _named(
    source: _Source, leads: Sequence[str | int] | None, source_leads: Sequence[str]
) -> _Source:
    """Give the channels of an array their names."""
    choices = [tuple(map(str, names)) for names in (source_leads, leads) if names is not None]
    for names in choices:
        if len(names) == len(source.samples):
            return replace(source, leads=names)
    expected = " or ".join(f"{len(names)} ({', '.join(names)})" for names in choices)
    raise SignalError(
        f"{source.what} has {len(source.samples)} channels, expected {expected}. Say with leads "
        "which of these it holds."
    )


def _select(source: _Source, leads: Sequence[str | int]) -> _Source:
    chosen = [_position(source, lead) for lead in leads]
    names = None if source.leads is None else tuple(source.leads[i] for i in chosen)
    return replace(source, samples=source.samples[chosen], leads=names)


def _position(source: _Source, lead: str | int) -> int:
    n_channels = len(source.samples)
    if isinstance(lead, str):
        if source.leads is None:
            raise SignalError(
                f"{source.what} has no lead names, so lead {lead!r} can't be found. Give positions "
                f"from 0 to {n_channels - 1} instead."
            )
        folded = [name.casefold() for name in source.leads]
        if folded.count(lead.casefold()) == 1:
            return folded.index(lead.casefold())
        found = "several" if lead.casefold() in folded else "no"
        raise SignalError(
            f"{source.what} has {found} leads named {lead!r}; its leads are "
            f"{', '.join(source.leads)}."
        )
    if not 0 <= lead < n_channels:
        raise SignalError(f"{source.what} has channels 0 to {n_channels - 1}, not {lead}.")
    return lead


def _begin(source: _Source, duration: float) -> _Source:
    """Leave out what comes after `duration` seconds."""
    if source.fs is None:
        raise SignalError(
            f"{source.what}: duration={duration:g} s needs a sampling rate; give fs or source_fs."
        )
    return replace(source, samples=source.samples[:, : math.ceil(duration * source.fs)])


def _finite(source: _Source, max_gap: float) -> np.ndarray:
    """Copy the samples; fill short runs of NaN, refuse longer ones and infinities."""
    if source.samples.size > MAX_SAMPLES:
        raise SignalError(
            f"{source.what} has {source.samples.size} samples; at most {MAX_SAMPLES} are read at "
            "once. Give a shorter duration."
        )
    samples = np.array(source.samples, dtype=np.float64)
    if np.isfinite(samples).all():
        return samples
    longest = 0 if source.fs is None else int(max_gap * source.fs)
    for index, channel in enumerate(samples):
        where = source.channel(index)
        if np.isinf(channel).any():
            raise SignalError(
                f"{source.what}: {where} is infinite at {np.isinf(channel).argmax()}."
            )
        absent = np.isnan(channel)
        edges = np.flatnonzero(np.diff(absent, prepend=False, append=False))
        for start, stop in edges.reshape(-1, 2):
            if stop - start > longest or absent.all():
                raise SignalError(
                    f"{source.what}: {where} is NaN from sample {start} to {stop - 1}; runs of up "
                    f"to {longest} samples are filled. Raise max_gap, choose other leads, or count "
                    "such a cell as missing."
                )
        known = np.flatnonzero(~absent)
        channel[absent] = np.interp(np.flatnonzero(absent), known, channel[known])
    return samples


def _resample(
    samples: np.ndarray, rate: float, fs: float, what: str, resampling: str
) -> np.ndarray:
    from scipy.signal import resample, resample_poly

    ratio = Fraction(fs / rate).limit_denominator(1000)
    exact = samples.shape[1] * fs / rate
    length = math.floor(exact) if resampling == "fourier" else round(exact)
    if length < 1 or length * len(samples) > MAX_SAMPLES or not ratio:
        raise SignalError(
            f"{what} has {samples.shape[1]} samples at {rate:g} Hz: {length} samples at {fs:g} Hz."
        )
    if resampling == "fourier":
        return resample(samples, length, axis=1)
    # Less a straight line, so that the ends don't ring.
    resampled = resample_poly(samples, ratio.numerator, ratio.denominator, axis=1, padtype="line")
    return _fit_length(resampled, length)


def _fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    short = length - samples.shape[1]
    if short > 0:
        return np.pad(samples, ((0, 0), (0, short)))
    return samples[:, :length]
