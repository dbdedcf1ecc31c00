"""WFDB signal files in FLAC (formats 508, 516 and 524), read by soundfile, which wfdb brings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import MissingDependencyError, SignalError
from medfusion_sdk.readers.wfdb_header import Signal

__all__ = ["COMPRESSED", "flac_frames", "flac_parts"]

COMPRESSED = ("508", "516", "524")

_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}
_SAMPLES_AT_ONCE = 1 << 20  # libsndfile fails beyond 2 ** 24


def flac_frames(file: Path, group: Sequence[Signal]) -> int:
    """Count the frames that a FLAC file states, without decoding it.

    Parameters
    ----------
    file : Path
        The signal file.
    group : sequence of Signal
        All signals in it.

    Returns
    -------
    int
        Whole frames after the offset.

    Raises
    ------
    SignalError
        If the file isn't FLAC of the header's format and number of signals.
    """
    with _opened(file, group) as stream:
        return max(0, stream.frames - group[0].offset) // group[0].per_frame


def flac_parts(file: Path, group: Sequence[Signal], frames: int) -> Iterator[np.ndarray]:
    """Decode frames, some at a time.

    Parameters
    ----------
    file : Path
        The signal file.
    group : sequence of Signal
        All signals in it.
    frames : int
        How many, from the first; fewer come out if the file ends before.

    Yields
    ------
    ndarray of shape (frames, len(group) * per_frame)
        Integers.
    """
    per_frame = group[0].per_frame
    at_once = max(1, _SAMPLES_AT_ONCE // (per_frame * len(group)))
    with _opened(file, group) as stream:
        stream.seek(group[0].offset)
        for start in range(0, frames, at_once):
            n = min(at_once, frames - start)
            content = stream.read(n * per_frame, dtype="int32", always_2d=True)
            whole = len(content) // per_frame * per_frame
            # The bits are the upper ones of 32.
            samples = content[:whole] >> (32 - _BITS[stream.subtype])
            samples = samples.reshape(-1, per_frame, len(group)).transpose(0, 2, 1)
            yield samples.reshape(len(samples), -1)
            if whole < n * per_frame:
                return


@contextmanager
def _opened(file: Path, group: Sequence[Signal]) -> Iterator[Any]:
    """Open a FLAC file; whatever libsndfile finds wrong in it is a SignalError."""
    try:
        import soundfile
    except (ImportError, OSError) as cause:
        raise MissingDependencyError(
            f"reading {file} needs soundfile: pip install 'medfusion-sdk[signals]'."
        ) from cause
    fmt = group[0].format
    if len({signal.per_frame for signal in group}) > 1:
        raise SignalError(f"{file} is FLAC, where signals have one rate; its header differs.")
    try:
        with file.open("rb") as raw:
            if raw.read(4) != b"fLaC":
                raise SignalError(f"{file} isn't FLAC, which format {fmt} is.")
            raw.seek(0)
            with soundfile.SoundFile(raw) as stream:
                bits = _BITS.get(stream.subtype)
                if bits is None or bits > int(fmt) - 500 or stream.channels != len(group):
                    raise SignalError(
                        f"{file} has {stream.channels} signals in {stream.subtype}; its header "
                        f"describes {len(group)} in format {fmt}."
                    )
                yield stream
    except (RuntimeError, OSError) as cause:
        raise SignalError(f"{file} can't be read in format {fmt}: {cause}.") from cause
