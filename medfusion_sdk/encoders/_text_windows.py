"""Texts that are read window by window, and texts of which only the head is read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medfusion_sdk.encoders._batching import compute_batches
from medfusion_sdk.exceptions import EncoderWarning

if TYPE_CHECKING:
    import torch

    from medfusion_sdk.encoders.base import _Run
    from medfusion_sdk.readers.cells import Column

__all__ = ["compute_texts", "parts", "warn_of_cut", "warn_of_cut_items"]

# Characters whose tokens are held at once; a longer text is a part of its own.
_AT_ONCE = 1 << 24
_SHOWN_ROWS = 5


def parts(texts: Sequence[str]) -> Iterator[list[int]]:
    """Divide texts so that the tokens of one part fit into memory.

    Parameters
    ----------
    texts : sequence of str
        Any number of texts.

    Yields
    ------
    list of int
        Positions of consecutive texts.
    """
    part: list[int] = []
    size = 0
    for i, text in enumerate(texts):
        if part and size + len(text) > _AT_ONCE:
            yield part
            part, size = [], 0
        part.append(i)
        size += len(text)
    if part:
        yield part


def compute_texts(
    texts: Sequence[Sequence[np.ndarray]],
    compute: Callable[[list[np.ndarray]], np.ndarray],
    plan: Callable[[list[int]], list[list[int]]],
    device: torch.device,
) -> Iterator[list[tuple[int, list[np.ndarray]]]]:
    """Compute on texts that are divided into windows; a batch holds windows of several texts.

    Parameters
    ----------
    texts : sequence of sequences of ndarray
        Token ids of the windows of each text.
    compute : callable
        Takes the windows of a batch; returns an array with one entry for each.
    plan : callable
        Makes batches of windows from their numbers of tokens.
    device : torch.device
        Where it is computed.

    Yields
    ------
    list of (int, list of ndarray)
        Texts whose last window was computed, each by its position and with what its windows gave,
        in the order of the text.
    """
    windows = [window for text in texts for window in text]
    owners = [i for i, text in enumerate(texts) for _ in text]
    sizes = [len(window) for window in windows]
    batches = plan(sizes)
    waiting: dict[int, dict[int, np.ndarray]] = {}
    for batch, results in compute_batches(
        batches, lambda batch: compute([windows[i] for i in batch]), sizes=sizes, device=device
    ):
        whole = []
        for window, result in zip(batch, results, strict=True):
            found = waiting.setdefault(owners[window], {})
            found[window] = result
            if len(found) == len(texts[owners[window]]):
                whole.append((owners[window], [found[i] for i in sorted(found)]))
                del waiting[owners[window]]
        if whole:
            yield whole


def warn_of_cut(column: Column, lengths: Mapping[int, int], limit: int, advice: str) -> None:
    """Tell of which rows only the head was read.

    Parameters
    ----------
    column : Column
        Texts.
    lengths : mapping of int to int
        Tokens of the text of each row, by the row's position.
    limit : int
        Tokens that are read.
    advice : str
        What reads more.

    Warns
    -----
    EncoderWarning
        If a text has more; once, with their share and the first rows.
    """
    rows = sorted(row for row, length in lengths.items() if length > limit)
    if not rows:
        return
    labels = [column.rows[row] for row in rows[:_SHOWN_ROWS]]
    shown = ", ".join(repr(label.item() if hasattr(label, "item") else label) for label in labels)
    more = ", ..." if len(rows) > _SHOWN_ROWS else ""
    n_texts = len(column.present)
    warnings.warn(
        f"{len(rows)} of {n_texts} texts of column {column.name!r} ({len(rows) / n_texts:.1%}) "
        f"have more than the {limit} tokens that are read of each, the longest "
        f"{max(lengths.values())}; what follows has no say: rows {shown}{more}. {advice}",
        EncoderWarning,
        stacklevel=6,
    )


def warn_of_cut_items(run: _Run, values: Sequence[np.ndarray | None], limit: int) -> None:
    """Tell of which rows of a run only the head was read.

    Parameters
    ----------
    run : _Run
        The pass over the column.
    values : sequence of ndarray or None
        How long each distinct text is; None for one that can't be used.
    limit : int
        Tokens that are read.
    """
    lengths = {
        row: int(value)
        for rows, value in zip(run.positions, values, strict=True)
        if value is not None
        for row in rows
    }
    warn_of_cut(
        run.column,
        lengths,
        limit,
        "long='chunks' (long_text of the dual adapter) reads all of a text, window by window.",
    )
