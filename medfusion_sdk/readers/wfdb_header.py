"""WFDB headers (``.hea``): what they say, line by line, before anything is believed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from medfusion_sdk.exceptions import CellFileNotFoundError, SignalError

__all__ = ["Header", "Segment", "Signal", "read_header", "record_files"]

MAX_HEADER_BYTES = 1 << 20  # a day in 10,000 segments has 200 kB

_DEFAULT_FS = 250.0
_MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "\u00b5v": 1e-3, "\u03bcv": 1e-3, "nv": 1e-6}
_RECORD_LINE = re.compile(
    r"(?P<name>[-\w.]+)(/(?P<segments>\d+))?\s+(?P<signals>\d+)"
    r"(\s+(?P<fs>[\d.]+(e[-+]?\d+)?)(/\S+)?(\s+(?P<length>\d+)(\s+.*)?)?)?",
    re.ASCII | re.IGNORECASE,
)
_SIGNAL_LINE = re.compile(
    r"(?P<file>\S+)\s+(?P<format>\d+)(x(?P<frame>\d+))?(:(?P<skew>\d+))?(\+(?P<offset>\d+))?"
    r"(\s+(?P<gain>[^\s(/]+)(\((?P<baseline>-?\d+)\))?(/(?P<unit>\S+))?"
    r"(\s+-?\d+(\s+(?P<zero>-?\d+)(\s+(?P<initial>-?\d+)(\s+(?P<sum>-?\d+)"
    r"(\s+(?P<block>\d+)(\s+(?P<name>.*))?)?)?)?)?)?)?",
    re.ASCII,
)
_SEGMENT_LINE = re.compile(r"(?P<name>\S+)\s+(?P<length>\d+)", re.ASCII)
# Longer ones don't fit into what wfdb programs count in, and would take int() its time.
_MOST_DIGITS = 18


@dataclass(frozen=True)
class Signal:
    """One signal's line.

    Attributes
    ----------
    name : str
        Of the lead; "signal 3" where the header has none.
    file, format : str
        Where samples are and how; "~" and "0" for a signal without any.
    per_frame : int
        Samples of each frame.
    skew : int
        Frames that come before sample 0.
    offset : int
        Bytes before the first sample, or samples in a FLAC file.
    initial : int
        Value that a file of differences begins from.
    checksum : int or None
        Sum of all samples in 16 bits.
    block : int
        Bytes that the file is written in, or 0.
    baseline : int
        Sample that stands for 0 V.
    gain, unit : str or None
        As written; see :meth:`calibration`.
    line, position : str, int
        The line itself and its number.
    """

    name: str
    file: str
    format: str
    per_frame: int
    skew: int
    offset: int
    initial: int
    checksum: int | None
    block: int
    baseline: int
    gain: str | None
    unit: str | None
    line: str
    position: int

    def calibration(self, path: Path) -> tuple[float, float]:
        """Tell how samples become millivolts.

        Parameters
        ----------
        path : Path
            The header, for messages.

        Returns
        -------
        tuple of float
            Gain and factor: ``(sample - baseline) / gain * factor`` is in mV.

        Raises
        ------
        SignalError
            If the gain isn't positive or the unit is no voltage.
        """
        try:
            gain = float(self.gain or 0)
        except ValueError:
            gain = 0.0
        if not 0 < gain < math.inf:
            raise SignalError(
                f"{path}: {self.line!r} has no positive gain, so its samples have no unit. Write "
                "the gain (samples per mV) into the header, or leave that lead out with leads=...."
            )
        try:
            return gain, _MILLIVOLTS[(self.unit or "mV").lower()]
        except KeyError:
            raise SignalError(
                f"{path} has the signal {self.name!r} in {self.unit!r}; expected V, mV, uV or nV. "
                "Leave that lead out with leads=..., or read the record yourself and hand over "
                "arrays."
            ) from None


@dataclass(frozen=True)
class Segment:
    """One segment's line: its record, "~" for a gap, and its frames."""

    name: str
    length: int


@dataclass(frozen=True)
class Header:
    """A header: either signals or segments; ``length`` is None where it isn't stated."""

    path: Path
    fs: float
    length: int | None
    signals: tuple[Signal, ...]
    segments: tuple[Segment, ...]


def read_header(path: Path) -> Header:
    """Read a header.

    Parameters
    ----------
    path : Path
        The ``.hea`` file.

    Returns
    -------
    Header
        What it says; file names are names in its folder, nothing else is checked.

    Raises
    ------
    CellFileNotFoundError
        If it isn't there.
    SignalError
        If it can't be one.
    """
    first, *lines = _lines(path)
    record = _match(path, _RECORD_LINE, first)
    fs = float(record["fs"]) if _is_number(record["fs"]) else _DEFAULT_FS
    if not 0 < fs < 1e7:
        raise SignalError(f"{path} promises {fs} samples per second.")
    n_signals, length = int(record["signals"]), int(record["length"] or 0) or None
    if record["segments"] is not None:
        segments = tuple(_segment(path, line) for line in lines)
        if not segments or len(segments) != int(record["segments"]):
            raise SignalError(
                f"{path} promises {record['segments']} segments and names {len(segments)}: "
                f"{first!r}."
            )
        return Header(path, fs, length, (), segments)
    signals = tuple(_signal(path, line, number) for number, line in enumerate(lines))
    if not signals or len(signals) != n_signals:
        raise SignalError(
            f"{path} promises {n_signals} signals and describes {len(signals)}: {first!r}."
        )
    return Header(path, fs, length, signals, ())


def record_files(path: Path) -> list[Path]:
    """List the files that make a record: headers, then each signal file that they name.

    Parameters
    ----------
    path : Path
        The header.

    Returns
    -------
    list of Path
        Files in one folder. Signal files and segments that aren't there are left out; reading a
        lead that needs them says so.

    Raises
    ------
    CellFileNotFoundError
        If the header is missing.
    SignalError
        If the header can't be one, or names a file outside its folder.
    """
    files = {path: None}
    headers = [read_header(path)]
    for segment in headers[0].segments:
        file = path.with_name(f"{segment.name}.hea")
        if file.is_file() and file not in files:
            files[file] = None
            headers.append(read_header(file))
    for header in headers:
        for signal in header.signals:
            file = path.with_name(signal.file)
            if signal.format != "0" and file.is_file():
                files[file] = None
    return list(files)


def _lines(path: Path) -> list[str]:
    """Header lines without comments; the first describes the record, each other one a part."""
    if not path.is_file():
        raise CellFileNotFoundError(f"no WFDB header {path}.")
    try:
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise SignalError(
                f"{path} has {path.stat().st_size} bytes; a WFDB header has at most "
                f"{MAX_HEADER_BYTES}."
            )
        content = path.read_bytes()
    except OSError as cause:
        raise SignalError(f"{path} can't be read: {cause}.") from cause
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    stripped = (line.strip(" \t\r") for line in text.split("\n"))
    kept = [line for line in stripped if line and not line.startswith("#")]
    if not kept:
        raise SignalError(f"{path} is empty; expected a WFDB header.")
    return kept


def _match(path: Path, pattern: re.Pattern[str], line: str) -> re.Match[str]:
    match = pattern.fullmatch(line)
    if match is None or re.search(rf"\d{{{_MOST_DIGITS + 1}}}", match.group().split("#")[0]):
        raise SignalError(f"{path} can't be read as a WFDB record: {line[:200]!r}.")
    return match


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and math.isfinite(float(text))
    except ValueError:
        return False


def _segment(path: Path, line: str) -> Segment:
    match = _match(path, _SEGMENT_LINE, line)
    if match["name"] != "~":
        _check_name(path, match["name"], "segment")
    return Segment(match["name"], int(match["length"]))


def _signal(path: Path, line: str, number: int) -> Signal:
    match = _match(path, _SIGNAL_LINE, line)
    if match["format"] != "0":
        _check_name(path, match["file"], "signal file")
    return Signal(
        name=match["name"] or f"signal {number}",
        file=match["file"],
        format=match["format"],
        per_frame=int(match["frame"] or 1) or 1,
        skew=int(match["skew"] or 0),
        offset=int(match["offset"] or 0),
        initial=int(match["initial"] or 0),
        checksum=None if match["sum"] is None else int(match["sum"]),
        block=int(match["block"] or 0),
        baseline=int(match["baseline"] or match["zero"] or 0),
        gain=match["gain"],
        unit=match["unit"],
        line=line,
        position=number,
    )


def _check_name(path: Path, name: str, what: str) -> None:
    if name != Path(name).name or name in ("..", "-", "~"):
        raise SignalError(
            f"{path} names the {what} {name!r}; expected a file name in the same folder."
        )
