"""A tiny untrained network that stands in for video backbones in tests and first steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from medfusion_sdk.backbones.pool import FrozenModule

__all__ = ["FRAMES", "WIDTHS", "StandInVideo", "prepare"]

FRAMES = slice(0, 16, 2)
_SIDE, _SEED = 32, 0
_CHANNELS = (8, 32)
WIDTHS = {"trunk": 2 * _CHANNELS[-1], "head": 16}


def prepare(frames: np.ndarray) -> np.ndarray:
    """Shrink frames to 32 by 32 and centre their values.

    Parameters
    ----------
    frames : ndarray of shape (n, H, W, 3), uint8
        Frames of one video, at most 8.

    Returns
    -------
    ndarray of shape (3, 8, 32, 32), float32
        A short clip ends in zeros.
    """
    pixels = torch.from_numpy(frames.astype(np.float32)).permute(0, 3, 1, 2)
    pixels = nn.functional.interpolate(pixels, size=(_SIDE, _SIDE), mode="area")
    clip = np.zeros((3, len(range(FRAMES.stop)[FRAMES]), _SIDE, _SIDE), dtype=np.float32)
    clip[:, : len(frames)] = (pixels.numpy() / 255 - 0.5).transpose(1, 0, 2, 3)
    return clip


class StandInVideo(FrozenModule):
    """Two convolutions with random weights, then mean and maximum over place and time."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, _CHANNELS[0], 3, stride=2, padding=1, device="meta")
        self.second = nn.Conv3d(*_CHANNELS, 3, stride=2, padding=1, device="meta")
        self.head = nn.Linear(WIDTHS["trunk"], WIDTHS["head"], device="meta")
        self.to_empty(device="cpu")
        # NumPy's generator gives the same bits on every processor.
        generator = np.random.default_rng(_SEED)
        with torch.no_grad():
            for weight in self.parameters():
                drawn = generator.standard_normal(tuple(weight.shape))
                weight.copy_(torch.from_numpy(drawn / max(1, weight[0].numel()) ** 0.5))
        self.freeze()

    def forward(self, clips: Tensor, feature: str) -> Tensor:
        """Embed clips.

        Parameters
        ----------
        clips : Tensor of shape (n, 3, 8, 32, 32)
            Prepared clips.
        feature : {"trunk", "head"}
            Which vector.

        Returns
        -------
        Tensor of shape (n, 64) or (n, 16)
            One vector per clip.
        """
        x = self.second(self.first(clips).relu()).relu().flatten(2)
        vectors = torch.cat([x.mean(-1), x.amax(-1)], dim=1)
        return self.head(vectors) if feature == "head" else vectors
