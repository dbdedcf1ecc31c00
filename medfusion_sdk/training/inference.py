"""Run a module over rows, batch by batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from medfusion_sdk.backbones.devices import is_out_of_memory, limit_threads, resolve_device
from medfusion_sdk.training.batches import Batches, move

__all__ = ["PREDICT_ROWS", "alone_with", "predict_batches"]

PREDICT_ROWS = 1024
# A module's lock is kept beside it: a module with a lock couldn't be copied or pickled.
_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_GUARD = threading.Lock()


@contextmanager
def alone_with(module: nn.Module) -> Iterator[None]:
    """Keep other threads from computing with a module meanwhile.

    Modules remember things while they compute: recurrent layers of torch rebuild their list of
    weights, an explanation's hooks collect what passes, sub-networks are drawn.

    Parameters
    ----------
    module : torch.nn.Module
        The module that several threads share.

    Yields
    ------
    None
        Nothing; the module is run inside.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Linear(1, 1)
    >>> with alone_with(module), alone_with(module):  # the same thread may enter again
    ...     pass
    """
    with _GUARD:
        lock = _locks.setdefault(module, threading.RLock())
    with lock:
        yield


def predict_batches(
    function: Callable[[dict[str, Tensor]], Any],
    data: Mapping[str, Tensor],
    *,
    batch_size: int | str = "auto",
    device: str | torch.device = "auto",
) -> Any:
    """Return what a function of a module says of each row.

    Parameters
    ----------
    function : torch.nn.Module or bound method of one
        Takes a dict of tensors, returns a tensor of shape (n_rows, ...) or a dict of such. It is
        called in inference mode, with the module in evaluation mode and on `device`.
    data : mapping of str to Tensor
        Tensors of shape (n_rows, ...).
    batch_size : int or "auto", default="auto"
        Rows per call at most; ``"auto"`` is `PREDICT_ROWS`.
    device : str or torch.device, default="auto"
        Where to compute.

    Returns
    -------
    ndarray or dict of str to ndarray
        All rows in order.

    Examples
    --------
    >>> import torch
    >>> class Double(torch.nn.Module):
    ...     def forward(self, batch):
    ...         return 2 * batch["x"]
    >>> predict_batches(Double(), {"x": torch.tensor([1.0, 2.0, 3.0])}, batch_size=2)
    array([2., 4., 6.], dtype=float32)
    """
    where = resolve_device(device)
    module = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"predict_batches needs a torch module or a bound method of one, got {function!r}."
        )
    rows = Batches(data, None, PREDICT_ROWS if batch_size == "auto" else int(batch_size))

    def run(batch: Any) -> Any:
        tensors = move(batch.tensors, where)
        with alone_with(module), _evaluating(module.to(where)):
            return function(tensors)

    with limit_threads(), torch.inference_mode():
        while True:
            try:
                return _collect([run(batch) for batch in rows])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or rows.batch_size == 1:
                    raise
                rows.halve()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _collect(outputs: list[Any]) -> Any:
    if isinstance(outputs[0], dict):
        return {name: _collect([output[name] for output in outputs]) for name in outputs[0]}
    return torch.cat([output.cpu() for output in outputs]).numpy()
