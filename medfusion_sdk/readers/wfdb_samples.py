"""Samples of WFDB signal files, decoded from their thirteen formats in bounded memory.

Written from the format's definition (signal(5) of PhysioNet's WFDB manual): wfdb's own reader
averages the samples of a frame and fills the end of shifted signals with numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from medfusion_sdk.exceptions import SignalError
from medfusion_sdk.readers.wfdb_flac import COMPRESSED, flac_parts
from medfusion_sdk.readers.wfdb_header import Signal

__all__ = ["FORMATS", "invalid_code", "n_bytes", "n_samples", "read_samples"]

# Samples and bytes of what is decoded together.
_BLOCKS = {
    "8": (1, 1),
    "80": (1, 1),
    "16": (1, 2),
    "61": (1, 2),
    "160": (1, 2),
    "24": (1, 3),
    "32": (1, 4),
    "212": (2, 3),
    "310": (3, 4),
    "311": (3, 4),
}
FORMATS = (*_BLOCKS, *COMPRESSED)
# The number of bits says the smallest value, which marks a sample as invalid.
_BITS = {"80": 8, "212": 12, "310": 10, "311": 10, "24": 24, "32": 32, "508": 8, "524": 24}
# Of a block that isn't full: the bytes of one sample, and of two.
_PARTS = {"212": (0, 2), "310": (0, 2, 4), "311": (0, 2, 3)}
_SAMPLES_AT_ONCE = 1 << 21


def invalid_code(fmt: str) -> int | None:
    """Say which value marks a sample as invalid.

    Parameters
    ----------
    fmt : str
        One of ``FORMATS``.

    Returns
    -------
    int or None
        The smallest value; differences (format 8) have none.
    """
    return None if fmt == "8" else -(1 << (_BITS.get(fmt, 16) - 1))


def n_bytes(fmt: str, samples: int) -> int:
    """Count the bytes of samples.

    Parameters
    ----------
    fmt : str
        One of fixed size.
    samples : int
        How many.

    Returns
    -------
    int
        The least that holds them.
    """
    per_block, size = _BLOCKS[fmt]
    whole, rest = divmod(samples, per_block)
    return whole * size + (_PARTS[fmt][rest] if rest else 0)


def n_samples(fmt: str, size: int) -> int:
    """Count the samples that bytes can hold.

    Parameters
    ----------
    fmt : str
        One of fixed size.
    size : int
        Bytes.

    Returns
    -------
    int
        The most of them.
    """
    per_block, block = _BLOCKS[fmt]
    most = -(-size * per_block // block)
    while n_bytes(fmt, most) > size:
        most -= 1
    return most


def read_samples(
    file: Path, group: Sequence[Signal], chosen: Sequence[int], frames: int
) -> list[np.ndarray]:
    """Decode some signals of a file.

    Parameters
    ----------
    file : Path
        The signal file, large enough.
    group : sequence of Signal
        All signals in it, in the header's order.
    chosen : sequence of int
        Which of them, by their place in the group.
    frames : int
        How many, from the first.

    Returns
    -------
    list of ndarray of shape (frames * per_frame,), int64
        As stored: neither shifted nor scaled, codes of invalid samples among them.

    Raises
    ------
    SignalError
        If the file can't be read.
    """
    ends = np.cumsum([signal.per_frame for signal in group])
    columns = [slice(ends[i] - group[i].per_frame, ends[i]) for i in chosen]
    found = [np.empty((frames, group[i].per_frame), dtype=np.int64) for i in chosen]
    read = flac_parts if group[0].format in COMPRESSED else _plain_parts
    start = 0
    for part in read(file, group, frames):
        for signal, column in zip(found, columns, strict=True):
            signal[start : start + len(part)] = part[:, column]
        start += len(part)
    if start < frames:
        raise SignalError(f"{file} ends after {start} of {frames} frames: it is cut off.")
    flat = [signal.reshape(-1) for signal in found]
    if group[0].format == "8":
        return [group[i].initial + np.cumsum(each) for i, each in zip(chosen, flat, strict=True)]
    return flat


def _plain_parts(file: Path, group: Sequence[Signal], frames: int) -> Iterator[np.ndarray]:
    """Frames of a file of fixed size, some at a time: (frames, samples of all signals)."""
    fmt, width = group[0].format, sum(signal.per_frame for signal in group)
    # Six frames hold whole blocks in every format.
    at_once = max(6, _SAMPLES_AT_ONCE // width // 6 * 6)
    try:
        with file.open("rb") as stream:
            stream.seek(group[0].offset)
            for start in range(0, frames, at_once):
                n = min(at_once, frames - start) * width
                content = np.frombuffer(stream.read(n_bytes(fmt, n)), dtype=np.uint8)
                samples = _DECODERS[fmt](_whole_blocks(content, fmt))
                yield samples[: min(n, n_samples(fmt, len(content))) // width * width].reshape(
                    -1, width
                )
    except OSError as cause:
        raise SignalError(f"{file} can't be read: {cause}.") from cause


def _whole_blocks(content: np.ndarray, fmt: str) -> np.ndarray:
    """Bytes as rows of blocks, (blocks, bytes of one), the last one filled up with zeros."""
    size = _BLOCKS[fmt][1]
    return np.pad(content, (0, -len(content) % size)).reshape(-1, size)


def _signed(samples: np.ndarray, bits: int) -> np.ndarray:
    return (samples ^ (1 << (bits - 1))) - (1 << (bits - 1))


def _bytes_of(bits: int, order: str = "little") -> Callable[[np.ndarray], np.ndarray]:
    def decode(blocks: np.ndarray) -> np.ndarray:
        ordered = blocks if order == "little" else blocks[:, ::-1]
        weights = 1 << (8 * np.arange(blocks.shape[1], dtype=np.int64))
        return _signed(ordered.astype(np.int64) @ weights, bits)

    return decode


def _offset_binary(bits: int) -> Callable[[np.ndarray], np.ndarray]:
    def decode(blocks: np.ndarray) -> np.ndarray:
        weights = 1 << (8 * np.arange(blocks.shape[1], dtype=np.int64))
        return blocks.astype(np.int64) @ weights - (1 << (bits - 1))

    return decode


def _212(blocks: np.ndarray) -> np.ndarray:
    first, middle, last = blocks.T.astype(np.int64)
    pairs = np.stack([first | (middle & 0x0F) << 8, last | (middle & 0xF0) << 4], axis=1)
    return _signed(pairs.reshape(-1), 12)


def _310(blocks: np.ndarray) -> np.ndarray:
    a, b, c, d = blocks.T.astype(np.int64)
    first = (a >> 1) | (b & 7) << 7
    second = (c >> 1) | (d & 7) << 7
    third = (b >> 3) | (d >> 3) << 5
    return _signed(np.stack([first, second, third], axis=1).reshape(-1), 10)


def _311(blocks: np.ndarray) -> np.ndarray:
    word = blocks.astype(np.int64) @ (1 << (8 * np.arange(4, dtype=np.int64)))
    triple = [word & 0x3FF, word >> 10 & 0x3FF, word >> 20 & 0x3FF]
    return _signed(np.stack(triple, axis=1).reshape(-1), 10)


_DECODERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "8": _bytes_of(8),
    "80": _offset_binary(8),
    "16": _bytes_of(16),
    "61": _bytes_of(16, "big"),
    "160": _offset_binary(16),
    "24": _bytes_of(24),
    "32": _bytes_of(32),
    "212": _212,
    "310": _310,
    "311": _311,
}
