"""Where MiniRocket's biases come from: a column of signals, or a seeded ensemble of noises."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from medfusion_sdk.backbones.minirocket import (
    GRID,
    N_KERNELS,
    Layout,
    convolve,
    kernel_rows,
    make_layout,
    standardise,
)
from medfusion_sdk.backbones.threads import one_thread

__all__ = ["fit_biases", "frozen_minirocket", "reference_ensemble"]

ENSEMBLE_SIZE = 128
ENSEMBLE_SOURCES = 3


@one_thread()
def fit_biases(X: np.ndarray, layout: Layout, seed: int) -> np.ndarray:
    """Take biases from signals: quantiles of one random signal's convolution per kernel.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_channels, length), float32
        Standardised signals.
    layout : Layout
        Dilations and channels.
    seed : int
        Of the choice of signals.

    Returns
    -------
    ndarray of shape (n_features,), float32
        Biases, halfway between points of the grid.
    """
    rng = np.random.default_rng(seed)
    golden = (np.sqrt(5) + 1) / 2
    quantiles = torch.from_numpy(np.arange(1, layout.n_features + 1) * golden % 1)
    biases = []
    start = 0
    own = kernel_rows(np.eye(N_KERNELS, dtype=bool))
    for dilation, count, channels in zip(
        layout.dilations, layout.counts, layout.channels, strict=True
    ):
        chosen = X[rng.integers(len(X), size=N_KERNELS)]
        # Each kernel has a signal of its own: its channels' sum is the kernel's one channel.
        summed = np.einsum("kc,kct->kt", channels.astype(np.float32), chosen)
        convolved = convolve(torch.from_numpy(summed).unsqueeze(1), dilation, own)
        ordered = convolved.squeeze(1).double().sort().values
        stop = start + N_KERNELS * count
        biases.append(_quantiles(ordered, quantiles[start:stop].view(N_KERNELS, count)))
        start = stop
    exact = torch.cat(biases) / GRID
    return ((exact.floor() + 0.5) * GRID).float().numpy()


def _quantiles(ordered: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Quantiles of sorted rows, one row of `wanted` each, on straight lines between samples."""
    position = wanted * (ordered.shape[1] - 1)
    below = position.floor().long()
    above = (below + 1).clamp(max=ordered.shape[1] - 1)
    return torch.lerp(
        ordered.gather(1, below), ordered.gather(1, above), position - below
    ).flatten()


def reference_ensemble(n_channels: int, length: int, seed: int) -> np.ndarray:
    """Generate the signals that frozen biases are taken from.

    Each signal mixes three noises into its channels at random; a noise has power falling with
    frequency to the power of 0.5 to 2.5, as most things that are recorded from a body have.

    Parameters
    ----------
    n_channels, length : int
        Shape of a signal.
    seed : int
        Seed of the noises.

    Returns
    -------
    ndarray of shape (128, n_channels, length), float32
        Standardised signals.
    """
    rng = np.random.default_rng(seed)
    frequencies = np.arange(1, length // 2 + 1)
    slopes = rng.uniform(0.5, 2.5, size=(ENSEMBLE_SIZE, ENSEMBLE_SOURCES, 1))
    parts = rng.standard_normal((2, ENSEMBLE_SIZE, ENSEMBLE_SOURCES, len(frequencies)))
    spectrum = (parts[0] + 1j * parts[1]) * frequencies ** (-slopes / 2)
    spectrum = np.pad(spectrum, ((0, 0), (0, 0), (1, 0)))
    sources = np.fft.irfft(spectrum, length)
    sources /= sources.std(axis=-1, keepdims=True)
    mixing = rng.standard_normal((ENSEMBLE_SIZE, n_channels, ENSEMBLE_SOURCES))
    return standardise(mixing @ sources)


@lru_cache(maxsize=16)
def frozen_minirocket(
    n_channels: int, length: int, n_features: int, seed: int
) -> tuple[Layout, np.ndarray]:
    """Return layout and biases that depend on no data; worked out once per process.

    Parameters
    ----------
    n_channels, length : int
        Shape of the signals.
    n_features : int
        Wanted number of features.
    seed : int
        Of channels, ensemble and biases.

    Returns
    -------
    layout : Layout
        Dilations and channels.
    biases : ndarray of shape (n_features,), read-only
        Quantiles of the reference ensemble's convolutions.
    """
    layout = make_layout(n_channels, length, n_features, seed)
    biases = fit_biases(reference_ensemble(n_channels, length, seed), layout, seed)
    biases.flags.writeable = False
    return layout, biases
