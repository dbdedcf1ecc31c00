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
from medfusion_sdk.readers.nifti import MAX_VOXELS, read_nifti
from medfusion_sdk.readers.npy import open_npy
from medfusion_sdk.readers.resampling import cut_or_pad, resample

__all__ = ["ORIENTATION", "VOLUME_FILES", "is_orientation", "read_volume", "volume_digest"]

VOLUME_FILES = (".nii", ".nii.gz")
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
    source = _load(cell, orientation)
    voxels = _normalised(source, max_nan)
    if spacing is not None and source.spacing is not None:
        voxels = resample(voxels, _lengths(source, spacing))
    if size is not None:
        fit = resample if spacing is None else cut_or_pad
        voxels = fit(voxels, size)
    return np.ascontiguousarray(voxels)


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
class _Source:
    """Voxels as they were found, and how to speak of them in a message."""

    voxels: np.ndarray
    spacing: tuple[float, ...] | None
    what: str


def _load(cell: Any, orientation: str | None) -> _Source:
    if not isinstance(cell, str | os.PathLike):
        return _Source(_as_array(cell), None, "this array")
    path = _find(cell)
    if path.suffix == ".npy":
        return _Source(_as_volume(open_npy(path, VolumeError), str(path)), None, str(path))
    read = read_nifti(path, orientation)
    return _Source(read.voxels, read.spacing, str(path))


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


def _normalised(source: _Source, max_nan: float) -> np.ndarray:
    """Copy the voxels, from 0 to 1; NaN become 0, infinities and too many NaN are refused."""
    with np.errstate(over="ignore"):
        voxels = np.array(source.voxels, dtype=np.float32)
    low, high = np.fmin.reduce(voxels, axis=None), np.fmax.reduce(voxels, axis=None)
    with np.errstate(over="ignore", invalid="ignore"):
        span = high - low
    if np.isinf(span):
        raise VolumeError(f"{source.what} has infinite voxels, or a range beyond float32.")
    absent = np.isnan(voxels)
    share = float(absent.mean())
    if share > max_nan or share == 1:
        raise VolumeError(
            f"{source.what}: {share:.2%} of its voxels are NaN, {max_nan:.2%} may be. Raise "
            "max_nan if they are background, or count such a cell as missing."
        )
    voxels -= low
    voxels /= span or np.float32(1)
    if share:
        voxels[absent] = 0.0
    return voxels


def _lengths(source: _Source, spacing: float | Sequence[float]) -> tuple[int, ...]:
    """Length of each axis at a spacing."""
    assert source.spacing is not None
    wanted = np.broadcast_to(np.asarray(spacing, dtype=float), 3)
    found = np.asarray(source.spacing)
    if not (np.isfinite(found).all() and (found > 0).all()):
        raise VolumeError(f"{source.what} states {found.tolist()} mm between voxels.")
    lengths = np.maximum(1, np.round(np.array(source.voxels.shape) * found / wanted))
    if lengths.prod() > MAX_VOXELS:
        raise VolumeError(
            f"{source.what} would have {lengths.prod():.3g} voxels at {wanted.tolist()} mm; at "
            f"most {MAX_VOXELS} are made. It has {found.round(4).tolist()} mm now."
        )
    return tuple(lengths.astype(int).tolist())
