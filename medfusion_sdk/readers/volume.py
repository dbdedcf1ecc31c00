"""One volume cell -> ``(depth, height, width)``, float32, from 0 to 1.

A cell is the path of a NIfTI or ``.npy`` file, an array or a list. What comes out has the
orientation and the size that were asked for, and no voxel that isn't finite.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import VolumeError
from medfusion_sdk.readers.digest import array_digest, files_digest
from medfusion_sdk.readers.files import require_file, shown
from medfusion_sdk.readers.nifti import MAX_VOXELS, NiftiVolume, read_nifti
from medfusion_sdk.readers.npy import open_npy
from medfusion_sdk.readers.resampling import centre, pad_about_centre, resample
from medfusion_sdk.readers.voxels import ScaledVoxels

__all__ = [
    "ORIENTATION",
    "VOLUME_FILES",
    "OpenVolume",
    "is_orientation",
    "open_volume",
    "read_volume",
    "volume_digest",
]

VOLUME_FILES = (".nii", ".nii.gz")
# Voxels that a finer spacing may make of each of a file's, and how many it may in any case.
_MOST_GROWTH, _ALWAYS_MADE = 64, 1 << 24
#: Axial slices from below, each as it is shown in radiology: front on top, the patient's right on
#: the left.
ORIENTATION = "SPL"


def read_volume(
    cell: Any,
    *,
    size: Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
    orientation: str | None = ORIENTATION,
    max_nan: float = 0.0,
) -> np.ndarray:
    """Read one volume cell.

    Parameters
    ----------
    cell : str, Path, ndarray or list
        A ``.nii``, ``.nii.gz`` or ``.npy`` file, or the voxels themselves, ``(depth, height,
        width)``. NIfTI files are turned to `orientation`; arrays are taken to have it.
    size : sequence of int, optional
        Depth, height and width to bring the volume to; by default its own. Without `spacing` it is
        resampled to it, by means where it shrinks and straight lines where it grows.
    spacing : float or three floats, optional
        Millimetres between voxels to resample to, so that a length means the same in every volume;
        `size` is then reached by cutting or padding with zeros about the centre. Arrays, which
        don't say their spacing, are taken to have it.
    orientation : str or None, default="SPL"
        Where depth, height and width point to: superior or inferior, anterior or posterior, left
        or right. None leaves the axes as the file stores them.
    max_nan : float, default=0.0
        Share of voxels that may be NaN; they become the volume's minimum. Some programs write NaN
        outside the head.

    Returns
    -------
    ndarray of shape (depth, height, width), float32
        Less the volume's minimum, over its range: 0 to 1. All zero for a constant volume.

    Raises
    ------
    VolumeError
        For a cell that can't be used; the message says what was expected, what was found and what
        to do.
    CellFileNotFoundError
        For a path without a file.

    Examples
    --------
    >>> import numpy as np
    >>> read_volume(np.arange(64).reshape(4, 4, 4), size=(2, 2, 2))[0].round(2)
    array([[0.17, 0.2 ],
           [0.29, 0.33]], dtype=float32)
    """
    volume = open_volume(cell, orientation=orientation, max_nan=max_nan)
    lengths: Sequence[int] = volume.voxels.shape
    if spacing is not None:
        lengths = volume.lengths(spacing, bounded=size is None)
    elif size is not None:
        lengths = size
    size = lengths if size is None else size
    # Cut before anything is computed, so that no more than the result is ever made.
    voxels = resample(volume.voxels, lengths, [*map(centre, lengths, size)])
    return np.ascontiguousarray(pad_about_centre(np.asarray(voxels), size))


def volume_digest(cell: Any) -> bytes:
    """Digest of a cell's content: of its file, or of the voxels.

    Parameters
    ----------
    cell : str, Path, ndarray or list
        As for :func:`read_volume`.

    Returns
    -------
    bytes
        32 bytes; equal for two copies of a file.

    Raises
    ------
    CellFileNotFoundError, VolumeError
        If the file is missing or the cell is no volume.
    """
    if isinstance(cell, str | os.PathLike):
        return files_digest([_find(cell)], VolumeError)
    return array_digest(_as_array(cell))


def is_orientation(codes: Any) -> bool:
    """Tell whether three letters name three axes of space.

    Parameters
    ----------
    codes : object
        Such as "SPL".

    Returns
    -------
    bool
        True for one of R and L, one of A and P, and one of S and I, in any order.

    Examples
    --------
    >>> is_orientation("SPL"), is_orientation("SPS")
    (True, False)
    """
    axes = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    return isinstance(codes, str) and sorted(axes.get(code, 3) for code in codes) == [0, 1, 2]


@dataclass(frozen=True)
class OpenVolume:
    """A cell's voxels before they are computed.

    Attributes
    ----------
    voxels : ScaledVoxels
        Of the cell's own size.
    in_file : NiftiVolume or None
        What its file says of it; None for arrays and ``.npy`` files.
    what : str
        How to speak of it in a message.
    """

    voxels: ScaledVoxels
    in_file: NiftiVolume | None
    what: str

    def lengths(self, spacing: float | Sequence[float], *, bounded: bool) -> tuple[int, ...]:
        """Length of each axis at a spacing.

        Parameters
        ----------
        spacing : float or three floats
            Millimetres between voxels.
        bounded : bool
            Whether so many will be made in fact.

        Returns
        -------
        tuple of int
            At least 1 each; for arrays, which don't say their spacing, those that they have.

        Raises
        ------
        VolumeError
            If the file leaves its own spacing in doubt, or that many voxels can't be meant.
        """
        if self.in_file is None:
            return self.voxels.shape
        wanted = np.broadcast_to(np.asarray(spacing, dtype=float), 3)
        if self.in_file.spacing is None:
            raise VolumeError(
                f"{self.what}: {self.in_file.doubt}, so spacing={spacing!r} can't be reached. "
                "Repair the header, or leave spacing=None."
            )
        found = np.asarray(self.in_file.spacing)
        shape = np.array(self.voxels.shape)
        lengths = np.maximum(1, np.round(shape * found / wanted))
        most = min(MAX_VOXELS, max(_MOST_GROWTH * float(shape.prod()), _ALWAYS_MADE))
        if (bounded and lengths.prod() > most) or lengths.max() > MAX_VOXELS:
            raise VolumeError(
                f"{self.what} would have {lengths.prod():.3g} voxels at {wanted.tolist()} mm; at "
                f"most {most:.3g} are made. It has {found.round(4).tolist()} mm now."
            )
        return tuple(lengths.astype(int).tolist())


def open_volume(cell: Any, *, orientation: str | None, max_nan: float) -> OpenVolume:
    """Check a volume cell, computing nothing yet.

    Parameters
    ----------
    cell, orientation, max_nan : object
        As for :func:`read_volume`.

    Returns
    -------
    OpenVolume
        Oriented.

    Raises
    ------
    VolumeError, CellFileNotFoundError
        As :func:`read_volume` does.
    """
    if not isinstance(cell, str | os.PathLike):
        what = "this array"
        return OpenVolume(ScaledVoxels(_as_array(cell), what, max_nan=max_nan), None, what)
    path = _find(cell)
    what = str(path)
    if path.suffix == ".npy":
        stored = _as_volume(open_npy(path, VolumeError), what)
        return OpenVolume(ScaledVoxels(stored, what, max_nan=max_nan), None, what)
    read = read_nifti(path, orientation)
    scaled = ScaledVoxels(
        read.voxels, what, slope=read.slope, intercept=read.intercept, max_nan=max_nan
    )
    return OpenVolume(scaled, read, what)


def _find(cell: str | os.PathLike[str]) -> Path:
    """Return the file that a path cell names."""
    path = Path(cell)
    if not path.name.lower().endswith((*VOLUME_FILES, ".npy")):
        raise VolumeError(
            f"{shown(path)} is neither a NIfTI file (.nii or .nii.gz) nor a .npy file."
        )
    return require_file(path, VolumeError, "volume file")


def _as_array(cell: Any) -> np.ndarray:
    if isinstance(cell, bytes | Number) or not hasattr(cell, "__len__"):
        raise VolumeError(
            f"expected a volume (path, array or list), found {type(cell).__name__} "
            f"{str(cell)[:40]!r}."
        )
    try:
        array = np.asarray(cell)
    except ValueError as cause:
        raise VolumeError(f"this list isn't rectangular: {cause}.") from cause
    return _as_volume(array, "this array")


def _as_volume(array: np.ndarray, what: str) -> np.ndarray:
    """Check type and shape; an axis of length one before or behind three others is no axis."""
    if array.dtype.kind not in "fiub":
        raise VolumeError(f"{what} holds {array.dtype}, expected real numbers.")
    shape = array.shape
    if array.ndim == 4 and 1 in (shape[0], shape[-1]):
        array = array[0] if shape[0] == 1 else array[..., 0]
    if array.ndim != 3 or array.size == 0:
        raise VolumeError(f"{what} has the shape {shape}, expected (depth, height, width).")
    if array.size > MAX_VOXELS:
        raise VolumeError(f"{what} has {array.size} voxels; at most {MAX_VOXELS} are read.")
    return array
