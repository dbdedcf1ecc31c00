"""WFDB records (``.hea`` + ``.dat``), read by the wfdb library once their header was checked.

A header is taken at its word only as far as the signal files bear it out: sizes are compared
before anything is allocated, checksums after.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import CellFileNotFoundError, MissingDependencyError, SignalError

__all__ = ["Record", "read_record", "record_files"]

MAX_HEADER_BYTES = 1 << 18
# Of what is read at once, all channels together: three leads at 250 Hz for a day.
MAX_SAMPLES = 1 << 26

# Bytes that a number of samples takes in each of the format's encodings. FLAC files (508, 516,
# 524) have no fixed size; for them MAX_SAMPLES alone is the bound.
_BYTES_PER_SAMPLE = {
    "8": 1.0,
    "80": 1.0,
    "16": 2.0,
    "61": 2.0,
    "160": 2.0,
    "24": 3.0,
    "32": 4.0,
    "212": 1.5,
    "310": 4 / 3,
    "311": 4 / 3,
}
_COMPRESSED = ("508", "516", "524")

_MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "nv": 1e-6}


@dataclass(frozen=True)
class Record:
    """Samples of a WFDB record.

    Attributes
    ----------
    samples : ndarray of shape (channels, time), float64
        In mV.
    fs : float
        Samples per second.
    leads : tuple of str
        Name of each channel.
    """

    samples: np.ndarray
    fs: float
    leads: tuple[str, ...]


def record_files(path: Path) -> list[Path]:
    """List the files that make a record: its header, then each signal file it names.

    Parameters
    ----------
    path : Path
        The record's path, or the header's.

    Returns
    -------
    list of Path
        Existing files, all in one folder.

    Raises
    ------
    CellFileNotFoundError
        If the header or a signal file is missing.
    SignalError
        If the header can't be one, or names a file outside its folder.
    """
    if not path.is_file():
        raise CellFileNotFoundError(f"no WFDB header {path}.")
    if path.stat().st_size > MAX_HEADER_BYTES:
        raise SignalError(
            f"{path} has {path.stat().st_size} bytes; a WFDB header has at most {MAX_HEADER_BYTES}."
        )
    first, *signals = _lines(path)
    if "/" in first.split()[0]:
        raise SignalError(
            f"{path} is a multi-segment record; give the segments' own headers, or join them with "
            "wfdb.rdrecord(...).wrsamp() first."
        )
    files = [path]
    for line in signals:
        name = line.split()[0]
        if name != Path(name).name or name == "..":
            raise SignalError(
                f"{path} names the signal file {name!r}; expected a file name in the same folder."
            )
        file = path.parent / name
        if not file.is_file():
            raise CellFileNotFoundError(
                f"{path} names the signal file {name!r}, which isn't there."
            )
        if file not in files:
            files.append(file)
    return files


def read_record(path: Path, seconds: float | None = None) -> Record:
    """Read a record's samples in mV.

    Parameters
    ----------
    path : Path
        The header.
    seconds : float or None, default=None
        Read no more than this from the start.

    Returns
    -------
    Record
        Samples with rate and lead names; samples marked invalid are NaN.

    Raises
    ------
    CellFileNotFoundError
        If the header or a signal file is missing.
    SignalError
        If header and files contradict each other, or a unit is none of V, mV, uV, nV.
    """
    record_files(path)
    header = _read_header(path)
    _check_header(path, header)
    stop = header.sig_len
    if seconds is not None and stop is not None:
        stop = min(stop, math.ceil(seconds * header.fs))
    if stop is not None and stop * header.n_sig > MAX_SAMPLES:
        raise SignalError(
            f"{path} promises {header.n_sig} signals of {stop} samples; at most {MAX_SAMPLES} "
            "samples are read at once. Give a shorter duration."
        )
    record = _call_wfdb(path, "rdrecord", sampto=stop, physical=False)
    if record.d_signal is None or record.d_signal.shape[1] != header.n_sig:
        raise SignalError(f"{path}: wfdb returned no samples for {header.n_sig} signals.")
    _check_sums(path, header, record, whole=stop == header.sig_len)
    factors = np.array([[_millivolts(path, unit)] for unit in header.units])
    return Record(record.dac().T * factors, float(header.fs), tuple(header.sig_name))


def _lines(path: Path) -> list[str]:
    """Header lines without comments; the first describes the record, each other one a signal."""
    try:
        lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
    except OSError as cause:
        raise SignalError(f"{path} can't be read: {cause}.") from cause
    kept = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not kept:
        raise SignalError(f"{path} is empty; expected a WFDB header.")
    for line in kept:
        # wfdb drops such characters in silence, and "µV" would be read as "V".
        if not line.isascii():
            raise SignalError(
                f"{path}: {line!r} has characters other than ASCII; expected for example uV."
            )
    return kept


def _call_wfdb(path: Path, function: str, **options: Any) -> Any:
    try:
        import wfdb
    except ImportError as cause:
        raise MissingDependencyError(
            f"reading {path} needs wfdb: pip install 'medfusion-sdk[signals]'."
        ) from cause
    record = os.path.abspath(path)[: -len(".hea")]
    if "::" in record:
        raise SignalError(f"{path}: wfdb can't read below a folder with '::' in its name.")
    try:
        return getattr(wfdb, function)(record, **options)
    except Exception as cause:  # wfdb raises whatever a wrong header leads to
        raise SignalError(
            f"{path} can't be read as a WFDB record: {type(cause).__name__}: {cause}."
        ) from cause


def _read_header(path: Path) -> Any:
    first, *signals = _lines(path)
    header = _call_wfdb(path, "rdheader")
    if not header.n_sig or header.n_sig != len(signals):
        raise SignalError(
            f"{path} promises {header.n_sig} signals and describes {len(signals)}: {first!r}."
        )
    for line in signals:
        # wfdb would take a gain of zero, or none, for 200.
        gain = re.match(r"\S+\s+\S+\s+(\d*\.?\d+(e[+-]?\d+)?)", line)
        if gain is None or not 0 < float(gain[1]) < math.inf:
            raise SignalError(
                f"{path}: {line!r} has no positive gain, so its samples have no unit. "
                "Write the gain (samples per mV) into the header."
            )
    return header


def _check_header(path: Path, header: Any) -> None:
    """Compare what the header promises with what its files can hold."""
    if not 0 < header.fs < 1e7:
        raise SignalError(f"{path} promises {header.fs} samples per second.")
    length = header.sig_len
    if length == 0:
        raise SignalError(f"{path} promises signals of no samples.")
    for name in dict.fromkeys(header.file_name):
        channels = [i for i, file in enumerate(header.file_name) if file == name]
        formats = {header.fmt[i] for i in channels}
        if len(formats) != 1 or not formats <= {*_BYTES_PER_SAMPLE, *_COMPRESSED}:
            raise SignalError(f"{path} describes {name} in format {sorted(formats)}.")
        if max(header.skew[i] or 0 for i in channels) > (length or 0):
            raise SignalError(f"{path} shifts a signal of {name} by more than its length.")
        if formats <= set(_BYTES_PER_SAMPLE):
            frame = sum(header.samps_per_frame[i] or 1 for i in channels)
            offset = header.byte_offset[channels[0]] or 0
            _check_size(path, name, length, frame, offset, _BYTES_PER_SAMPLE[formats.pop()])


def _check_size(
    path: Path, name: str, length: int | None, frame: int, offset: int, sample_bytes: float
) -> None:
    found = (path.parent / name).stat().st_size - offset
    if length is None:
        if not frame * sample_bytes <= found <= MAX_SAMPLES * sample_bytes:
            raise SignalError(
                f"{path} states no length, and {name} has {found} bytes of samples; expected "
                f"between one and {MAX_SAMPLES} samples."
            )
        return
    expected = math.ceil(length * frame * sample_bytes)
    # Some writers fill the last block of bytes.
    if not expected <= found < expected + math.ceil(frame * sample_bytes) + 4:
        raise SignalError(
            f"{path} promises {length} frames of {frame} samples, {expected} bytes; {name} has "
            f"{found}. The file is {'cut off' if found < expected else 'longer than that'}, or the "
            "header's length or number of signals is wrong."
        )


def _check_sums(path: Path, header: Any, record: Any, *, whole: bool) -> None:
    plain = all((spf or 1) == 1 for spf in header.samps_per_frame) and not any(header.skew)
    if not whole or not plain:
        return
    for lead, stated, found in zip(
        header.sig_name, header.checksum, record.calc_checksum(), strict=True
    ):
        if stated is not None and stated % 65536 != found % 65536:
            raise SignalError(
                f"{path}: the samples of {lead} sum to {found % 65536}, their checksum is "
                f"{stated % 65536}. The file was changed or damaged; get it again."
            )


def _millivolts(path: Path, unit: str) -> float:
    try:
        return _MILLIVOLTS[unit.lower()]
    except KeyError:
        raise SignalError(
            f"{path} has a signal in {unit!r}; expected V, mV, uV or nV. Leave that lead out with "
            "leads=..., or read the record yourself and hand over arrays."
        ) from None
