"""Batches as slices of tensors that already sit on the device: no loader, no collation.

What is too large for that comes as :class:`~medfusion_sdk.training.lazy.LazyRows`, which are sliced
alike and read one batch ahead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medfusion_sdk.exceptions import TrainingError
from medfusion_sdk.training.lazy import LazyRows, one_ahead

__all__ = ["Batch", "Batches", "move", "take"]


class Batch(NamedTuple):
    """Some rows: their tensors, their weights, and how much they count together."""

    tensors: dict[str, Tensor]
    sample_weight: Tensor | None
    total: float


class Batches:
    """Rows of equally long tensors, batch by batch; iterate once per epoch.

    Parameters
    ----------
    data : mapping of str to Tensor
        Tensors of shape (n_rows, ...), or what is sliced and moved like them, all on one device.
    sample_weight : Tensor of shape (n_rows,) or None
        One weight per row. Shuffled mini-batches have rows as often as these weigh, and no
        weights: a pass has `n_rows` rows, each on average its weight over the mean weight times.
        So what a step expects is what the table's would be with heavy rows repeated, whatever the
        loss; a batch's mean, divided by the batch's own weights, would lean to the light rows.
    batch_size : int
        Rows per batch at most. Batches are as equal in length as can be, so that none is left
        with a single row.
    generator : torch.Generator or None, default=None
        Shuffles the rows anew for each pass. None, or a single batch, leaves their order alone.
    stratify : str or None, default=None
        Name of a tensor of shape (n_rows,). Each batch gets its share of the rows of each of its
        values, within one row: events, say, without which a batch of survival times tells nothing.
    """

    def __init__(
        self,
        data: Mapping[str, Tensor],
        sample_weight: Tensor | None,
        batch_size: int,
        generator: torch.Generator | None = None,
        stratify: str | None = None,
    ) -> None:
        self.data = dict(data)
        self.sample_weight = sample_weight
        self.n_rows = _common_length(self.data, sample_weight)
        self.batch_size = min(batch_size, self.n_rows)
        self.generator = generator
        self.stratify = stratify
        uneven = sample_weight is not None and bool((sample_weight != sample_weight[0]).any())
        self._weights = sample_weight if uneven and generator is not None else None

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        batches = map(self._take, self._rows())
        lazy = any(isinstance(column, LazyRows) for column in self.data.values())
        return one_ahead(batches) if lazy else batches

    def _rows(self) -> Iterator[Tensor | slice]:
        if len(self) == 1 or (self.generator is None and self.stratify is None):
            yield from self._in_order()
            return
        order = torch.arange(self.n_rows)
        if self.generator is not None:
            order = self._drawn()
        device = next(iter(self.data.values())).device
        yield from self._parts(order.to(device))

    @property
    def _draws(self) -> bool:
        """Whether rows are drawn by their weights."""
        return self._weights is not None and len(self) > 1

    def _drawn(self) -> Tensor:
        """Positions of a pass in random order; by weight, each its share rounded down or up."""
        order = torch.randperm(self.n_rows, generator=self.generator)
        if self._weights is None:
            return order
        weight = self._weights.cpu().double()[order]
        ends = weight.cumsum(0) * (self.n_rows / weight.sum())
        offset = torch.rand((), generator=self.generator, dtype=torch.float64)
        places = torch.searchsorted(ends, torch.arange(self.n_rows) + offset, right=True)
        drawn = order[places.clamp_max(self.n_rows - 1)]
        # Anew, or a row's copies would lie in one batch.
        return drawn[torch.randperm(self.n_rows, generator=self.generator)]

    def _parts(self, order: Tensor) -> Sequence[Tensor]:
        if self.stratify is None:
            return order.tensor_split(len(self))
        # Sorted by stratum, rows go to the batches in turn, like cards.
        order = order[torch.argsort(self.data[self.stratify][order], stable=True)]
        return [order[part :: len(self)] for part in range(len(self))]

    def _in_order(self) -> Iterator[slice]:
        stop = 0
        for part in range(len(self)):
            start, stop = stop, (part + 1) * self.n_rows // len(self)
            yield slice(start, stop)

    def _take(self, rows: Tensor | slice) -> Batch:
        tensors = take(self.data, rows)
        if self.sample_weight is None or self._draws:
            return Batch(tensors, None, float(len(next(iter(tensors.values())))))
        weight = _chosen(self.sample_weight, rows)
        return Batch(tensors, weight, float(weight.sum()))

    def halve(self) -> None:
        """Go on with batches of half the size."""
        self.batch_size = max(1, self.batch_size // 2)


def move(data: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the tensors on a device, the same objects where they are there already.

    Parameters
    ----------
    data : mapping of str to Tensor
        Tensors on any device.
    device : torch.device
        Where they are needed.

    Returns
    -------
    dict of str to Tensor
        The tensors there.
    """
    return {name: tensor.to(device) for name, tensor in data.items()}


def take(data: Mapping[str, Any], rows: Tensor | slice) -> dict[str, Tensor]:
    """Take rows of every tensor; what is lazy is read.

    Parameters
    ----------
    data : mapping of str to Tensor
        As for :class:`Batches`.
    rows : Tensor of int64, or slice
        Which.

    Returns
    -------
    dict of str to Tensor
        Those rows.
    """
    chosen = {name: _chosen(tensor, rows) for name, tensor in data.items()}
    return {name: c.load() if isinstance(c, LazyRows) else c for name, c in chosen.items()}


def _chosen(tensor: Any, rows: Tensor | slice) -> Any:
    if not isinstance(rows, slice):
        return tensor.index_select(0, rows)
    part = tensor[rows]
    # Sums round alike only from equally aligned places, which the midst of a tensor isn't.
    return part.clone() if rows.start and isinstance(part, Tensor) else part


def _common_length(data: Mapping[str, Tensor], sample_weight: Tensor | None) -> int:
    lengths = {name: len(tensor) for name, tensor in data.items()}
    if sample_weight is not None:
        lengths["sample_weight"] = len(sample_weight)
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise TrainingError(
            f"Training needs tensors of one length and at least one row, got lengths {lengths}."
        )
    return next(iter(lengths.values()))
