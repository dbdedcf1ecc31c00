"""How the voxels of a NIfTI file lie in space, where its header leaves no doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import VolumeError
from medfusion_sdk.readers.nifti_header import NiftiHeader

__all__ = ["millimetres", "orientation_of"]

# Of the three lowest bits of xyzt_units; without a unit everybody takes millimetres.
_MILLIMETRES = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
# Longest side of what has no unit: a head in metres is below, one in micrometres above.
_PLAUSIBLE_MM = (0.5, 20_000.0)
# Share by which sform's axes may differ from pixdim.
_TOLERANCE = 0.01
_AS_STORED = "Repair the header, or set orientation=None to take the axes as they are stored."


def orientation_of(path: Path, header: NiftiHeader) -> np.ndarray:
    """Find the nearest anatomical axes of the stored ones.

    Parameters
    ----------
    path : Path
        The file, for messages.
    header : NiftiHeader
        Its header.

    Returns
    -------
    ndarray of shape (3, 2)
        Axis and direction, as nibabel's ``io_orientation`` gives them.

    Raises
    ------
    VolumeError
        If sform and qform are not set, invalid, or contradict each other.
    """
    from nibabel.orientations import io_orientation

    found = [io_orientation(affine) for affine in _affines(path, header.fields)]
    if not found:
        raise VolumeError(
            f"{path} doesn't say how it is oriented (sform and qform codes are 0), so left and "
            f"right can't be told apart. {_AS_STORED}"
        )
    if not np.array_equal(found[0], found[-1]):
        raise VolumeError(f"{path}: sform and qform orient it differently. {_AS_STORED}")
    return found[0]


def _affines(path: Path, fields: Any) -> list[np.ndarray]:
    """Matrices of sform and qform, of those that are set."""
    found = []
    for name in ("sform", "qform"):
        if int(fields[f"{name}_code"]) == 0:
            continue
        affine = fields.get_sform() if name == "sform" else _qform(path, fields)
        axes = affine[:3, :3]
        # Of the volume that the axes span: zero where two of them are one.
        with np.errstate(over="ignore", invalid="ignore"):
            flat = not abs(np.linalg.det(axes)) > 1e-3 * np.linalg.norm(axes, axis=0).prod()
        if flat or not np.isfinite(affine).all():
            raise VolumeError(
                f"{path}: its {name} is no orientation in space, {axes.tolist()}. {_AS_STORED}"
            )
        found.append(affine)
    if len(found) == 1 and int(fields["qform_code"]) and (fields["pixdim"][1:4] < 0).any():
        raise VolumeError(
            f"{path}: its qform goes with a negative pixdim, {fields['pixdim'][1:4].tolist()}, "
            f"which programs read in different ways. {_AS_STORED}"
        )
    return found


def _qform(path: Path, fields: Any) -> np.ndarray:
    """Matrix of the quaternion, of the sizes of voxels, and of the handedness in pixdim[0]."""
    handedness = float(fields["pixdim"][0])
    if handedness not in (-1.0, 0.0, 1.0):
        raise VolumeError(
            f"{path}: its qform goes with pixdim[0] = {handedness:g}, expected -1 or 1. "
            f"{_AS_STORED}"
        )
    mended = fields.copy()
    mended["pixdim"][0] = handedness or 1.0
    mended["pixdim"][1:4] = np.abs(fields["pixdim"][1:4])
    try:
        return mended.get_qform()
    except Exception as cause:  # a quaternion longer than one, say
        raise VolumeError(f"{path}: its qform is invalid: {cause}. {_AS_STORED}") from cause


def millimetres(header: NiftiHeader) -> tuple[tuple[float, ...] | None, str]:
    """Find the distance of voxels along each stored axis.

    Parameters
    ----------
    header : NiftiHeader
        A file's header.

    Returns
    -------
    spacing : tuple of float or None
        Millimetres; None where there is a doubt.
    doubt : str
        What it is.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _millimetres(header)


def _millimetres(header: NiftiHeader) -> tuple[tuple[float, ...] | None, str]:
    """As :func:`millimetres`, where lengths beyond any number are told, not warned of."""
    fields = header.fields
    found = np.abs(np.asarray(fields["pixdim"][1:4], dtype=float))
    unit = int(fields["xyzt_units"]) & 7
    if unit not in _MILLIMETRES:
        return None, f"its unit of length has the code {unit}, which the standard doesn't know"
    spacing = found * _MILLIMETRES[unit]
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        return None, f"it states {spacing.tolist()} mm between voxels"
    longest = float((spacing * header.shape).max())
    if unit == 0 and not _PLAUSIBLE_MM[0] <= longest <= _PLAUSIBLE_MM[1]:
        return None, f"it states no unit of length, and would be {longest:g} mm long in millimetres"
    if int(fields["sform_code"]):
        lengths = np.linalg.norm(fields.get_sform()[:3, :3], axis=0)
        if not np.allclose(lengths, found, rtol=_TOLERANCE, atol=0):
            return None, (
                f"its sform has voxels of {lengths.round(4).tolist()}, its pixdim of "
                f"{found.round(4).tolist()}"
            )
    return tuple(spacing.tolist()), ""
