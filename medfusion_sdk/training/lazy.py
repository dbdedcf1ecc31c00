"""Rows that are read when their batch comes, for what is too large to lie in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["LazyRows", "one_ahead"]

Item = TypeVar("Item")


class LazyRows:
    """Rows in place of a tensor that would hold all of them.

    It can be sliced, indexed and moved as a tensor of rows can, and reads nothing by that: only
    :meth:`load` does.

    Parameters
    ----------
    read : callable
        Takes positions, returns an array with one row for each.
    rows : Tensor of int64
        Positions of these rows.
    device : torch.device, optional
        Where they are loaded to; main memory by default.

    Examples
    --------
    >>> import numpy as np, torch
    >>> rows = LazyRows(lambda places: np.array(places) ** 2.0, torch.arange(5))
    >>> rows.index_select(0, torch.tensor([4, 2])).load()
    tensor([16.,  4.], dtype=torch.float64)
    """

    def __init__(
        self,
        read: Callable[[Sequence[int]], np.ndarray],
        rows: Tensor,
        device: torch.device | None = None,
    ) -> None:
        self.read = read
        self.rows = rows.cpu()
        self.device = torch.device("cpu") if device is None else device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | Tensor) -> LazyRows:
        chosen = rows if isinstance(rows, slice) else rows.cpu()
        return LazyRows(self.read, self.rows[chosen], self.device)

    def index_select(self, dim: int, rows: Tensor) -> LazyRows:
        """Take rows.

        Parameters
        ----------
        dim : int
            Zero; there for the likeness to a tensor.
        rows : Tensor of int64
            Positions.

        Returns
        -------
        LazyRows
            Those rows, in that order, not read yet.
        """
        return self[rows]

    def to(self, device: torch.device) -> LazyRows:
        """Have them loaded to a device.

        Parameters
        ----------
        device : torch.device
            Where to.

        Returns
        -------
        LazyRows
            The same rows, not read yet.
        """
        return LazyRows(self.read, self.rows, device)

    def load(self) -> Tensor:
        """Read them.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            On the device.
        """
        return torch.from_numpy(self.read(self.rows.tolist())).to(self.device)


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Make the next item in a thread of its own while the present one is worked on.

    Parameters
    ----------
    items : iterator
        What is slow to come.

    Yields
    ------
    object
        The same items, in the same order; an error comes when its item would.

    Examples
    --------
    >>> list(one_ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="medfusion-reader") as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
