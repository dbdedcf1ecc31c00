"""NIfTI files, read by nibabel once their header was checked.

A header is taken at its word only as far as the file bears it out: sizes are compared before
anything is allocated, and a compressed file is read to its end, where its checksum stands.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import CellFileNotFoundError, MissingDependencyError, VolumeError

__all__ = ["MAX_VOXELS", "NiftiVolume", "read_nifti"]

# A CT of 1024 slices; 1 GB in float32.
MAX_VOXELS = 1 << 28
# Header extensions in front of the voxels, and what writers leave behind them.
_SLACK_BYTES = 1 << 24


@dataclass(frozen=True)
class NiftiVolume:
    """Voxels of a NIfTI file.

    Attributes
    ----------
    voxels : ndarray of shape (D, H, W), float32
        Scaled as the header says; NaN where the file has NaN.
    spacing : tuple of float
        Millimetres between voxels along each axis.
    """

    voxels: np.ndarray
    spacing: tuple[float, ...]


def read_nifti(path: Path, orientation: str | None) -> NiftiVolume:
    """Read a file's voxels in a given orientation.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file, NIfTI-1 or NIfTI-2.
    orientation : str or None
        Where depth, height and width point to, as in "SPL"; None leaves the axes as stored.

    Returns
    -------
    NiftiVolume
        Voxels and spacing, axis by axis.

    Raises
    ------
    CellFileNotFoundError
        If there is no such file.
    VolumeError
        If the file isn't one complete three-dimensional volume of real numbers, or doesn't say
        how it is oriented.
    MissingDependencyError
        Without nibabel.
    """
    if not path.is_file():
        raise CellFileNotFoundError(f"no file {path}.")
    image = _open(path)
    shape = _checked_shape(path, image)
    image = _complete(path, image)
    try:
        voxels = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape)
    except Exception as cause:  # nibabel raises whatever a wrong header leads to
        raise _unreadable(path, cause) from cause
    if orientation is None:
        return NiftiVolume(voxels, tuple(float(zoom) for zoom in image.header.get_zooms()[:3]))
    return _oriented(path, image, voxels, orientation)


def _open(path: Path) -> Any:
    """Read the header."""
    try:
        import nibabel
    except ImportError as cause:
        raise MissingDependencyError(
            f"reading {path} needs nibabel: pip install 'medfusion-sdk[imaging]'."
        ) from cause
    try:
        image = nibabel.load(path)
    except Exception as cause:  # as above
        raise _unreadable(path, cause) from cause
    if not isinstance(image, nibabel.Nifti1Pair):
        raise VolumeError(f"{path} is a {type(image).__name__}, expected NIfTI.")
    return image


def _unreadable(path: Path, cause: BaseException) -> VolumeError:
    return VolumeError(
        f"{path} can't be read as a NIfTI file: {type(cause).__name__}: {cause}. The file is cut "
        "off, damaged or something else; get it again."
    )


def _checked_shape(path: Path, image: Any) -> tuple[int, ...]:
    """Return the three lengths that the header promises, if they can be real."""
    shape, dtype = tuple(int(length) for length in image.shape), image.get_data_dtype()
    if dtype.kind not in "fiu":
        raise VolumeError(
            f"{path} holds {dtype.names or dtype} at each voxel, expected one real number."
        )
    if len(shape) > 3 and all(length == 1 for length in shape[3:]):
        shape = shape[:3]
    if len(shape) > 3:
        raise VolumeError(
            f"{path} has the shape {shape}: a series, expected one volume. Choose a volume of it, "
            "or average them, for example by nibabel.funcs.four_to_three."
        )
    if len(shape) != 3 or min(shape) < 1:
        raise VolumeError(f"{path} has the shape {shape}, expected three axes.")
    n_voxels = np.prod(shape, dtype=object)
    if n_voxels > MAX_VOXELS:
        raise VolumeError(
            f"{path} promises {n_voxels} voxels, shape {shape}; at most {MAX_VOXELS} are read. If "
            "the header is right, resample the file first."
        )
    promised = int(image.dataobj.offset) + n_voxels * dtype.itemsize
    found = path.stat().st_size
    if not path.name.lower().endswith(".gz") and found < promised:
        raise VolumeError(
            f"{path} promises {promised} bytes, shape {shape} of {dtype}; it has {found}. The file "
            "is cut off, or its header is wrong."
        )
    return shape


def _complete(path: Path, image: Any) -> Any:
    """Return a compressed image from memory, its checksum compared; any other as it is."""
    if not path.name.lower().endswith(".gz"):
        return image
    most = int(image.dataobj.offset) + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    most += _SLACK_BYTES
    try:
        with gzip.open(path) as file:
            content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as cause:
        raise _unreadable(path, cause) from cause
    if len(content) > most:
        raise VolumeError(f"{path} unpacks to more than the {most} bytes that its header promises.")
    return type(image).from_bytes(content)


def _oriented(path: Path, image: Any, voxels: np.ndarray, orientation: str) -> NiftiVolume:
    from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

    current = _orientation_of(path, image)
    moves = ornt_transform(current, axcodes2ornt(orientation))
    spacing = np.empty(3)
    spacing[moves[:, 0].astype(int)] = np.linalg.norm(image.affine[:3, :3], axis=0)
    return NiftiVolume(apply_orientation(voxels, moves), tuple(spacing.tolist()))


def _orientation_of(path: Path, image: Any) -> np.ndarray:
    """Nearest anatomical axes of the stored ones, where header and affine are to be believed."""
    from nibabel.orientations import io_orientation

    found = []
    for name in ("sform", "qform"):
        try:
            affine, code = getattr(image, f"get_{name}")(coded=True)
        except Exception as cause:  # a quaternion longer than one, say
            raise VolumeError(f"{path}: its {name} is invalid: {cause}.") from cause
        if not code:
            continue
        axes = affine[:3, :3]
        lengths = np.linalg.norm(axes, axis=0)
        # Of the volume that the axes span: zero where two of them are one.
        if not np.isfinite(affine).all() or abs(np.linalg.det(axes)) <= 1e-3 * lengths.prod():
            raise VolumeError(
                f"{path}: its {name} is no orientation in space, {axes.tolist()}. Repair the "
                "header, or set orientation=None to take the axes as they are stored."
            )
        found.append(io_orientation(affine))
    if not found:
        raise VolumeError(
            f"{path} doesn't say how it is oriented (sform and qform codes are 0), so left and "
            "right can't be told apart. Repair the header, or set orientation=None to take the "
            "axes as they are stored."
        )
    if not np.array_equal(found[0], found[-1]):
        raise VolumeError(
            f"{path}: sform and qform orient it differently. Repair the header, or set "
            "orientation=None to take the axes as they are stored."
        )
    return found[0]
