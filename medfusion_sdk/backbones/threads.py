"""Torch's CPU threads, where they would do more harm than good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread, and restore the number of threads afterwards.

    For thousands of small steps: spread over threads, each step waits for the slowest of them,
    which on a busy machine takes until its next time slice.

    Yields
    ------
    None
        Nothing.

    Examples
    --------
    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
