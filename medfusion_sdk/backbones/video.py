"""Video backbones by name: which frames they look at, how these are prepared, where they lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch

from medfusion_sdk.backbones import echo_prime, echo_prime_clips, standin_video
from medfusion_sdk.backbones.checkpoints import find_checkpoint
from medfusion_sdk.backbones.pool import BackboneKey, FrozenModule, shared_backbones
from medfusion_sdk.backbones.weights import require_unchanged
from medfusion_sdk.readers.file_memo import file_sha256

__all__ = ["VIDEO_BACKBONES", "VideoSource", "borrow_video_backbone", "find_video_source"]

VIDEO_BACKBONES = ("echo-prime", "standin-video")


@dataclass(frozen=True)
class VideoSource:
    """A video backbone that was found.

    Attributes
    ----------
    name : str
        What the user called it.
    fingerprint : str
        Digest of its weights.
    widths : mapping of str to int
        Entries of each vector that it can give.
    frames : slice
        Which frames of a video it looks at.
    prepare : callable
        Makes its input of them: (n, H, W, 3) in eight bits to (3, frames, height, width).
    load : callable
        Makes the network, on the CPU; called with clips and the name of a vector.
    """

    name: str
    fingerprint: str
    widths: Mapping[str, int]
    frames: slice
    prepare: Callable[[np.ndarray], np.ndarray]
    load: Callable[[], FrozenModule]


def find_video_source(backbone: str, weights: str | PathLike[str] | None) -> VideoSource:
    """Find a video backbone without loading it.

    Parameters
    ----------
    backbone : {"echo-prime", "standin-video"}
        Which.
    weights : str, path or None
        Checkpoint of ``echo-prime``.

    Returns
    -------
    VideoSource
        With a fingerprint, so that a cache can be asked before anything is loaded.

    Raises
    ------
    WeightsNotFoundError
        If the checkpoint isn't there.

    Examples
    --------
    >>> find_video_source("standin-video", None).widths["trunk"]
    64
    """
    if backbone == "standin-video":
        # To be raised when its drawing changes.
        return VideoSource(
            backbone,
            "drawn 1",
            standin_video.WIDTHS,
            standin_video.FRAMES,
            standin_video.prepare,
            standin_video.StandInVideo,
        )
    path = find_checkpoint(weights, backbone=backbone, origin=echo_prime.ORIGIN)
    fingerprint = file_sha256(path)

    def load() -> FrozenModule:
        network = echo_prime.load_echo_prime(path)
        require_unchanged(path, fingerprint, file_sha256(path))
        return network

    return VideoSource(
        backbone,
        fingerprint,
        echo_prime.WIDTHS,
        echo_prime_clips.FRAMES,
        echo_prime_clips.prepare,
        load,
    )


def borrow_video_backbone(
    user: Any, source: VideoSource, device: torch.device, dtype: torch.dtype
) -> FrozenModule:
    """Return this process's copy of a video backbone, loading it at first use.

    Parameters
    ----------
    user : object
        Who keeps it alive.
    source : VideoSource
        Which.
    device : torch.device
        Where to.
    dtype : torch.dtype
        In which precision.

    Returns
    -------
    FrozenModule
        Shared by all users of the same weights, device and dtype.
    """
    key = BackboneKey(f"{source.name} {source.fingerprint}", device, dtype)
    return shared_backbones.borrow(user, key, lambda: source.load().to(device, dtype))
