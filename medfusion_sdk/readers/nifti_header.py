"""The header of a NIfTI file: parsed by nibabel, checked, and what nibabel would mend refused."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import MissingDependencyError, VolumeError

__all__ = ["MAX_VOXELS", "NiftiHeader", "parse_header"]

# A CT of 1024 slices.
MAX_VOXELS = 1 << 28

# Where the magic stands in NIfTI-1 and NIfTI-2, what it is there, and the header's bytes.
_MAGIC = {1: (344, b"n+1\0", 348), 2: (4, b"n+2\0\r\n\x1a\n", 540)}
_PAIRS = (b"ni1\0", b"ni2\0\r\n\x1a\n")

# nibabel prints what it mends to the screen, without a file's name.
_quiet = logging.getLogger("medfusion_sdk.nifti")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


@dataclass(frozen=True)
class NiftiHeader:
    """What a header says of its voxels.

    Attributes
    ----------
    shape : tuple of int
        Three lengths.
    dtype : dtype
        A real type, in the file's byte order.
    offset : int
        Bytes before the first voxel.
    slope, intercept : float
        1 and 0 where voxels aren't scaled.
    fields : Nifti1Header
        The header for the rest, pixdim as in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    fields: Any


def parse_header(path: Path, content: bytes) -> NiftiHeader:
    """Parse and check a header.

    Parameters
    ----------
    path : Path
        The file, for messages.
    content : bytes
        Its first 540 bytes, or all of a shorter one.

    Returns
    -------
    NiftiHeader
        Of one volume of real numbers.

    Raises
    ------
    VolumeError
        If it is none.
    MissingDependencyError
        Without nibabel.
    """
    fields = _fields(path, content)
    dtype = fields.get_data_dtype()
    if dtype.kind not in "fiu":
        raise VolumeError(
            f"{path} holds {dtype.names or dtype} at each voxel, expected one real number."
        )
    return NiftiHeader(
        _shape(path, fields), dtype, _offset(path, fields), *_scaling(path, fields), fields
    )


def _fields(path: Path, content: bytes) -> Any:
    try:
        import nibabel
    except ImportError as cause:
        raise MissingDependencyError(
            f"reading {path} needs nibabel: pip install 'medfusion-sdk[imaging]'."
        ) from cause
    kinds = {1: nibabel.Nifti1Header, 2: nibabel.Nifti2Header}
    for version, (place, magic, size) in _MAGIC.items():
        found = content[place : place + len(magic)]
        if found in _PAIRS:
            raise VolumeError(
                f"{path} is the header of a pair of files. Make one of them: "
                "nibabel.save(nibabel.load('name.hdr'), 'name.nii.gz')."
            )
        if found != magic or len(content) < size:
            continue
        try:
            fields = kinds[version](content[:size], check=False)
            pixdim = np.array(fields["pixdim"])
            fields.check_fix(logger=_quiet, error_level=40)
        except Exception as cause:  # nibabel raises whatever a wrong header leads to
            raise VolumeError(
                f"{path} can't be read as a NIfTI file: {type(cause).__name__}: {cause}. The file "
                "is damaged; get it again."
            ) from cause
        fields["pixdim"] = pixdim
        return fields
    raise VolumeError(
        f"{path} can't be read as a NIfTI file: it doesn't begin with a complete header of one. "
        "The file is cut off, damaged or something else; get it again."
    )


def _shape(path: Path, fields: Any) -> tuple[int, ...]:
    """Return three lengths."""
    lengths = [int(length) for length in fields["dim"]]
    if not 1 <= lengths[0] <= 7:
        raise VolumeError(f"{path} states {lengths[0]} axes, expected three.")
    shape = tuple(lengths[1 : lengths[0] + 1])
    if len(shape) > 3 and all(length == 1 for length in shape[3:]):
        shape = shape[:3]
    if len(shape) > 3:
        raise VolumeError(
            f"{path} has the shape {shape}: a series, expected one volume. Choose a volume of it, "
            "or average them, for example by nibabel.funcs.four_to_three."
        )
    if len(shape) != 3 or min(shape) < 1:
        raise VolumeError(f"{path} has the shape {shape}, expected three axes.")
    if math.prod(shape) > MAX_VOXELS:
        raise VolumeError(
            f"{path} promises {math.prod(shape)} voxels, shape {shape}; at most {MAX_VOXELS} are "
            "read. If the header is right, resample the file first."
        )
    return shape


def _offset(path: Path, fields: Any) -> int:
    offset = float(fields["vox_offset"])
    least = int(fields.single_vox_offset)
    # A float in NIfTI-1.
    if not (least <= offset < 2**62 and offset.is_integer()):
        raise VolumeError(
            f"{path} states that its voxels begin at byte {offset:g}, expected a whole number of "
            f"at least {least}. Repair the header, or get the file again."
        )
    return int(offset)


def _scaling(path: Path, fields: Any) -> tuple[float, float]:
    """Slope and intercept; by the standard a slope of zero, or none, means no scaling at all."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise VolumeError(
            f"{path} scales its voxels by {slope:g} and adds {intercept:g}. Repair the header."
        )
    return slope, intercept
