"""A small convolutional network for images, with a head on one scale or on all of them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["ImageEncoder"]

_WIDTHS = (16, 32, 64)


class ImageEncoder(nn.Module):
    """Three blocks of two convolutions, each block at half the resolution of the one before.

    Parameters
    ----------
    n_channels : int
        1 or 3.
    multiscale : bool, default=False
        Read the mean of each block instead of the last one's alone, so that small structures and
        large ones count.
    """

    def __init__(self, n_channels: int, multiscale: bool = False) -> None:
        super().__init__()
        self.multiscale = multiscale
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(n_in, n_out, 3, padding=1),
                nn.GroupNorm(4, n_out),
                nn.ReLU(),
                nn.Conv2d(n_out, n_out, 3, padding=1, stride=2),
                nn.GroupNorm(4, n_out),
                nn.ReLU(),
            )
            for n_in, n_out in pairwise((n_channels, *_WIDTHS))
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_uniform_(part.weight, nonlinearity="relu")
                assert part.bias is not None
                nn.init.zeros_(part.bias)

    @property
    def out_width(self) -> int:
        """Width of what it returns."""
        return sum(_WIDTHS) if self.multiscale else _WIDTHS[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Encode.

        Parameters
        ----------
        x : Tensor of shape (B, c, H, W)
            Images.

        Returns
        -------
        Tensor of shape (B, out_width)
            One vector per image.
        """
        scales = []
        for block in self.blocks:
            x = block(x)
            scales.append(x.mean(dim=(2, 3)))
        return torch.cat(scales, dim=1) if self.multiscale else scales[-1]
