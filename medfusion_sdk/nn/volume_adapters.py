"""From a volume of any size to what a frozen encoder reads: pooling, and a branch that is trained.

Each adapter is a shortcut plus a branch whose last layer is zero at first: training starts from
the pooled volume.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

__all__ = ["ConvAdapter", "PoolingAdapter", "SliceAdapter", "make_adapter"]


class PoolingAdapter(nn.Module):
    """Average pooling alone, without anything that is trained.

    Parameters
    ----------
    volume_size, target_size : sequence of int
        Depth, height and width of what comes in and what goes out.
    """

    def __init__(self, volume_size: Sequence[int], target_size: Sequence[int]) -> None:
        super().__init__()
        self.volume_size = _three(volume_size)
        self.target_size = _three(target_size)

    def forward(self, volumes: Tensor) -> Tensor:
        """Adapt volumes.

        Parameters
        ----------
        volumes : Tensor of shape (B, 1, D, H, W)
            Of `volume_size`.

        Returns
        -------
        Tensor of shape (B, 1, D', H', W')
            Of `target_size`.
        """
        return self.shortcut(volumes)

    def shortcut(self, volumes: Tensor) -> Tensor:
        """Pool volumes; what the adapter returns before training.

        Parameters
        ----------
        volumes : Tensor of shape (B, 1, D, H, W)
            Of `volume_size`.

        Returns
        -------
        Tensor of shape (B, 1, D', H', W')
            The volumes themselves where they have `target_size`.
        """
        return adaptive_avg_pool3d(volumes, self.target_size)


class ConvAdapter(PoolingAdapter):
    """Three convolutions over the whole volume beside the pooling.

    The first one strides, so that no map of features has the volume's full resolution: at 256
    voxels a side one channel would take 64 MiB.

    Parameters
    ----------
    volume_size, target_size : sequence of int
        Depth, height and width of what comes in and what goes out.
    channels : int
        Of the convolutions in between.
    """

    def __init__(
        self, volume_size: Sequence[int], target_size: Sequence[int], channels: int
    ) -> None:
        super().__init__(volume_size, target_size)
        stride = [
            max(1, found // wanted)
            for found, wanted in zip(self.volume_size, self.target_size, strict=True)
        ]
        self.branch = nn.Sequential(
            nn.Conv3d(1, channels, 3, stride=_three(stride), padding=1),
            nn.GroupNorm(1, channels),
            nn.GELU(),
            nn.Conv3d(channels, channels, 3, padding=1),
            nn.GroupNorm(1, channels),
            nn.GELU(),
            _zero(nn.Conv3d(channels, 1, 1)),
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Adapt volumes.

        Parameters
        ----------
        volumes : Tensor of shape (B, 1, D, H, W)
            Of `volume_size`.

        Returns
        -------
        Tensor of shape (B, 1, D', H', W')
            Of `target_size`.
        """
        added = self.branch(volumes)
        if added.shape[2:] != self.target_size:
            added = adaptive_avg_pool3d(added, self.target_size)
        return self.shortcut(volumes) + added


class SliceAdapter(PoolingAdapter):
    """A bottleneck of two-dimensional convolutions that takes slices for channels.

    The shortcut maps slices to slices too, and is trained from averages of neighbours.

    Parameters
    ----------
    volume_size, target_size : sequence of int
        Depth, height and width of what comes in and what goes out; the depths are what the
        convolutions are built for.
    """

    def __init__(self, volume_size: Sequence[int], target_size: Sequence[int]) -> None:
        super().__init__(volume_size, target_size)
        found, wanted = self.volume_size[0], self.target_size[0]
        self.slices = nn.Conv2d(found, wanted, 1, bias=False)
        with torch.no_grad():
            means = adaptive_avg_pool1d(torch.eye(found)[None], wanted)[0].T
            self.slices.weight.copy_(means[..., None, None])
        self.branch = nn.Sequential(
            nn.Conv2d(found, wanted, 1, bias=False),
            nn.GroupNorm(1, wanted),
            nn.GELU(),
            nn.Conv2d(wanted, wanted, 3, padding=1, bias=False),
            nn.GroupNorm(1, wanted),
            nn.GELU(),
            _zero(nn.Conv2d(wanted, wanted, 1, bias=False)),
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Adapt volumes.

        Parameters
        ----------
        volumes : Tensor of shape (B, 1, D, H, W)
            Of `volume_size`.

        Returns
        -------
        Tensor of shape (B, 1, D', H', W')
            Of `target_size`.
        """
        slices = adaptive_avg_pool2d(volumes[:, 0], self.target_size[1:])
        return (self.slices(slices) + self.branch(slices))[:, None]

    def shortcut(self, volumes: Tensor) -> Tensor:
        """Pool volumes in the plane, and map slices to slices.

        Parameters
        ----------
        volumes : Tensor of shape (B, 1, D, H, W)
            Of `volume_size`.

        Returns
        -------
        Tensor of shape (B, 1, D', H', W')
            Of `target_size`.
        """
        return self.slices(adaptive_avg_pool2d(volumes[:, 0], self.target_size[1:]))[:, None]


def make_adapter(
    kind: str, volume_size: Sequence[int], target_size: Sequence[int], channels: int
) -> PoolingAdapter:
    """Make an adapter.

    Parameters
    ----------
    kind : {"conv3d", "slice2d", "none"}
        Which one.
    volume_size, target_size : sequence of int
        Depth, height and width of what comes in and what goes out.
    channels : int
        Of ``conv3d``.

    Returns
    -------
    PoolingAdapter
        Whose output is its shortcut's as long as it isn't trained.

    Examples
    --------
    >>> adapter = make_adapter("conv3d", (256, 256, 256), (32, 256, 256), 8)
    >>> sum(weight.numel() for weight in adapter.parameters())
    2001
    """
    if kind == "conv3d":
        return ConvAdapter(volume_size, target_size, channels)
    if kind == "slice2d":
        return SliceAdapter(volume_size, target_size)
    return PoolingAdapter(volume_size, target_size)


def _three(size: Sequence[int]) -> tuple[int, int, int]:
    depth, height, width = size
    return depth, height, width


def _zero(layer: nn.Module) -> nn.Module:
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer
