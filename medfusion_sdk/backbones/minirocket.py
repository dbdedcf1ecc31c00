"""MiniRocket in torch: 84 fixed kernels, many dilations, one number per bias.

Each feature is the share of time at which a dilated convolution lies above a bias (Dempster,
Schmidt and Webb, "MiniRocket", KDD 2021). In the paper biases are quantiles of the training
signals' convolutions; :mod:`medfusion_sdk.backbones.minirocket_biases` says where ours come from.

A share of time jumps whenever one sample crosses its bias, so sums that differ in their last bit
may differ in the features. Signals are therefore rounded to a grid on which float32 sums are exact
(:func:`standardise`), and biases lie between its points: features are the same to the bit for any
batch, thread count or device.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch.nn import functional as F

from medfusion_sdk.backbones.threads import one_thread

__all__ = [
    "GRID",
    "N_KERNELS",
    "Layout",
    "MiniRocket",
    "convolve",
    "make_layout",
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
    @one_thread()
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
            convolved = convolve(_sum_channels(self.channels[index], X), dilation)
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


def convolve(summed: torch.Tensor, dilation: int) -> torch.Tensor:
    """Convolve row k with kernel k.

    Parameters
    ----------
    summed : Tensor of shape (..., 84, length)
        For each kernel the sum of its channels.
    dilation : int
        Samples between two taps.

    Returns
    -------
    Tensor of the same shape
        Convolutions; zeros are taken to surround the rows.
    """
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
