"""Drawn signal backbones by name, and how to run any."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from medfusion_sdk.backbones.devices import is_out_of_memory
from medfusion_sdk.backbones.minirocket import N_KERNELS, MiniRocket, make_layout
from medfusion_sdk.backbones.minirocket_biases import frozen_minirocket
from medfusion_sdk.backbones.standin_conv import STANDIN_FEATURES, StandInConv

__all__ = ["SIGNAL_BACKBONES", "count_features", "embed", "make_network", "rows_at_once"]

SIGNAL_BACKBONES = ("minirocket", "st-mem", "standin-conv")

# Numbers in the largest intermediate tensor: what a core's cache holds, what a GPU is busy with.
_CPU_WORK, _GPU_WORK = 350_000, 1 << 27


def make_network(
    name: str, shape: tuple[int, int], n_features: int, seed: int, biases: np.ndarray | None = None
) -> torch.nn.Module:
    """Make a backbone for signals of one shape.

    Parameters
    ----------
    name : {"minirocket", "standin-conv"}
        Which backbone.
    shape : tuple of int
        Channels and samples.
    n_features : int
        Wanted number of features; the stand-in always has 64.
    seed : int
        Of whatever the backbone draws.
    biases : ndarray, optional
        Learned biases for ``minirocket``; by default its frozen ones.

    Returns
    -------
    Module
        Maps ``(n_samples, channels, samples)`` to ``(n_samples, features)``.
    """
    if name == "standin-conv":
        return StandInConv(shape[0], seed)
    if biases is None:
        return MiniRocket(*frozen_minirocket(*shape, n_features, seed))
    return MiniRocket(make_layout(*shape, n_features, seed), biases)


def count_features(name: str, n_features: int) -> int:
    """Count the features that a backbone has when `n_features` are wanted.

    Parameters
    ----------
    name : {"minirocket", "standin-conv"}
        Which backbone.
    n_features : int
        Wanted number.

    Returns
    -------
    int
        Multiple of 84 for ``minirocket``.

    Examples
    --------
    >>> count_features("minirocket", 10_000)
    9996
    """
    if name == "standin-conv":
        return STANDIN_FEATURES
    return max(1, n_features // N_KERNELS) * N_KERNELS


def rows_at_once(length: int, device: torch.device) -> int:
    """Choose how many signals to embed at once.

    Parameters
    ----------
    length : int
        Samples per channel.
    device : torch.device
        Where it is computed.

    Returns
    -------
    int
        At least 1.
    """
    work = _CPU_WORK if device.type == "cpu" else _GPU_WORK
    return max(1, work // (N_KERNELS * length))


@torch.inference_mode()
def embed(
    network: Callable[[torch.Tensor], torch.Tensor], signals: np.ndarray, device: torch.device
) -> np.ndarray:
    """Run a backbone; where memory runs out, on half as many signals at a time.

    Parameters
    ----------
    network : Module or callable
        The backbone, on `device`.
    signals : ndarray of shape (n_samples, channels, samples), float32
        Standardised signals.
    device : torch.device
        Where it is computed.

    Returns
    -------
    ndarray of shape (n_samples, features), float32
        Embeddings.
    """
    try:
        return network(torch.from_numpy(signals).to(device)).cpu().numpy()
    except (RuntimeError, MemoryError) as error:
        if len(signals) == 1 or not is_out_of_memory(error):
            raise
    half = len(signals) // 2
    return np.concatenate([embed(network, part, device) for part in np.split(signals, [half])])
