"""A module's trainable state as numpy arrays, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from medfusion_sdk.exceptions import CorruptModelError

__all__ = ["load_state", "module_to_state", "restore", "snapshot", "trainable_parameters"]


def module_to_state(module: nn.Module) -> dict[str, np.ndarray]:
    """Return what training changes in a module.

    Parameters
    ----------
    module : torch.nn.Module
        On any device.

    Returns
    -------
    dict of str to ndarray
        Copies in main memory, C-contiguous, under the names of ``module.state_dict()``:
        parameters that need a gradient, and persistent buffers of parts that aren't frozen. A
        part is frozen when it has parameters and none needs a gradient; so is all within it.
        bfloat16 becomes float32, which holds each of its values.

    Examples
    --------
    >>> from torch import nn
    >>> sorted(module_to_state(nn.Linear(3, 2)))
    ['bias', 'weight']
    """
    return {name: _to_array(tensor) for name, tensor in _named_state(module)}


def load_state(module: nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Write a state back into a module of the same build.

    Parameters
    ----------
    module : torch.nn.Module
        The module; its frozen part stays as it is.
    state : mapping of str to ndarray
        As :func:`module_to_state` returns it.

    Raises
    ------
    CorruptModelError
        If a name is missing or unknown, or a shape or dtype differs. Nothing is written then.
    """
    own = dict(_named_state(module))
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        raise CorruptModelError(
            f"The state doesn't fit the module: missing {missing or 'nothing'}, "
            f"unknown {unknown or 'nothing'}."
        )
    for name, tensor in own.items():
        expected = (tuple(tensor.shape), _array_dtype(tensor))
        found = (tuple(state[name].shape), state[name].dtype)
        if expected != found:
            raise CorruptModelError(
                f"State {name!r} must have shape and dtype {expected}, got {found}."
            )
    with torch.no_grad():
        for name, tensor in own.items():
            # A copy, for torch warns of read-only arrays.
            tensor.copy_(torch.from_numpy(np.array(state[name])))


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that need a gradient.

    Parameters
    ----------
    module : torch.nn.Module
        The module.

    Returns
    -------
    list of torch.nn.Parameter
        Each once.
    """
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def snapshot(module: nn.Module, *, parameters: bool = True) -> dict[str, Tensor]:
    """Return copies of what training changes, on the module's device.

    Parameters
    ----------
    module : torch.nn.Module
        The module.
    parameters : bool, default=True
        False leaves the parameters out.

    Returns
    -------
    dict of str to Tensor
        For :func:`restore`.
    """
    return {
        name: tensor.detach().clone()
        for name, tensor in _named_state(module)
        if parameters or not isinstance(tensor, nn.Parameter)
    }


def restore(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Return to a :func:`snapshot`.

    Parameters
    ----------
    module : torch.nn.Module
        The module that it was taken of.
    saved : mapping of str to Tensor
        The snapshot.
    """
    with torch.no_grad():
        for name, tensor in _named_state(module):
            if name in saved:
                tensor.copy_(saved[name])


def _named_state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    frozen = {name for name, part in module.named_modules() if _is_frozen(part)}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) in seen:  # a shared part has one state, whatever its number of names
            continue
        seen.add(id(tensor))
        if isinstance(tensor, nn.Parameter):
            if tensor.requires_grad:
                yield name, tensor
        elif not any(owner in frozen for owner in _owners(name)):
            yield name, tensor


def _is_frozen(part: nn.Module) -> bool:
    needs_gradient = [parameter.requires_grad for parameter in part.parameters()]
    return bool(needs_gradient) and not any(needs_gradient)


def _owners(name: str) -> Iterator[str]:
    yield ""
    parts = name.split(".")[:-1]
    for depth in range(len(parts)):
        yield ".".join(parts[: depth + 1])


def _array_dtype(tensor: Tensor) -> np.dtype:
    kind = torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype
    return torch.empty(0, dtype=kind).numpy().dtype


def _to_array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return np.array(tensor.numpy(), order="C")
