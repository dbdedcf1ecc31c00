"""Grey or colour values of any type -> eight bits and three channels, as vision models expect."""

from __future__ import annotations

import numpy as np

from medfusion_sdk.exceptions import CellError
from medfusion_sdk.readers.voxels import pieces

__all__ = ["SCALES", "to_rgb8"]

SCALES = ("type", "minmax")


def to_rgb8(pixels: np.ndarray, scale: str, what: str, error: type[CellError]) -> np.ndarray:
    """Bring pixels to 0 to 255 and to three channels.

    Parameters
    ----------
    pixels : ndarray of shape (..., H, W, 1 or 3)
        Grey or colour values, real numbers or bool.
    scale : {"type", "minmax"}
        What black and white are: the bounds of the type (0 and 255, or 65535; False and True; 0
        and 1 for floats), or the lowest and highest value here.
    what : str
        The item, for the message.
    error : type
        Class of the error.

    Returns
    -------
    ndarray of shape (..., H, W, 3), uint8
        Rounded.

    Raises
    ------
    CellError
        (of class `error`) For values that aren't finite or are outside the bounds, and types that
        have none.

    Examples
    --------
    >>> grey = np.array([0.0, 0.5, 1.0]).reshape(1, 3, 1)
    >>> to_rgb8(grey, "type", "this array", CellError)[..., 0].tolist()
    [[0, 128, 255]]
    """
    if pixels.dtype != np.uint8 or scale == "minmax":
        low, high = _bounds(pixels, scale, what, error)
        spread = np.float64(high) - low
        eight_bits = np.zeros(pixels.shape, dtype=np.uint8)
        # In slabs: eight bytes for each value of a large picture would be many times the picture.
        for piece in pieces(pixels.shape) if spread > 0 else ():
            unit = (pixels[piece] - np.float64(low)) / spread
            eight_bits[piece] = np.rint(255 * unit)
        pixels = eight_bits
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _bounds(
    pixels: np.ndarray, scale: str, what: str, error: type[CellError]
) -> tuple[float, float]:
    """Values that stand for black and for white."""
    low, high = float(pixels.min()), float(pixels.max())  # NaN where there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        raise error(f"{what} holds NaN or infinity.")
    if scale == "minmax":
        return low, high
    if pixels.dtype.kind == "b":
        return 0.0, 1.0
    if pixels.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(pixels.dtype).max)
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return 0.0, 1.0
    raise error(
        f"{what} holds {pixels.dtype} from {low:g} to {high:g}. Expected uint8, uint16, bool or "
        "floats from 0 to 1; scale='minmax' takes the lowest value for black and the highest for "
        "white."
    )
