"""NIfTI files: nibabel reads the header, and the voxels are taken once it was checked.

A header is taken at its word only as far as the file bears it out: sizes are compared before
anything is allocated, and a compressed file is read to its end, where its checksum stands.
"""

from __future__ import annotations

import gzip
import math
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from medfusion_sdk.exceptions import VolumeError
from medfusion_sdk.readers.files import require_file
from medfusion_sdk.readers.nifti_header import MAX_VOXELS, NiftiHeader, parse_header
from medfusion_sdk.readers.nifti_orientation import millimetres, orientation_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_VOXELS", "NiftiVolume", "read_nifti"]

# What a compressed file may unpack to; as many float32.
_MAX_BYTES = 1 << 30
# Header extensions in front of the voxels, and what writers leave behind them.
_SLACK_BYTES = 1 << 24
_HEADER_BYTES = 540
_CHUNK = 1 << 20


@dataclass(frozen=True)
class NiftiVolume:
    """Voxels of a NIfTI file.

    Attributes
    ----------
    voxels : ndarray of shape (D, H, W)
        Numbers as the file stores them, in its type and byte order, possibly mapped into memory.
    slope, intercept : float
        What they are scaled by, and what is added then.
    spacing : tuple of float or None
        Millimetres between voxels along each axis; None where the header leaves them in doubt.
    doubt : str
        What the doubt is, for a message.
    """

    voxels: np.ndarray
    slope: float
    intercept: float
    spacing: tuple[float, ...] | None
    doubt: str


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
    require_file(path, VolumeError, "volume file")
    with _opened(path) as (file, compressed):
        header = parse_header(path, file.read(_HEADER_BYTES))
        _check_size(path, header, None if compressed else path.stat().st_size)
        if compressed:
            voxels = np.frombuffer(_unpack(path, file, header), header.dtype)
            voxels = voxels.reshape(header.shape, order="F")
        else:
            place: dict[str, Any] = {"offset": header.offset, "shape": header.shape}
            voxels = np.memmap(path, header.dtype, mode="r", order="F", **place)
    spacing, doubt = millimetres(header)
    if orientation is not None:
        from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

        moves = ornt_transform(orientation_of(path, header), axcodes2ornt(orientation))
        voxels = apply_orientation(voxels, moves)
        if spacing is not None:
            spacing = tuple(spacing[int(axis)] for axis in np.argsort(moves[:, 0]))
    return NiftiVolume(voxels, header.slope, header.intercept, spacing, doubt)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a file, unpacking one that is compressed whatever its name; damage is a VolumeError."""
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not compressed:
                yield file, False
                return
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked, True  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as cause:
        raise VolumeError(
            f"{path} can't be read as a NIfTI file: {type(cause).__name__}: {cause}. The file is "
            "cut off, damaged or something else; get it again."
        ) from cause


def _check_size(path: Path, header: NiftiHeader, found: int | None) -> None:
    """Compare what the header promises with the file's bytes, or with what may be unpacked."""
    n_bytes = math.prod(header.shape) * header.dtype.itemsize
    promised = header.offset + n_bytes
    if found is None:
        if n_bytes > _MAX_BYTES or header.offset > _SLACK_BYTES:
            raise VolumeError(
                f"{path} promises {n_bytes} bytes of voxels behind {header.offset} of others; at "
                f"most {_MAX_BYTES} behind {_SLACK_BYTES} are unpacked. If the header is right, "
                "unpack the file or store it in a smaller type."
            )
    elif found < promised:
        raise VolumeError(
            f"{path} promises {promised} bytes, shape {header.shape} of {header.dtype}; it has "
            f"{found}. The file is cut off, or its header is wrong."
        )


def _unpack(path: Path, file: BinaryIO, header: NiftiHeader) -> bytearray:
    """Unpack the voxels alone, and the rest to nowhere, up to the checksum at the end."""
    _read(path, file, header.offset - _HEADER_BYTES if header.offset > _HEADER_BYTES else 0, None)
    if header.offset < _HEADER_BYTES:  # NIfTI-1's header is shorter than what was read of it
        file.seek(header.offset)
    content = bytearray()  # grows with what is there, not with what was promised
    _read(path, file, math.prod(header.shape) * header.dtype.itemsize, content)
    left = _SLACK_BYTES
    while behind := file.read(_CHUNK):
        left -= len(behind)
        if left < 0:
            promised = header.offset + len(content) + _SLACK_BYTES
            raise VolumeError(
                f"{path} unpacks to more than the {promised} bytes that its header promises."
            )
    return content


def _read(path: Path, file: BinaryIO, n_bytes: int, content: bytearray | None) -> None:
    """Read so many bytes piece by piece, into `content` where there is one."""
    left = n_bytes
    while left > 0:
        piece = file.read(min(left, _CHUNK))
        if not piece:
            raise VolumeError(
                f"{path} unpacks to {left} bytes less than its header promises. The file is cut "
                "off, or its header is wrong."
            )
        left -= len(piece)
        if content is not None:
            content += piece
