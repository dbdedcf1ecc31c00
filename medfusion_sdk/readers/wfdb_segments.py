"""WFDB records of several segments: put together in time, gaps and absent signals missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medfusion_sdk.exceptions import SignalError
from medfusion_sdk.readers.wfdb_header import Header, Signal, read_header
from medfusion_sdk.readers.wfdb_signals import read_signals, require_few

__all__ = ["layout_of", "read_segments"]


def layout_of(master: Header) -> tuple[Signal, ...]:
    """Say which signals a record of segments has.

    Parameters
    ----------
    master : Header
        Of the record.

    Returns
    -------
    tuple of Signal
        Those of its layout, a first segment without samples, or of its first segment that isn't a
        gap, whose signals all have.

    Raises
    ------
    CellFileNotFoundError, SignalError
        If that segment can't be read.
    """
    for segment in master.segments:
        if segment.name != "~":
            return _segment(master, segment.name).signals
    raise SignalError(f"{master.path} consists of gaps.")


def read_segments(
    master: Header, layout: Sequence[Signal], chosen: Sequence[int], stop: int | None
) -> list[np.ndarray]:
    """Read some signals of a record of segments.

    Parameters
    ----------
    master : Header
        Of the record.
    layout : sequence of Signal
        From :func:`layout_of`.
    chosen : sequence of int
        Positions in it.
    stop : int or None
        Frames to read at most.

    Returns
    -------
    list of ndarray of shape (frames * per_frame,), float64
        In mV; NaN in gaps, and where a segment hasn't got the signal.

    Raises
    ------
    CellFileNotFoundError, SignalError
        If a segment is missing or contradicts the record's header.
    """
    length = sum(segment.length for segment in master.segments)
    if master.length not in (None, length):
        raise SignalError(
            f"{master.path} promises {master.length} frames; its segments have {length}."
        )
    frames = length if stop is None else min(stop, length)
    require_few(master.path, [frames * layout[i].per_frame for i in chosen])
    whole = [np.full(frames * layout[i].per_frame, np.nan) for i in chosen]
    start = 0
    for segment in master.segments:
        left = frames - start
        if left > 0 and segment.length and segment.name != "~":
            _fill(master, segment.name, (start, segment.length, left), layout, chosen, whole)
        start += segment.length
    return whole


def _fill(
    master: Header,
    name: str,
    place: tuple[int, int, int],
    layout: Sequence[Signal],
    chosen: Sequence[int],
    whole: Sequence[np.ndarray],
) -> None:
    """Write one segment's signals in place: its first frame, its length, and how many to read."""
    start, length, left = place
    header = _segment(master, name)
    if header.length not in (None, length) or header.fs != master.fs:
        raise SignalError(
            f"{master.path} promises {length} frames at {master.fs:g} Hz in segment {name}; its "
            f"own header has {header.length} at {header.fs:g} Hz."
        )
    found = [(k, _position(master, header, layout, i)) for k, i in enumerate(chosen)]
    there = [(k, position) for k, position in found if position is not None]
    signals = read_signals(header, [position for _, position in there], left) if there else []
    for (k, position), samples in zip(there, signals, strict=True):
        per_frame = layout[chosen[k]].per_frame
        if header.signals[position].per_frame != per_frame:
            raise SignalError(
                f"{header.path} has {layout[chosen[k]].name} at another rate than the record."
            )
        if len(samples) != min(left, length) * per_frame:
            raise SignalError(
                f"{master.path} promises {length} frames in segment {name}; it has "
                f"{len(samples) // per_frame}."
            )
        whole[k][start * per_frame :][: len(samples)] = samples


def _segment(master: Header, name: str) -> Header:
    header = read_header(master.path.with_name(f"{name}.hea"))
    if header.segments:
        raise SignalError(f"{master.path} has the segment {name}, which has segments itself.")
    return header


def _position(master: Header, header: Header, layout: Sequence[Signal], wanted: int) -> int | None:
    """Where a segment has a signal of the layout: by name if layouts vary, else at its place."""
    name = layout[wanted].name
    if master.segments[0].length:
        same = [signal.name for signal in header.signals] == [signal.name for signal in layout]
        if not same:
            raise SignalError(
                f"{header.path} has other signals than the first segment of {master.path}, which "
                "has no layout segment to say so."
            )
        return wanted
    places = [i for i, signal in enumerate(header.signals) if signal.name == name]
    if len(places) > 1 or [signal.name for signal in layout].count(name) > 1:
        raise SignalError(f"{header.path} or the record's layout has several signals {name!r}.")
    return places[0] if places else None
