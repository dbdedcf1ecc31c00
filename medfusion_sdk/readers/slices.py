"""One volume cell -> some of its slices, as images."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import VolumeError
from medfusion_sdk.readers.pixels import to_rgb8
from medfusion_sdk.readers.volume import ORIENTATION, open_volume

__all__ = ["PLANES", "even_places", "read_slices"]

#: Which axis of a volume, as :func:`read_volume` turns it, each plane's slices follow.
PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}


def read_slices(cell: Any, *, slices: int | str, plane: str = "axial") -> np.ndarray:
    """Read slices of one volume cell.

    Parameters
    ----------
    cell : str, Path, ndarray or list
        As for :func:`~medfusion_sdk.readers.volume.read_volume`: a NIfTI or ``.npy`` file, or the
        voxels ``(depth, height, width)``, axial slices from below.
    slices : int or "all"
        How many, evenly spaced over the extent: the middle ones of so many equal parts.
    plane : {"axial", "coronal", "sagittal"}, default="axial"
        Which way they are cut. Slices are shown as in radiology: front or head on top, the
        patient's right, or the front, on the left.

    Returns
    -------
    ndarray of shape (n, H, W, 3), uint8
        Black is the volume's minimum, white its maximum; all black for a constant volume.

    Raises
    ------
    VolumeError
        For a cell that can't be used, or has fewer slices.
    CellFileNotFoundError
        For a path without a file.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk.readers.slices import read_slices
    >>> read_slices(np.arange(256).reshape(4, 8, 8), slices=2)[:, 0, 0, 0]
    array([ 64, 192], dtype=uint8)
    """
    what = str(cell) if isinstance(cell, str | os.PathLike) else "this volume"
    volume = open_volume(cell, orientation=ORIENTATION, max_nan=0.0).voxels
    axis = PLANES[plane]
    n_found = volume.shape[axis]
    places = np.arange(n_found)
    if slices != "all":
        if int(slices) > n_found:
            raise VolumeError(
                f"{what} has {n_found} {plane} slices, expected at least {slices}. Ask for fewer, "
                "or for slices='all', whatever their number."
            )
        places = even_places(n_found, int(slices))
    images = []
    for place in places.tolist():
        image = volume[(*[slice(None)] * axis, place)]
        if plane != "axial":
            image = image[::-1]  # what was from below upwards is from the top downwards
        images.append(to_rgb8(image[..., np.newaxis], "type", what, VolumeError))
    return np.stack(images)


def even_places(length: int, n: int) -> np.ndarray:
    """Find the middles of equal parts.

    Parameters
    ----------
    length : int
        Places in all.
    n : int
        Parts.

    Returns
    -------
    ndarray of shape (n,), int
        One place in each; of two middle ones the later.

    Examples
    --------
    >>> from medfusion_sdk.readers.slices import even_places
    >>> even_places(20, 4)
    array([ 2,  7, 12, 17])
    """
    return (2 * np.arange(n) + 1) * length // (2 * n)
