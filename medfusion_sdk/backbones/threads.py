"""Torch's number of CPU threads, set for the calling thread and for no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["one_thread", "set_threads_here", "threads_here"]


def set_threads_here(count: int) -> None:
    """Set the number of CPU threads for what the calling thread computes, for good.

    ``torch.set_num_threads`` would also set what every thread to come begins with: one that begins
    while another computes on a single CPU thread would stay at one for ever. OpenMP, which torch
    computes on, keeps a number for each thread.

    Parameters
    ----------
    count : int
        How many; at least one.

    Examples
    --------
    >>> import torch
    >>> set_threads_here(torch.get_num_threads())  # nothing to do
    """
    # The first question is what gives a new thread its number.
    if torch.get_num_threads() != count:
        _openmp().limit(limits=count)


@contextmanager
def threads_here(count: int) -> Iterator[None]:
    """Compute on so many CPU threads, and restore the number of threads afterwards.

    Parameters
    ----------
    count : int
        How many; at least one.

    Yields
    ------
    None
        Nothing.

    Examples
    --------
    >>> with threads_here(1):
    ...     torch.get_num_threads()
    1
    """
    if torch.get_num_threads() == count:
        yield
        return
    with _openmp().limit(limits=count):
        yield


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
    with threads_here(1):
        yield


@lru_cache(maxsize=1)
def _openmp() -> ThreadpoolController:
    """The OpenMP libraries of this process, torch's among them since it is imported."""
    return ThreadpoolController().select(user_api="openmp")
