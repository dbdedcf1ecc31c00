"""Signals of one WFDB header: sizes compared, samples decoded, shifted, summed up, in mV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medfusion_sdk.exceptions import CellFileNotFoundError, SignalError
from medfusion_sdk.readers.wfdb_flac import COMPRESSED, flac_frames
from medfusion_sdk.readers.wfdb_header import Header, Signal
from medfusion_sdk.readers.wfdb_samples import (
    FORMATS,
    invalid_code,
    n_bytes,
    n_samples,
    read_samples,
)

__all__ = ["MAX_SAMPLES", "read_signals", "require_few"]

# Of what is read at once, all channels together: three leads at 250 Hz for a day.
MAX_SAMPLES = 1 << 26


def read_signals(header: Header, chosen: Sequence[int], stop: int | None) -> list[np.ndarray]:
    """Read some signals of a record without segments.

    Parameters
    ----------
    header : Header
        Of the record.
    chosen : sequence of int
        Positions of the signals.
    stop : int or None
        Frames to read at most.

    Returns
    -------
    list of ndarray of shape (frames * per_frame,), float64
        In mV, NaN where the file marks samples as invalid, or a shifted signal has ended.

    Raises
    ------
    CellFileNotFoundError, SignalError
        If a file of these signals is missing, doesn't fit the header, or was changed.
    """
    signals = [header.signals[i] for i in chosen]
    calibrations = [signal.calibration(header.path) for signal in signals]
    groups = _groups(header, signals)
    length = _length(header, groups)
    for signal in signals:
        if signal.skew > length:
            raise SignalError(f"{header.path} shifts {signal.name} by more than its length.")
    frames = length if stop is None else min(stop, length)
    require_few(header.path, [frames * signal.per_frame for signal in signals])
    stored: dict[Signal, np.ndarray] = {}
    for name, group in groups.items():
        wanted = [i for i, signal in enumerate(group) if signal in signals]
        behind = max(group[i].skew for i in wanted)
        read = min(frames + behind, length)
        file = header.path.with_name(name)
        for i, samples in zip(wanted, read_samples(file, group, wanted, read), strict=True):
            if read == length and header.length is not None:
                _check_sum(header.path, group[i], samples)
            stored[group[i]] = samples
    return [
        _in_millivolts(signal, stored.get(signal), frames, *calibration)
        for signal, calibration in zip(signals, calibrations, strict=True)
    ]


def require_few(path: Path, samples: Sequence[int]) -> None:
    """Refuse more samples than are read at once.

    Parameters
    ----------
    path : Path
        The header, for the message.
    samples : sequence of int
        Of each signal.

    Raises
    ------
    SignalError
        If they are more than ``MAX_SAMPLES``.
    """
    if sum(samples) > MAX_SAMPLES:
        raise SignalError(
            f"{path} promises {len(samples)} signals of {max(samples)} samples; at most "
            f"{MAX_SAMPLES} samples are read at once. Give a shorter duration, or fewer leads."
        )


def _groups(header: Header, wanted: Sequence[Signal]) -> dict[str, list[Signal]]:
    """Signals of each file that holds a wanted one, in the header's order."""
    path, groups = header.path, {}
    for name in dict.fromkeys(signal.file for signal in wanted if signal.format != "0"):
        group = [signal for signal in header.signals if signal.file == name]
        formats = {signal.format for signal in group}
        if len(formats) != 1 or not formats <= set(FORMATS):
            raise SignalError(f"{path} describes {name} in format {sorted(formats)}.")
        if len({signal.offset for signal in group}) > 1:
            raise SignalError(f"{path} states several places at which {name} begins.")
        if not path.with_name(name).is_file():
            raise CellFileNotFoundError(
                f"{path} names the signal file {name!r}, which isn't there."
            )
        groups[name] = group
    return groups


def _length(header: Header, groups: dict[str, list[Signal]]) -> int:
    """Frames of the record, as stated or as its files hold; nothing is taken on trust."""
    path, length = header.path, header.length
    if length is None:
        held = {name: _held(path.with_name(name), group) for name, group in groups.items()}
        if len(set(held.values())) != 1 or not all(held.values()):
            raise SignalError(
                f"{path} states no length, and its files hold "
                f"{', '.join(f'{n} frames ({name})' for name, n in held.items()) or 'no samples'}."
            )
        length = min(held.values())
    else:
        for name, group in groups.items():
            _check_size(path, name, group, length)
    return length


def _held(file: Path, group: Sequence[Signal]) -> int:
    """Whole frames that a file holds."""
    if group[0].format in COMPRESSED:
        return flac_frames(file, group)
    width = sum(signal.per_frame for signal in group)
    size = max(0, file.stat().st_size - group[0].offset)
    return n_samples(group[0].format, size) // width


def _check_size(path: Path, name: str, group: Sequence[Signal], length: int) -> None:
    """Compare a length with its file, of whose last block some writers fill the rest."""
    file, fmt = path.with_name(name), group[0].format
    if fmt in COMPRESSED:
        found, expected, spare = flac_frames(file, group), length, 1
        unit = "frames"
    else:
        width = sum(signal.per_frame for signal in group)
        found = file.stat().st_size - group[0].offset
        expected = n_bytes(fmt, length * width)
        spare = max(n_bytes(fmt, width) + 4, group[0].block)
        unit = "bytes"
    if not expected <= found < expected + spare:
        raise SignalError(
            f"{path} promises {length} frames of {sum(signal.per_frame for signal in group)} "
            f"samples, {expected} {unit}; {name} has {found}. The file is "
            f"{'cut off' if found < expected else 'longer than that'}, or the header's length or "
            "number of signals is wrong."
        )


def _check_sum(path: Path, signal: Signal, samples: np.ndarray) -> None:
    """Compare the sum of the samples as they are stored, all of them, in 16 bits."""
    if signal.checksum is None:
        return
    found = int(samples.sum() % 65536)
    # Programs that hold every invalid sample as -32768 sum them up as such.
    code = invalid_code(signal.format)
    invalid = 0 if code is None else int((samples == code).sum())
    accepted = {found, (found + invalid * (-32768 - (code or 0))) % 65536}
    if signal.checksum % 65536 not in accepted:
        raise SignalError(
            f"{path}: the samples of {signal.name} sum to {found}, their checksum is "
            f"{signal.checksum % 65536}. The file was changed or damaged; get it again."
        )


def _in_millivolts(
    signal: Signal, samples: np.ndarray | None, frames: int, gain: float, factor: float
) -> np.ndarray:
    """Samples from the frame that is simultaneous with the others' first, (frames * per_frame,)."""
    voltages = np.full(frames * signal.per_frame, np.nan)
    if samples is None:
        return voltages
    samples = samples[signal.skew * signal.per_frame :][: len(voltages)]
    scaled = (samples - float(signal.baseline)) / gain * factor
    code = invalid_code(signal.format)
    if code is not None:
        scaled[samples == code] = np.nan
    voltages[: len(scaled)] = scaled
    return voltages
