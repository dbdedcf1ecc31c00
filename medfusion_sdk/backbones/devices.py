"""Where to compute, and with how many threads: one answer for encoders and for training."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from medfusion_sdk.backbones.threads import threads_here
from medfusion_sdk.exceptions import DeviceError

__all__ = ["allowed_threads", "is_out_of_memory", "limit_threads", "resolve_device"]

# Allocation failures that reach Python as a plain RuntimeError: the CPU allocator's, cuBLAS's
# and cuDNN's, the driver's own, and Metal's.
_OUT_OF_MEMORY_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "alloc_failed",
    "not enough memory",
)


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the torch device that a ``device`` parameter stands for.

    Parameters
    ----------
    device : str or torch.device, default="auto"
        ``"auto"`` is the current CUDA device where there is one, else the CPU. Apple's ``"mps"``
        is only used when named: it has no float64 and repeats no sum bit for bit.

    Returns
    -------
    torch.device
        A device that this machine has.

    Raises
    ------
    DeviceError
        If the name isn't one of torch's, or this machine lacks the device.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(
            f"device={device!r} isn't a device name. Use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from error
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device={device!r} was asked for, but torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices here. Use device='auto' or 'cpu'."
        )
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(
            f"device={device!r} was asked for, but torch {torch.__version__} can't use Metal here. "
            "Use device='auto' or 'cpu'."
        )
    return resolved


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on whichever device.

    Parameters
    ----------
    error : BaseException
        What a computation raised.

    Returns
    -------
    bool
        Whether a smaller batch may get through.

    Examples
    --------
    >>> is_out_of_memory(MemoryError())
    True
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _OUT_OF_MEMORY_SIGNS)


@contextmanager
def limit_threads() -> Iterator[int]:
    """Keep torch from using more threads than a worker's share of the machine.

    In the main program nothing changes. In a worker, be it a process or a joblib thread, torch
    would take every core once per worker and they would stand in each other's way. There it
    is lowered, never raised, and the old number comes back on leaving.

    Yields
    ------
    int
        The number of threads that torch uses inside the block.

    Examples
    --------
    >>> import torch
    >>> with limit_threads() as threads:
    ...     threads == torch.get_num_threads()
    True
    """
    share = allowed_threads()
    with threads_here(share):
        yield share


def allowed_threads() -> int:
    """Tell how many threads torch may use here.

    Returns
    -------
    int
        As many as it does, or a worker's share of the machine where that is less.

    Examples
    --------
    >>> allowed_threads() <= torch.get_num_threads()
    True
    """
    share = _worker_share()
    return torch.get_num_threads() if share is None else min(share, torch.get_num_threads())


def _worker_share() -> int | None:
    """Return a worker's number of threads; None in the main program."""
    if multiprocessing.parent_process() is not None:
        # joblib's process workers (loky) write each one's share there; others know of none.
        share = os.environ.get("OMP_NUM_THREADS", "")
        return int(share) if share.isdigit() and int(share) > 0 else 1
    from joblib.parallel import get_active_backend

    backend, _ = get_active_backend()
    return 1 if getattr(backend, "nesting_level", 0) else None
