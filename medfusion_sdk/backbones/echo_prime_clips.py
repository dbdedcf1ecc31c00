"""What EchoPrime sees of a video: sixteen frames, the middle of the picture, on its own scale."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["FRAMES", "N_FRAMES", "SIDE", "prepare"]

# Every second one of the first thirty-two.
FRAMES = slice(0, 32, 2)
N_FRAMES, SIDE = 16, 224
_ZOOM = 0.1  # of a side, left out at either end
_MEAN = (29.110628, 28.076836, 29.096405)
_STD = (47.989223, 46.456997, 47.20083)


def prepare(frames: np.ndarray) -> np.ndarray:
    """Cut, resize and scale frames as the authors do.

    Parameters
    ----------
    frames : ndarray of shape (n, H, W, 3), uint8
        The wanted frames of one video, at most 16.

    Returns
    -------
    ndarray of shape (3, 16, 224, 224), float32
        The middle square less a tenth on each side, resized by bicubic interpolation without
        smoothing, less the authors' mean and divided by their deviation. A short clip ends in
        zeros, which are the mean's grey.

    Examples
    --------
    >>> import numpy as np
    >>> prepare(np.zeros((5, 90, 120, 3), np.uint8)).shape
    (3, 16, 224, 224)
    """
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(_middle(frames).astype(np.float32)).permute(0, 3, 1, 2),
        size=(SIDE, SIDE),
        mode="bicubic",
        align_corners=False,
    )
    # The authors' pictures are of eight bits, before and after.
    pixels = resized.round().clamp(0, 255).numpy()
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (_MEAN, _STD))
    clip = np.zeros((3, N_FRAMES, SIDE, SIDE), dtype=np.float32)
    clip[:, : len(pixels)] = ((pixels - mean) / std).transpose(1, 0, 2, 3)
    return clip


def _middle(frames: np.ndarray) -> np.ndarray:
    """Cut the longer side to the length of the shorter one, then a margin off each."""
    height, width = frames.shape[1:3]
    left, top = (round(max(0, longer) / 2) for longer in (width - height, height - width))
    frames = frames[:, top : height - top, left : width - left]
    height, width = frames.shape[1:3]
    top, left = int(height * _ZOOM), int(width * _ZOOM)
    return frames[:, top : height - top, left : width - left]
