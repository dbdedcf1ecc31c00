"""A tiny untrained network that stands in for signal backbones in tests and first steps."""

from __future__ import annotations

import torch
from torch import nn

from medfusion_sdk.backbones.threads import one_thread

__all__ = ["STANDIN_FEATURES", "StandInConv"]

_WIDTHS = (16, 32)
STANDIN_FEATURES = 2 * _WIDTHS[-1]


class StandInConv(nn.Module):
    """Two convolutions with random weights, then mean and maximum over time.

    Parameters
    ----------
    n_channels : int
        Channels of the signals.
    seed : int
        Of the weights.
    """

    weight0: torch.Tensor
    weight1: torch.Tensor

    def __init__(self, n_channels: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        sizes = ((_WIDTHS[0], n_channels, 7), (_WIDTHS[1], _WIDTHS[0], 5))
        for index, size in enumerate(sizes):
            weight = torch.randn(size, generator=generator) / (size[1] * size[2]) ** 0.5
            self.register_buffer(f"weight{index}", weight)

    @torch.inference_mode()
    @one_thread()
    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Embed signals.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_channels, length), float32
            Signals.

        Returns
        -------
        Tensor of shape (n_samples, 64), float32
            Mean and maximum of 32 channels.
        """
        # One by one: a batch may be summed in another order than a row alone.
        return torch.cat([self._embed(row.unsqueeze(0)) for row in X])

    def _embed(self, X: torch.Tensor) -> torch.Tensor:
        for weight in (self.weight0, self.weight1):
            X = nn.functional.conv1d(X, weight, stride=2, padding=weight.shape[-1] // 2).relu()
        return torch.cat([X.mean(-1), X.amax(-1)], dim=1)
