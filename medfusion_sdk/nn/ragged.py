"""Sequences of unequal length, kept end to end: no padding until a few of them are computed on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Ragged", "length_buckets", "mean_of_parts"]


class Ragged:
    """Rows of token states, each with its own number of tokens.

    It can be sliced, indexed and moved as a tensor of rows can.

    Parameters
    ----------
    values : Tensor of shape (total, ...)
        Tokens of all rows, end to end.
    lengths : Tensor of shape (n_rows,), int64
        Tokens of each row; zero where a row has none.

    Examples
    --------
    >>> import torch
    >>> rows = Ragged(torch.arange(5.0), torch.tensor([2, 0, 3]))
    >>> rows.index_select(0, torch.tensor([2, 0])).padded()[0]
    tensor([[2., 3., 4.],
            [0., 1., 0.]])
    """

    def __init__(self, values: Tensor, lengths: Tensor) -> None:
        self.values = values
        self.lengths = lengths
        self.starts = lengths.cumsum(0) - lengths

    @classmethod
    def of(cls, rows: Sequence[Tensor]) -> Ragged:
        """Put rows end to end.

        Parameters
        ----------
        rows : sequence of Tensor of shape (length, ...)
            At least one.

        Returns
        -------
        Ragged
            The same rows.
        """
        return cls(torch.cat(list(rows)), torch.tensor([len(row) for row in rows]))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: slice) -> Ragged:
        return self.index_select(0, torch.arange(len(self), device=self.lengths.device)[rows])

    @property
    def device(self) -> torch.device:
        """Where the values lie."""
        return self.values.device

    def index_select(self, dim: int, rows: Tensor) -> Ragged:
        """Take rows.

        Parameters
        ----------
        dim : int
            Zero; there for the likeness to a tensor.
        rows : Tensor of int64
            Positions.

        Returns
        -------
        Ragged
            Those rows, in that order.
        """
        rows = rows.to(self.lengths.device)
        lengths = self.lengths[rows]
        starts = lengths.cumsum(0) - lengths
        within = torch.arange(int(lengths.sum()), device=rows.device)
        within = within - starts.repeat_interleave(lengths)
        taken = self.starts[rows].repeat_interleave(lengths) + within
        return Ragged(self.values.index_select(0, taken), lengths)

    def split(self, counts: Tensor) -> Ragged:
        """Divide rows into parts of equal length, but for one token: longer ones first.

        Parameters
        ----------
        counts : Tensor of shape (n_rows,), int64
            Parts of each row; a row of none has no values.

        Returns
        -------
        Ragged
            All parts as rows, in order; the same values.
        """
        if bool((counts == 1).all()):
            return self
        owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        first = (counts.cumsum(0) - counts)[owner]
        place = torch.arange(len(owner), device=counts.device) - first
        longer = place < (self.lengths % counts.clamp(min=1))[owner]
        return Ragged(self.values, (self.lengths // counts.clamp(min=1))[owner] + longer)

    def to(self, *args: object) -> Ragged:
        """Move or cast the values.

        Parameters
        ----------
        *args : object
            As :meth:`torch.Tensor.to` takes them.

        Returns
        -------
        Ragged
            The same rows there; lengths stay whole numbers.
        """
        values = self.values.to(*args)  # type: ignore[call-overload]
        return Ragged(values, self.lengths.to(values.device))

    def padded(self) -> tuple[Tensor, Tensor]:
        """Pad on the right with zeros.

        Returns
        -------
        values : Tensor of shape (n_rows, longest, ...)
            Rows of one length.
        mask : Tensor of shape (n_rows, longest), bool
            True where a token is.
        """
        longest = int(self.lengths.max()) if len(self) else 0
        positions = torch.arange(longest, device=self.lengths.device)
        mask = positions < self.lengths[:, None]
        padded = self.values.new_zeros((*mask.shape, *self.values.shape[1:]))
        padded[mask] = self.values
        return padded, mask


def mean_of_parts(values: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """Average over the parts of each row.

    Parameters
    ----------
    values : Tensor of shape (n_parts, ...)
        Parts of all rows, in order.
    weights : Tensor of shape (n_parts,)
        Weight of each.
    counts : Tensor of shape (n_rows,), int64
        Parts of each row; one at least.

    Returns
    -------
    Tensor of shape (n_rows, ...)
        One mean per row.

    Examples
    --------
    >>> import torch
    >>> mean_of_parts(torch.tensor([1.0, 3.0, 5.0]), torch.ones(3), torch.tensor([2, 1]))
    tensor([2., 5.])
    """
    owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    total = values.new_zeros(len(counts)).index_add(0, owner, weights.to(values))
    shares = (weights.to(values) / total[owner]).reshape(-1, *[1] * (values.ndim - 1))
    out = values.new_zeros((len(counts), *values.shape[1:]))
    return out.index_add(0, owner, values * shares)


def length_buckets(
    lengths: Tensor,
    min_tokens: int = 128,
    fill: float = 0.75,
    max_tokens: int | None = None,
) -> list[Tensor]:
    """Group rows of like length, so that little is computed on padding.

    Parameters
    ----------
    lengths : Tensor of shape (n_rows,), int64
        Tokens of each row.
    min_tokens : int, default=128
        A group isn't closed before it has as many tokens: small ones don't fill a processor.
    fill : float, default=0.75
        A group of that many tokens ends where a row is shorter than this share of its longest.
    max_tokens : int, optional
        Most tokens of a group, padding included; a single row may have more.

    Returns
    -------
    list of Tensor
        Positions of the rows, longest first.

    Examples
    --------
    >>> import torch
    >>> length_buckets(torch.tensor([100, 3, 90, 2]), min_tokens=100)
    [tensor([0, 2]), tensor([1, 3])]
    """
    order = torch.argsort(lengths, descending=True, stable=True)
    buckets: list[Tensor] = []
    start = 0
    sorted_lengths = lengths[order].tolist()
    for i, length in enumerate(sorted_lengths):
        longest = sorted_lengths[start]
        full = max_tokens is not None and (i - start + 1) * longest > max_tokens
        if full or (length < fill * longest and (i - start) * longest >= min_tokens):
            buckets.append(order[start:i])
            start = i
    buckets.append(order[start:])
    return [bucket for bucket in buckets if len(bucket)]
