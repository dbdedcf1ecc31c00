"""A small residual network of convolutions, for images and for volumes."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import relu

__all__ = ["ResidualCNN"]

_WIDTHS = (16, 32, 64)
_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


class ResidualCNN(nn.Module):
    """Residual blocks of 16, 32 and 64 channels, each at half the resolution of the one before.

    ResNet's basic block with group normalisation in place of batch normalisation: a row's vector
    depends on no other row.

    Parameters
    ----------
    n_channels : int
        Channels of the input.
    n_axes : {2, 3}
        Axes of the input besides: images or volumes.
    width : int
        Width of what it returns.
    """

    def __init__(self, n_channels: int, n_axes: int, width: int) -> None:
        super().__init__()
        sizes = pairwise((n_channels, *_WIDTHS))
        self.blocks = nn.ModuleList(_Block(n_in, n_out, n_axes) for n_in, n_out in sizes)
        self.linear = nn.Linear(_WIDTHS[-1], width)

    def forward(self, x: Tensor) -> Tensor:
        """Encode.

        Parameters
        ----------
        x : Tensor of shape (B, n_channels, H, W) or (B, n_channels, D, H, W)
            Images or volumes: whole numbers up to 255, or fractions from 0 to 1.

        Returns
        -------
        Tensor of shape (B, width)
            One vector per row; none is negative.
        """
        black_to_white = 1.0 if x.is_floating_point() else 255.0
        # Pixels spread about a quarter around the middle.
        x = (x.to(self.linear.weight.dtype) / black_to_white - 0.5) * 4.0
        for block in self.blocks:
            x = block(x)
        return relu(self.linear(x.flatten(2).mean(dim=2)))


class _Block(nn.Module):
    """Two convolutions, the first with a stride of two, and a way around them."""

    def __init__(self, n_in: int, n_out: int, n_axes: int) -> None:
        super().__init__()
        conv = _CONV[n_axes]
        self.first = conv(n_in, n_out, 3, stride=2, padding=1, bias=False)
        self.second = conv(n_out, n_out, 3, padding=1, bias=False)
        self.shortcut = conv(n_in, n_out, 1, stride=2, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(4, n_out) for _ in range(3))
        for part in (self.first, self.second, self.shortcut):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        first, second, around = self.norms
        h: Tensor = second(self.second(relu(first(self.first(x)))))
        return relu(h + around(self.shortcut(x)))
