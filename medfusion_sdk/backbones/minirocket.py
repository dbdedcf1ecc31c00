"""MiniRocket in torch: 84 fixed kernels, many dilations, one number per bias.

Each feature is the share of time at which a dilated convolution lies above a bias (Dempster,
Schmidt and Webb, "MiniRocket", KDD 2021). In the paper biases are quantiles of the training
signals' convolutions. Here they come by default from a seeded ensemble of generated signals, so
that the transform depends on nothing fitted, like any other frozen network.

A share of time jumps whenever one sample crosses its bias, so sums that differ in their last bit
may differ in the features. Signals are therefore rounded to a grid on which float32 sums are exact
(:func:`standardise`), and biases lie between its points: features are the same to the bit for any
batch, thread count or device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from torch.nn import functional as F

__all__ = [
    "N_KERNELS",
    "Layout",
    "MiniRocket",
    "fit_biases",
    "frozen_minirocket",
    "make_layout",
    "reference_ensemble",
    "standardise",
]

KERNEL_LENGTH = 9
REACH = KERNEL_LENGTH // 2
# Kernels weigh three of their nine taps 2, the others -1; they are numbered in this order.
TAPS = np.array(list(combinations(range(KERNEL_LENGTH), 3)))
N_KERNELS = len(TAPS)
MAX_DILATIONS = 32
MAX_COMBINED_CHANNELS = 9

# With |x| <= 128, at most 9 channels and weights that sum to 12 in size, every partial sum is a
# multiple of 1/1024 below 2**14: 24 bits, which is what float32 holds.
GRID = 1 / 1024
LIMIT = 128.0

ENSEMBLE_SIZE = 128
ENSEMBLE_SOURCES = 3


@dataclass(frozen=True)
class Layout:
    """What a MiniRocket computes, biases apart.

    Attributes
    ----------
    length : int
        Samples per channel.
    dilations : tuple of int
        Spacings of the kernels' taps.
    counts : tuple of int
        Biases per kernel, one entry per dilation.
    channels : ndarray of shape (n_dilations, 84, n_channels), bool
        Channels that are summed before each kernel.
    """

    length: int
    dilations: tuple[int, ...]
    counts: tuple[int, ...]
    channels: np.ndarray

    @property
    def n_features(self) -> int:
        """Number of features: 84 for each count."""
        return N_KERNELS * sum(self.counts)


def make_layout(n_channels: int, length: int, n_features: int, seed: int) -> Layout:
    """Choose dilations, and channels at random.

    Parameters
    ----------
    n_channels, length : int
        Shape of the signals; at least 9 samples.
    n_features : int
        Wanted number of features, rounded down to a multiple of 84.
    seed : int
        Of the channels' choice.

    Returns
    -------
    Layout
        The paper's dilations: powers of two up to the signal's length, rounded down.
    """
    per_kernel = max(1, n_features // N_KERNELS)
    n_dilations = min(per_kernel, MAX_DILATIONS)
    exponents = np.linspace(0, np.log2((length - 1) / (KERNEL_LENGTH - 1)), n_dilations)
    dilations, repeats = np.unique((2**exponents).astype(int), return_counts=True)
    counts = repeats * per_kernel // n_dilations
    counts[: per_kernel - counts.sum()] += 1

    rng = np.random.default_rng(seed)
    n_combinations = len(dilations) * N_KERNELS
    most = np.log2(min(n_channels, MAX_COMBINED_CHANNELS) + 1)
    sizes = (2 ** rng.uniform(0, most, n_combinations)).astype(int)
    ranks = rng.permuted(np.tile(np.arange(n_channels), (n_combinations, 1)), axis=1)
    channels = (ranks < sizes[:, np.newaxis]).reshape(len(dilations), N_KERNELS, n_channels)
    return Layout(length, tuple(dilations.tolist()), tuple(counts.tolist()), channels)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch's CPU threads out: these are thousands of small steps, and each would wait for
    the slowest thread of a busy machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class MiniRocket(torch.nn.Module):
    """The transform: signals to shares of time above each bias.

    Parameters
    ----------
    layout : Layout
        Dilations and channels.
    biases : ndarray of shape (n_features,)
        By dilation, kernel and quantile, in this order.
    """

    channels: torch.Tensor
    biases: torch.Tensor

    def __init__(self, layout: Layout, biases: np.ndarray) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("channels", torch.from_numpy(layout.channels).float())
        self.register_buffer("biases", torch.tensor(biases, dtype=torch.float32))

    @torch.inference_mode()
    @_one_thread()
    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Compute the features.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_channels, length), float32
            Signals; from :func:`standardise` for results that are exact.

        Returns
        -------
        Tensor of shape (n_samples, n_features), float32
            Shares of time, from 0 to 1.
        """
        features = X.new_empty(len(X), self.layout.n_features)
        start = 0
        for index, dilation in enumerate(self.layout.dilations):
            count = self.layout.counts[index]
            stop = start + N_KERNELS * count
            biases = self.biases[start:stop].view(N_KERNELS, count)
            out = features[:, start:stop].view(len(X), N_KERNELS, count)
            convolved = _convolve(_sum_channels(self.channels[index], X), dilation)
            # Every second kernel leaves out the ends, where the zeros around the signal take
            # part; which ones alternates from dilation to dilation.
            whole, inner = slice(index % 2, None, 2), slice(1 - index % 2, None, 2)
            ends = REACH * dilation
            out[:, whole] = _shares_above(convolved[:, whole], biases[whole])
            out[:, inner] = _shares_above(convolved[:, inner, ends:-ends], biases[inner])
            start = stop
        return features


def _sum_channels(channels: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
    # A float32 product may be allowed to round to TF32 or bfloat16; a double one never is.
    # Metal has no doubles, and no such setting either.
    exact = torch.float32 if X.device.type == "mps" else torch.float64
    return (channels.to(exact) @ X.to(exact)).to(X.dtype)


def _convolve(summed: torch.Tensor, dilation: int) -> torch.Tensor:
    """Convolve row k of (..., 84, length) with kernel k, zeros around it."""
    length = summed.shape[-1]
    weights = torch.full((KERNEL_LENGTH, N_KERNELS, 1), -1.0)
    weights[TAPS, np.arange(N_KERNELS)[:, np.newaxis]] = 2.0
    weights = weights.to(summed.device)
    padded = F.pad(summed, (REACH * dilation, REACH * dilation))
    convolved = padded[..., :length] * weights[0]
    for tap in range(1, KERNEL_LENGTH):
        convolved.addcmul_(padded[..., tap * dilation :][..., :length], weights[tap])
    return convolved


def _shares_above(convolved: torch.Tensor, biases: torch.Tensor) -> torch.Tensor:
    """Share of time that each row lies above each of its biases."""
    length = convolved.shape[-1]
    above = convolved.new_empty(*convolved.shape[:2], biases.shape[1], length)
    # Straight into float32: far quicker to sum up than booleans.
    torch.gt(convolved.unsqueeze(2), biases.unsqueeze(2), out=above)
    return above.sum(-1) / length


@_one_thread()
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
    for dilation, count, channels in zip(
        layout.dilations, layout.counts, layout.channels, strict=True
    ):
        chosen = X[rng.integers(len(X), size=N_KERNELS)]
        summed = np.einsum("kc,kct->kt", channels.astype(np.float32), chosen)
        ordered = _convolve(torch.from_numpy(summed), dilation).sort().values.double()
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


def standardise(signal: np.ndarray) -> np.ndarray:
    """Bring each channel to mean 0 and deviation 1, on the grid where sums are exact.

    Parameters
    ----------
    signal : ndarray of shape (..., time)
        Samples in any unit.

    Returns
    -------
    ndarray of the same shape, float32
        Multiples of 1/1024 between -128 and 128; a flat channel is zero.

    Examples
    --------
    >>> import numpy as np
    >>> standardise(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])).round(2)
    array([[-1.22,  0.  ,  1.22],
           [ 0.  ,  0.  ,  0.  ]], dtype=float32)
    """
    signal = np.asarray(signal, dtype=np.float64)
    centred = signal - signal.mean(axis=-1, keepdims=True)
    deviation = centred.std(axis=-1, keepdims=True)
    # What rounding alone leaves of a constant is no deviation.
    flat = deviation <= 1e-9 * np.abs(signal).max(axis=-1, keepdims=True)
    scaled = np.where(flat, 0.0, centred / np.where(flat, 1.0, deviation))
    return (np.rint(np.clip(scaled, -LIMIT, LIMIT) / GRID) * GRID).astype(np.float32)


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
