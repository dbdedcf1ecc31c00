"""Order items into batches, compute them side by side, and get through when memory runs out."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from medfusion_sdk.exceptions import EncoderWarning

if TYPE_CHECKING:
    import torch

__all__ = ["compute_batches", "plan_batches"]

Result = TypeVar("Result")


def plan_batches(
    sizes: Sequence[int],
    *,
    budget: int | None = None,
    max_items: int | None = None,
    equal: bool = False,
) -> list[list[int]]:
    """Put items of like size together, the largest first.

    The largest batch comes first, so memory runs out at the beginning or never.

    Parameters
    ----------
    sizes : sequence of int
        Size of each item, for example its number of tokens.
    budget : int, optional
        Most a batch may cost: its largest item times its number of items. An item beyond
        the budget is a batch of its own.
    max_items : int, optional
        Most items in a batch.
    equal : bool, default=False
        Whether the items of a batch have to be of one size.

    Returns
    -------
    list of list of int
        Positions of the items; each exactly once.

    Examples
    --------
    >>> plan_batches([3, 9, 2, 8], budget=18)
    [[1, 3], [0, 2]]
    """
    batches: list[list[int]] = []
    largest = 0
    for item in np.argsort(-np.asarray(sizes, dtype=np.int64), kind="stable").tolist():
        batch = batches[-1] if batches else []
        full = (
            (max_items is not None and len(batch) >= max_items)
            or (budget is not None and (len(batch) + 1) * largest > budget)
            or (equal and sizes[item] != largest)
        )
        if not batch or full:
            batches.append([item])
            largest = sizes[item]
        else:
            batch.append(item)
    return batches


def compute_batches(
    batches: Sequence[list[int]],
    compute: Callable[[list[int]], Result],
    *,
    sizes: Sequence[int],
    device: torch.device | None = None,
) -> Iterator[tuple[list[int], Result]]:
    """Compute batches in threads of their own, halving those that memory doesn't hold.

    The next batches are under way while the caller stores what it got.

    Parameters
    ----------
    batches : sequence of list of int
        From :func:`plan_batches`.
    compute : callable
        Takes the positions of one batch.
    sizes : sequence of int
        As given to :func:`plan_batches`.
    device : torch.device, optional
        Where they are computed. On a CPU several are at a time, each on one thread.

    Yields
    ------
    positions : list of int
        A batch, or what halving left of one, in no particular order.
    result : object
        What `compute` made of it.

    Warns
    -----
    EncoderWarning
        Once, if a batch had to be halved.
    """
    from medfusion_sdk.backbones.threads import set_threads_here

    queue = _Queue(batches, sizes)
    workers, threads = _workers(len(batches), device)
    running: dict[Future[Result], list[int]] = {}
    with ThreadPoolExecutor(
        workers, "medfusion-batch", initializer=set_threads_here, initargs=(threads,)
    ) as pool:
        while queue.waiting or running:
            # One more than are computed, so that no worker waits for the caller.
            while queue.waiting and len(running) <= workers:
                batch = queue.take()
                running[pool.submit(compute, batch)] = batch
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                batch = running.pop(future)
                if queue.took_back(batch, future.exception()):
                    continue
                yield batch, future.result()


class _Queue:
    """Batches that wait, split where the like of them didn't fit into memory."""

    def __init__(self, batches: Sequence[list[int]], sizes: Sequence[int]) -> None:
        self.waiting = [list(batch) for batch in reversed(batches)]
        self._sizes = sizes
        self._too_much: int | None = None

    def take(self) -> list[int]:
        while True:
            batch = self.waiting.pop()
            if self._too_much is None or len(batch) == 1 or self._cost(batch) < self._too_much:
                return batch
            self._put_halves(batch)

    def took_back(self, batch: list[int], error: BaseException | None) -> bool:
        """Put the halves of a batch that ran out of memory into the queue."""
        from medfusion_sdk.backbones.devices import is_out_of_memory

        if error is None or len(batch) == 1 or not is_out_of_memory(error):
            return False
        # What the failed attempt had allocated hangs on the frames of its traceback.
        traceback.clear_frames(error.__traceback__)
        if self._too_much is None:
            warnings.warn(
                f"memory ran out with a batch of {len(batch)}; going on with halves, with the "
                "same results. A smaller batch_size avoids the attempt.",
                EncoderWarning,
                stacklevel=2,
            )
        self._too_much = min(self._cost(batch), self._too_much or self._cost(batch))
        self._put_halves(batch)
        return True

    def _cost(self, batch: list[int]) -> int:
        return len(batch) * max(self._sizes[item] for item in batch)

    def _put_halves(self, batch: list[int]) -> None:
        middle = (len(batch) + 1) // 2
        self.waiting += [batch[middle:], batch[:middle]]


def _workers(n_batches: int, device: torch.device | None) -> tuple[int, int]:
    """How many batches to compute at a time, and on how many of torch's threads each.

    On a CPU the threads of one small batch wait for each other after every layer, the more so
    on a busy machine; whole batches don't wait. Of few batches each has all threads in turn.
    """
    from medfusion_sdk.backbones.devices import allowed_threads

    threads = allowed_threads()
    if device is None or device.type != "cpu" or n_batches < threads:
        return 1, threads
    return threads, 1
