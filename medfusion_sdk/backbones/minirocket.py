"""MiniRocket in torch: 84 fixed kernels, many dilations, one number per bias.

Each feature is the share of time at which a dilated convolution lies above a bias (Dempster,
Schmidt and Webb, "MiniRocket", KDD 2021). In the paper biases are quantiles of the training
signals' convolutions; :mod:`medfusion_sdk.backbones.minirocket_biases` says where ours come from.

A share of time jumps whenever one sample crosses its bias, so sums that differ in their last bit
may differ in the features. Signals are therefore rounded to a grid on which float32 sums are exact
(:func:`standardise`), and biases lie between its points: features are the same to the bit for any
batch and thread count.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from medfusion_sdk.backbones.threads import one_thread

__all__ = [
    "GRID",
    "N_KERNELS",
    "KernelRows",
    "Layout",
    "MiniRocket",
    "convolve",
    "kernel_rows",
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


class KernelRows(NamedTuple):
    """The 84 kernels of one dilation as weighted sums of rows.

    Row ``9 * c + i`` is channel c as tap i of any kernel sees it, and row ``9 * n_channels + c``
    the sum of these nine. A kernel is 3 times three of the taps less the sum of all.

    Attributes
    ----------
    indices, weights : Tensor
        Rows and their weights, one kernel after the other.
    offsets : Tensor of shape (84,)
        Where each kernel begins.
    """

    indices: torch.Tensor
    weights: torch.Tensor
    offsets: torch.Tensor


class MiniRocket(torch.nn.Module):
    """The transform: signals to shares of time above each bias.

    Parameters
    ----------
    layout : Layout
        Dilations and channels.
    biases : ndarray of shape (n_features,)
        By dilation, kernel and quantile, in this order.
    """

    biases: torch.Tensor

    def __init__(self, layout: Layout, biases: np.ndarray) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("biases", torch.tensor(biases, dtype=torch.float32))
        for index, channels in enumerate(layout.channels):
            for name, values in kernel_rows(channels)._asdict().items():
                self.register_buffer(f"{name}{index}", values)

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
        X = X.transpose(0, 1)
        start = 0
        for index, (dilation, count) in enumerate(
            zip(self.layout.dilations, self.layout.counts, strict=True)
        ):
            stop = start + N_KERNELS * count
            biases = self.biases[start:stop].view(N_KERNELS, count)
            shares = features[:, start:stop].view(-1, N_KERNELS, count).permute(1, 2, 0)
            rows = KernelRows(*(self.get_buffer(f"{name}{index}") for name in KernelRows._fields))
            convolved = convolve(X, dilation, rows)
            # Every second kernel leaves out the ends, where the zeros around the signal take
            # part; which ones alternates from dilation to dilation.
            whole, inner = slice(index % 2, None, 2), slice(1 - index % 2, None, 2)
            ends = REACH * dilation
            shares[whole] = _shares_above(convolved[whole], biases[whole])
            shares[inner] = _shares_above(convolved[inner, :, ends:-ends], biases[inner])
            start = stop
        return features


def _shares_above(convolved: torch.Tensor, biases: torch.Tensor) -> torch.Tensor:
    """Share of time that each row lies above each of its biases."""
    n_kernels, n_samples, length = convolved.shape
    above = convolved.new_empty(n_kernels, biases.shape[1], n_samples, length)
    # Straight into float32: far quicker to sum up than booleans.
    torch.gt(convolved.unsqueeze(1), biases[:, :, None, None], out=above)
    return above.sum(-1) / length


def kernel_rows(channels: np.ndarray) -> KernelRows:
    """Write down the kernels that sum the given channels.

    Parameters
    ----------
    channels : ndarray of shape (84, n_channels), bool
        Channels that each kernel sums first.

    Returns
    -------
    KernelRows
        On the CPU.
    """
    n_channels = channels.shape[1]
    indices: list[int] = []
    weights: list[float] = []
    offsets: list[int] = []
    for taps, chosen in zip(TAPS, channels, strict=True):
        offsets.append(len(indices))
        for channel in np.flatnonzero(chosen).tolist():
            indices += (KERNEL_LENGTH * channel + taps).tolist()
            indices += [KERNEL_LENGTH * n_channels + channel]
            weights += [3.0, 3.0, 3.0, -1.0]
    return KernelRows(torch.tensor(indices), torch.tensor(weights), torch.tensor(offsets))


def convolve(X: torch.Tensor, dilation: int, rows: KernelRows) -> torch.Tensor:
    """Convolve signals with the 84 kernels of one dilation.

    A sum of rows and not a matrix product: it is half as much work, and no setting of torch's may
    round it to TF32 or bfloat16.

    Parameters
    ----------
    X : Tensor of shape (n_channels, n_samples, length)
        Signals, channels first; zeros are taken to surround them.
    dilation : int
        Samples between two taps.
    rows : KernelRows
        The kernels.

    Returns
    -------
    Tensor of shape (84, n_samples, length)
        Convolutions.
    """
    n_channels, n_samples, length = X.shape
    padded = F.pad(X, (REACH * dilation, REACH * dilation))
    steps = padded.stride()
    taps = padded.as_strided(
        (n_channels, KERNEL_LENGTH, n_samples, length), (steps[0], dilation, steps[1], 1)
    )
    table = X.new_empty((KERNEL_LENGTH + 1) * n_channels, n_samples, length)
    table[: KERNEL_LENGTH * n_channels].view(taps.shape).copy_(taps)
    torch.sum(taps, dim=1, out=table[KERNEL_LENGTH * n_channels :])
    convolved = F.embedding_bag(
        rows.indices,
        table.flatten(1),
        rows.offsets,
        mode="sum",
        per_sample_weights=rows.weights.to(X.dtype),
    )
    return convolved.view(N_KERNELS, n_samples, length)


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
