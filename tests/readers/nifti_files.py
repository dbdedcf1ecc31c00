"""NIfTI files with any header, and what their voxels become."""

from __future__ import annotations

import gzip
import io

import nibabel
import numpy as np

WHOLE = np.arange(27, dtype=np.int16).reshape(3, 3, 3) - 9


def write(path, voxels, affine=None, *, kind=nibabel.Nifti1Image, order="<", **fields):
    """Write a file and then fields of its header, whether they make sense or not."""
    image = kind(voxels, np.eye(4) if affine is None else affine, dtype=voxels.dtype)
    image = kind(voxels, image.affine, image.header.as_byteswapped(order))
    image.header.set_xyzt_units("mm")
    content = bytearray(image.to_bytes())
    header = type(image.header).from_fileobj(io.BytesIO(bytes(content)), check=False)
    for name, value in fields.items():
        header[name] = value
    block = header.binaryblock
    content[: len(block)] = block
    packed = path.suffix == ".gz"
    path.write_bytes(gzip.compress(content, mtime=0) if packed else bytes(content))
    return path


def from_0_to_1(voxels, slope=1.0):
    exact = np.array([int(v) for v in voxels.ravel()]) if voxels.dtype.kind in "iu" else voxels
    exact = (np.asarray(exact, dtype=object) * int(np.sign(slope) or 1)).reshape(voxels.shape)
    low, high = exact.min(), exact.max()
    return ((exact - low) / (high - low)).astype(np.float32)
