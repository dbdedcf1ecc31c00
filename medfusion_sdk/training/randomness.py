"""Randomness from a seed alone: private generators, and the global one left as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

__all__ = ["lent_generator", "seed_generators", "seeded_initialisation", "spawn_seeds"]

# Held while the process-wide generator is borrowed: trainings in parallel threads would
# otherwise draw from one stream.
_GLOBAL_GENERATOR = threading.RLock()


def spawn_seeds(seed: int, count: int) -> list[int]:
    """Return seeds of independent streams.

    Parameters
    ----------
    seed : int
        The one seed that all follow from; 0 or more.
    count : int
        How many.

    Returns
    -------
    list of int
        Seeds below 2**63.

    Examples
    --------
    >>> spawn_seeds(0, 2) == spawn_seeds(0, 2)
    True
    """
    words = np.random.SeedSequence(seed).generate_state(count, np.uint64)
    return [int(word >> np.uint64(1)) for word in words]


def seed_generators(module: nn.Module, seed: int) -> None:
    """Give the random parts of a module one freshly seeded generator.

    A part is random by having an attribute ``generator``; it draws from that alone. The generator
    is the CPU's wherever the module is, so that a seed means the same on each device.

    Parameters
    ----------
    module : torch.nn.Module
        The module; its submodules are visited too.
    seed : int
        Where the stream starts.
    """
    generator = torch.Generator()
    generator.manual_seed(seed)
    for part in module.modules():
        if hasattr(part, "generator"):
            part.generator = generator  # type: ignore[assignment]


@contextmanager
def lent_generator(module: nn.Module, seed: int, device: torch.device) -> Iterator[None]:
    """Lend torch's global generator to a module that can't do without it.

    Torch's own dropout layers know no other. For a module with such layers it is seeded, and given
    back as it was; two such trainings in one process take turns. For any other module nothing
    happens.

    Parameters
    ----------
    module : torch.nn.Module
        The module.
    seed : int
        Where the stream starts.
    device : torch.device
        Where the module is.

    Yields
    ------
    None
        Nothing; the module trains inside.
    """
    if any(map(_draws_globally, module.modules())):
        with _seeded(seed, device):
            yield
    else:
        yield


@contextmanager
def seeded_initialisation(seed: int) -> Iterator[None]:
    """Let torch's layers initialise themselves from a seed, and leave no trace.

    Layers draw their initial weights from the CPU's global generator and take no other. It is
    seeded inside and given back as it was; the generators of other devices aren't touched.

    Parameters
    ----------
    seed : int
        Where the stream starts.

    Yields
    ------
    None
        Nothing; modules are built inside.
    """
    with _seeded(seed, torch.device("cpu")):
        yield


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices):
        # Not torch.manual_seed: that reseeds every other device too, and they aren't given back.
        torch.random.default_generator.manual_seed(seed)
        for accelerator in devices:
            with torch.cuda.device(accelerator):
                torch.cuda.manual_seed(seed)
        yield


def _draws_globally(part: nn.Module) -> bool:
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    if isinstance(part, (nn.MultiheadAttention, nn.RNNBase)):
        return part.dropout > 0
    return isinstance(part, nn.RReLU)
