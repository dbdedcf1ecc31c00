"""Layers that read a time series: instance normalisation, patches, a residual CNN."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

__all__ = ["PatchEmbedding", "TemporalEncoder", "WeightedBatchNorm", "count_patches", "revin"]


def revin(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise each channel of each series by its own mean and spread (RevIN, no affine part).

    Parameters
    ----------
    x : Tensor of shape (B, V, T)
        Series, channels before time.
    eps : float, default=1e-5
        Added to the biased variance, so that a flat channel becomes zeros.

    Returns
    -------
    Tensor of shape (B, V, T)
        The same for ``a * x + b`` with a > 0, up to `eps`.
    """
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps)


def count_patches(n_times: int, patch_len: int, stride: int) -> int:
    """Count the patches of a series.

    Parameters
    ----------
    n_times : int
        Length of the series, at least `patch_len`.
    patch_len, stride : int
        In samples.

    Returns
    -------
    int
        ``floor((T - p) / s) + 1``.

    Examples
    --------
    >>> count_patches(1000, 25, 25), count_patches(1010, 25, 25)
    (40, 40)
    """
    return (n_times - patch_len) // stride + 1


class PatchEmbedding(nn.Module):
    """Cut a series into patches of all channels, and map each to the model's width.

    Parameters
    ----------
    n_channels : int
        Channels V.
    patch_len, stride : int
        In samples. Samples before the first whole patch are left out, so that the last patch
        always ends with the series.
    width : int
        Width d of the language model.
    """

    def __init__(self, n_channels: int, patch_len: int, stride: int, width: int) -> None:
        super().__init__()
        self.patch_len = patch_len
        self.stride = stride
        self.linear = nn.Linear(n_channels * patch_len, width)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches.

        Parameters
        ----------
        x : Tensor of shape (B, V, T)
            Series.

        Returns
        -------
        Tensor of shape (B, N, d)
            One token per patch, in the order of time.
        """
        n_patches = count_patches(x.shape[-1], self.patch_len, self.stride)
        kept = x[..., x.shape[-1] - self.patch_len - self.stride * (n_patches - 1) :]
        patches = kept.unfold(-1, self.patch_len, self.stride)  # (B, V, N, p)
        return self.linear(patches.transpose(1, 2).flatten(2))


class WeightedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over rows and time in which a row counts as much as its weight.

    A row of weight two is two rows, and one of weight zero none, here as in the loss.
    """

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Normalise; in training by this batch.

        Parameters
        ----------
        x : Tensor of shape (B, V, T)
            Activations.
        weight : Tensor of shape (B,), optional
            Of the rows.

        Returns
        -------
        Tensor of shape (B, V, T)
            Normalised activations.
        """
        if not self.training or weight is None:
            return super().forward(x)
        share = (weight / (weight.sum() * x.shape[-1])).to(x)
        mean = torch.einsum("b,bvt->v", share, x)
        centred = x - mean[:, None]
        variance = torch.einsum("b,bvt->v", share, centred.square())
        self._remember(mean.detach(), variance.detach(), weight.sum().item() * x.shape[-1])
        scale = self.weight / torch.sqrt(variance + self.eps)
        return centred * scale[:, None] + self.bias[:, None]

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        unbiased = variance * (count / max(count - 1.0, 1.0))
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
        self.num_batches_tracked += 1


class _ResidualBlock(nn.Module):
    """Three convolutions of kernels 7, 5 and 3, and a way around them."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        sizes = ((n_in, 7), (n_out, 5), (n_out, 3))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, n_out, kernel, padding="same", bias=False)
            for channels, kernel in sizes
        )
        self.norms = nn.ModuleList(WeightedBatchNorm(n_out) for _ in sizes)
        same = n_in == n_out
        self.shortcut = nn.Identity() if same else nn.Conv1d(n_in, n_out, 1, bias=False)
        self.shortcut_norm = WeightedBatchNorm(n_out)

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        h = x
        for i, (convolve, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            h = norm(convolve(h), weight)
            if i < 2:
                h = relu(h)
        return relu(h + self.shortcut_norm(self.shortcut(x), weight))


class TemporalEncoder(nn.Module):
    """MedualTime's series encoder: residual blocks of 64, 128 and 128 channels, mean over time.

    Parameters
    ----------
    n_channels : int
        Channels V.
    width : int
        Width d of what it returns.
    """

    def __init__(self, n_channels: int, width: int) -> None:
        super().__init__()
        sizes = (n_channels, 64, 128, 128)
        self.blocks = nn.ModuleList(_ResidualBlock(n_in, n_out) for n_in, n_out in pairwise(sizes))
        self.linear = nn.Linear(sizes[-1], width)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Encode.

        Parameters
        ----------
        x : Tensor of shape (B, V, T)
            Series.
        weight : Tensor of shape (B,), optional
            Of the rows, for the batch's statistics in training.

        Returns
        -------
        Tensor of shape (B, d)
            One vector per series.
        """
        for block in self.blocks:
            x = block(x, weight)
        return self.linear(x.mean(dim=-1))
