"""One video -> the frames that are wanted of it, ``(frames, H, W, 3)``, eight bits."""

from __future__ import annotations

import os
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import VideoError
from medfusion_sdk.readers.digest import array_digest, files_digest
from medfusion_sdk.readers.files import require_file
from medfusion_sdk.readers.npy import open_npy
from medfusion_sdk.readers.pixels import to_rgb8

__all__ = ["as_videos", "read_frames", "video_digest"]

# What is read at once: 500 megabytes.
_MAX_VALUES = 1 << 29


def as_videos(cell: Any) -> list[Any]:
    """List the videos of a study.

    Parameters
    ----------
    cell : str, Path, ndarray, list or tuple
        One video, or a list of several.

    Returns
    -------
    list
        Of paths and arrays, one entry per video.

    Examples
    --------
    >>> as_videos("a.npy"), as_videos(["a.npy", "b.npy"])
    (['a.npy'], ['a.npy', 'b.npy'])
    """
    return list(cell) if isinstance(cell, list | tuple) else [cell]


def read_frames(video: Any, wanted: slice, *, scale: str = "type") -> np.ndarray:
    """Read some frames of one video.

    Parameters
    ----------
    video : str, Path or ndarray
        A ``.npy`` file, of which only the wanted frames are read, or the frames themselves:
        ``(frames, H, W)``, ``(frames, H, W, 1)`` or ``(frames, H, W, 3)``.
    wanted : slice
        Which frames; those beyond the last are left out.
    scale : {"type", "minmax"}, default="type"
        As for :func:`read_image`; "minmax" over the wanted frames together.

    Returns
    -------
    ndarray of shape (frames, H, W, 3), uint8
        At least one frame.

    Raises
    ------
    VideoError
        For a video that can't be used.
    CellFileNotFoundError
        For a path without a file.

    Examples
    --------
    >>> import numpy as np
    >>> read_frames(np.zeros((40, 8, 8)), slice(0, 32, 2)).shape
    (16, 8, 8, 3)
    """
    what = "this array"
    if isinstance(video, str | os.PathLike):
        path = _find(video)
        what = str(path)
        frames = open_npy(path, VideoError)
    else:
        frames = _as_array(video)
    frames = _with_channels(frames, what)[wanted]
    if frames.size > _MAX_VALUES:
        raise VideoError(
            f"{what}: {len(frames)} frames of {frames.shape[1:]} are more than {_MAX_VALUES} "
            "values at once. Make them smaller."
        )
    return to_rgb8(np.asarray(frames), scale, what, VideoError)


def video_digest(cell: Any) -> bytes:
    """Digest of the content of a study's videos, in their order.

    Parameters
    ----------
    cell : str, Path, ndarray, list or tuple
        As for :func:`as_videos`.

    Returns
    -------
    bytes
        32 bytes per video.

    Raises
    ------
    CellFileNotFoundError, VideoError
        If a file is missing or the cell is no video.
    """
    return b"".join(
        files_digest([_find(video)], VideoError)
        if isinstance(video, str | os.PathLike)
        else array_digest(_as_array(video))
        for video in as_videos(cell)
    )


def _find(video: str | os.PathLike[str]) -> Path:
    path = require_file(Path(video), VideoError, "video file")
    if path.suffix != ".npy":
        raise VideoError(
            f"{path}: videos are read from .npy files. Decode it with the tool you trust for its "
            "format and save the frames, numpy.save(path, frames)."
        )
    return path


def _as_array(video: Any) -> np.ndarray:
    if isinstance(video, bytes | Number) or not hasattr(video, "__array__"):
        raise VideoError(
            f"expected a video (path or array of frames) or a list of them, found "
            f"{type(video).__name__} {str(video)[:40]!r}."
        )
    array = np.asarray(video)
    if array.dtype.kind not in "fiub":
        raise VideoError(f"this array holds {array.dtype}, expected real numbers.")
    return array


def _with_channels(frames: np.ndarray, what: str) -> np.ndarray:
    """Check the shape, and give grey frames their one channel."""
    if frames.ndim == 3 and not (frames.shape[-1] == 3 and min(frames.shape[:2]) > 3):
        frames = frames[..., np.newaxis]
    if frames.ndim != 4 or frames.shape[-1] not in (1, 3) or frames.size == 0:
        raise VideoError(
            f"{what} has shape {frames.shape}, expected (frames, H, W), (frames, H, W, 1) or "
            "(frames, H, W, 3)."
        )
    return frames
