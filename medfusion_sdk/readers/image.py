"""One image cell -> ``(H, W, 3)``, eight bits."""

from __future__ import annotations

import os
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import ImageError, MissingDependencyError
from medfusion_sdk.readers.digest import array_digest, files_digest
from medfusion_sdk.readers.files import require_file
from medfusion_sdk.readers.npy import open_npy
from medfusion_sdk.readers.pixels import to_rgb8

__all__ = ["MAX_PIXELS", "image_digest", "read_image"]

# A header is a promise; at 64 million pixels an image takes 200 MB.
MAX_PIXELS = 1 << 26
_FORMATS = ("PNG", "JPEG")


def read_image(cell: Any, *, scale: str = "type") -> np.ndarray:
    """Read one image cell.

    Parameters
    ----------
    cell : str, Path, ndarray or list
        A PNG, JPEG or ``.npy`` file, or the pixels themselves: ``(H, W)``, ``(H, W, 1)`` or
        ``(H, W, 3)``. A file's rotation flag is followed and its transparency left out.
    scale : {"type", "minmax"}, default="type"
        What black and white are: the bounds of the type (0 and 255, or 65535; False and True; 0
        and 1 for floats), or the lowest and highest value of the image.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
        Red, green, blue; three times the same for a grey image.

    Raises
    ------
    ImageError
        For a cell that can't be used; the message says what was expected and what was found.
    CellFileNotFoundError
        For a path without a file.
    MissingDependencyError
        For PNG and JPEG files where pillow isn't installed.

    Examples
    --------
    >>> import numpy as np
    >>> read_image(np.zeros((4, 6))).shape
    (4, 6, 3)
    """
    what = "this array"
    if isinstance(cell, str | os.PathLike):
        path = _find(cell)
        what = str(path)
        pixels = open_npy(path, ImageError) if path.suffix == ".npy" else _decode(path)
    else:
        pixels = _as_array(cell)
    return to_rgb8(_with_channels(pixels, what), scale, what, ImageError)


def image_digest(cell: Any) -> bytes:
    """Digest of a cell's content: of the file, or of the pixels.

    Parameters
    ----------
    cell : str, Path, ndarray or list
        As for :func:`read_image`.

    Returns
    -------
    bytes
        32 bytes; equal for two copies of a file.

    Raises
    ------
    CellFileNotFoundError, ImageError
        If a file is missing or the cell is no image.
    """
    if isinstance(cell, str | os.PathLike):
        return files_digest([_find(cell)], ImageError)
    return array_digest(_as_array(cell))


def _find(cell: str | os.PathLike[str]) -> Path:
    return require_file(Path(cell), ImageError, "image file")


def _decode(path: Path) -> np.ndarray:
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {path} needs pillow: pip install 'medfusion-sdk[imaging]'."
        ) from error
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(
                    f"{path} is {image.width} by {image.height} by its header; at most "
                    f"{MAX_PIXELS} pixels are read. Make it smaller."
                )
            n_pictures = getattr(image, "n_frames", 1)
            # A photograph's second picture is a smaller copy, or tells how bright it may be shown.
            if image.format == "PNG" and n_pictures > 1:
                raise ImageError(
                    f"{path} holds {n_pictures} pictures, expected one. Save the one that is "
                    "meant, or hand the frames to VideoEncoder as an array."
                )
            upright = ImageOps.exif_transpose(image)
            # Sixteen bits stay so; a palette, transparency or print colours become RGB.
            deep = upright.mode.startswith("I")
            return np.asarray(upright if deep else upright.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is no PNG, JPEG or .npy file; convert it.") from error
    except ImageError:
        raise
    except Exception as error:  # a damaged file makes pillow raise anything
        raise ImageError(f"{path} can't be decoded: {type(error).__name__}: {error}") from error


def _as_array(cell: Any) -> np.ndarray:
    if isinstance(cell, bytes | Number) or not hasattr(cell, "__len__"):
        raise ImageError(
            f"expected an image (path, array or list), found {type(cell).__name__} "
            f"{str(cell)[:40]!r}."
        )
    try:
        array = np.asarray(cell)
    except ValueError as error:
        raise ImageError(f"this list isn't rectangular: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise ImageError(f"this array holds {array.dtype}, expected real numbers.")
    return array


def _with_channels(pixels: np.ndarray, what: str) -> np.ndarray:
    """Check the shape, and give grey images their one channel."""
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or pixels.size == 0:
        first = pixels.ndim == 3 and pixels.shape[0] in (1, 3)
        hint = " Channels come last: hand over np.moveaxis(array, 0, -1)." if first else ""
        raise ImageError(
            f"{what} has shape {pixels.shape}, expected (H, W), (H, W, 1) or (H, W, 3).{hint}"
        )
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise ImageError(f"{what} has shape {pixels.shape}; at most {MAX_PIXELS} pixels are read.")
    return pixels
