"""Cells that are files -> vectors, with no more than a few batches of them in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from medfusion_sdk.encoders._batching import compute_batches, plan_batches
from medfusion_sdk.exceptions import CellError

if TYPE_CHECKING:
    import torch

__all__ = ["encode_cells", "read_first"]

Item = TypeVar("Item")


class _Report(Protocol):
    """Where bad cells go."""

    def bad(self, position: int, error: CellError) -> None: ...


def encode_cells(
    cells: Sequence[Any],
    run: _Report,
    *,
    read: Callable[[Any], Item],
    embed: Callable[[list[Item]], np.ndarray],
    size: int,
    device: torch.device,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Read and embed cells batch by batch.

    Parameters
    ----------
    cells : sequence
        What the encoder was handed.
    run : object
        Its method ``bad(position, error)`` is told of each bad cell.
    read : callable
        Cell to item; raises CellError for a bad one.
    embed : callable
        Some items to (n, width).
    size : int
        Cells per batch.
    device : torch.device
        Where they are embedded.

    Yields
    ------
    positions : list of int
        Of good cells.
    vectors : ndarray of shape (n, width)
        Their embeddings.
    """

    def compute(batch: list[int]) -> tuple[list[int], np.ndarray | None, dict[int, CellError]]:
        items, bad = [], {}
        for position in batch:
            try:
                items.append(read(cells[position]))
            except CellError as error:
                bad[position] = error
        good = [position for position in batch if position not in bad]
        return good, embed(items) if items else None, bad

    sizes = [1] * len(cells)
    batches = plan_batches(sizes, max_items=size)
    for _, (good, vectors, bad) in compute_batches(batches, compute, sizes=sizes, device=device):
        for position, error in bad.items():
            run.bad(position, error)
        if vectors is not None:
            yield good, vectors


def read_first(cells: Sequence[Any], read: Callable[[Any], Item], n: int) -> list[Item]:
    """Read the first good cells, at most `n`; bad ones are reported when their turn comes.

    Parameters
    ----------
    cells : sequence
        What the encoder was handed.
    read : callable
        Cell to item.
    n : int
        How many.

    Returns
    -------
    list
        Items.
    """
    items: list[Item] = []
    for cell in cells:
        if len(items) == n:
            break
        try:
            items.append(read(cell))
        except CellError:
            continue
    return items
