"""Headers that can't be meant, and what small files may take of memory."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib

import nibabel
import numpy as np
import pytest

from medfusion_sdk.exceptions import VolumeError
from medfusion_sdk.readers import nifti
from medfusion_sdk.readers.slices import read_slices
from medfusion_sdk.readers.volume import read_volume
from tests.readers.nifti_files import WHOLE, from_0_to_1, write

# -- kinds of files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["c8", "c16", [("R", "u1"), ("G", "u1"), ("B", "u1")], "f16", "c32"]
)
def test_voxels_that_are_no_real_numbers_are_refused(tmp_path, dtype):
    path = tmp_path / "a.nii"
    if dtype in ("f16", "c32"):
        write(path, np.zeros((3, 3, 40)), datatype={"f16": 1536, "c32": 2048}[dtype], bitpix=128)
        if np.finfo(np.longdouble).nmant == 112:
            return  # a type of this machine
    else:
        write(path, np.zeros((3, 3, 3), dtype=dtype))
    with pytest.raises(VolumeError, match=r"a\.nii"):
        read_volume(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": (3, 0, 3, 3, 1, 1, 1, 1)}, "expected three axes"),
        ({"dim": (3, -3, 3, 3, 1, 1, 1, 1)}, "expected three axes"),
        ({"dim": (0, 3, 3, 3, 1, 1, 1, 1)}, "states 0 axes"),
        ({"dim": (9, 3, 3, 3, 1, 1, 1, 1)}, "a.nii"),
        ({"dim": (4, 3, 3, 3, 0, 1, 1, 1)}, "a series"),
        ({"dim": (5, 3, 3, 3, 1, 2, 1, 1)}, "a series"),
        ({"dim": (2, 3, 3, 3, 1, 1, 1, 1)}, "expected three axes"),
        ({"datatype": 77}, "a.nii"),
        ({"vox_offset": 0}, "begin at byte 0"),
        ({"vox_offset": 100}, "a.nii"),
        ({"vox_offset": np.nan}, "begin at byte nan"),
        ({"vox_offset": np.inf}, "begin at byte inf"),
        ({"vox_offset": -1}, "a.nii"),
        ({"vox_offset": 400.5}, "begin at byte 400.5"),
        ({"vox_offset": 1e30}, "a.nii"),
        ({"magic": b"ni1"}, "pair of files"),
        ({"magic": b"abc"}, "complete header"),
        ({"pixdim": (-3, 1, 1, 1, 1, 1, 1, 1), "qform_code": 1}, r"pixdim\[0\] = -3"),
        ({"pixdim": (1, -1, 1, 1, 1, 1, 1, 1), "qform_code": 1, "sform_code": 0}, "negative"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_header_that_cannot_be_meant_is_refused(tmp_path, suffix, fields, message, capfd):
    path = write(tmp_path / f"a{suffix}", WHOLE, **fields)
    with pytest.raises(VolumeError, match=message):
        read_volume(path)
    assert capfd.readouterr().err == ""  # nibabel prints what it mends


@pytest.mark.parametrize("offset", [-5, 0, 539, 2**62, 2**63 - 1])
def test_nifti_2_with_an_offset_that_cannot_be_is_refused(tmp_path, offset):
    path = write(tmp_path / "a.nii", WHOLE, kind=nibabel.Nifti2Image, vox_offset=offset)
    with pytest.raises(VolumeError, match=r"a\.nii"):
        read_volume(path)


def test_handedness_and_signs_that_make_no_difference_are_read(tmp_path):
    # A zero in pixdim[0] is one; sform alone decides, and agrees with what qform says.
    for fields in (
        {"pixdim": (0, 1, 1, 1, 1, 1, 1, 1), "qform_code": 1, "sform_code": 0},
        {"pixdim": (1, -1, 1, 1, 1, 1, 1, 1), "qform_code": 0, "sform_code": 1},
        {"pixdim": (1, -1, 1, 1, 1, 1, 1, 1), "qform_code": 1, "sform_code": 1},
    ):
        path = write(tmp_path / "a.nii", WHOLE, **fields)
        np.testing.assert_array_equal(read_volume(path, orientation="RAS"), from_0_to_1(WHOLE))


def test_trailing_axes_of_length_one_are_no_axes(tmp_path):
    path = write(tmp_path / "a.nii", WHOLE, dim=(7, 3, 3, 3, 1, 1, 1, 1))
    np.testing.assert_array_equal(read_volume(path, orientation="RAS"), from_0_to_1(WHOLE))


def test_compression_is_known_by_content_not_by_name(tmp_path):
    content = write(tmp_path / "a.nii", WHOLE).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(content)
    (tmp_path / "c.nii").write_bytes(gzip.compress(content))
    for name in ("a.nii", "b.nii.gz", "c.nii"):
        np.testing.assert_array_equal(
            read_volume(tmp_path / name, orientation="RAS"), from_0_to_1(WHOLE)
        )


def test_slices_are_those_of_the_whole_volume(tmp_path):
    voxels = np.random.default_rng(0).integers(-99, 999, (5, 6, 7)).astype(np.int16)
    path = write(tmp_path / "a.nii.gz", voxels)
    whole = read_volume(path)
    for plane, axis in (("axial", 0), ("coronal", 1), ("sagittal", 2)):
        seen = np.moveaxis(whole, axis, 0)
        seen = seen if plane == "axial" else seen[:, ::-1]
        expected = np.repeat(np.rint(255 * seen.astype(float))[..., None], 3, axis=-1)
        np.testing.assert_array_equal(read_slices(path, slices="all", plane=plane), expected)
        few = read_slices(path, slices=3, plane=plane)
        np.testing.assert_array_equal(few, expected[[len(seen) * k // 6 for k in (1, 3, 5)]])


# -- memory -------------------------------------------------------------------------------------

_PEAK = """
import resource, sys
import numpy as np
from medfusion_sdk.readers.volume import read_volume

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

read_volume(np.arange(64).reshape(4, 4, 4), size=(2, 2, 2))
import nibabel
before = peak()
try:
    print(read_volume(sys.argv[1], **eval(sys.argv[2])).shape)
except Exception as error:
    print(type(error).__name__)
print(peak() - before)
"""


def peak_of(path, options):
    """What reading a file gives, and by how many MiB it raises a process's memory."""
    run = [sys.executable, "-c", _PEAK, str(path), repr(options)]
    result, grown = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )[:2]
    return result, float(grown)


def test_small_file_makes_no_more_than_its_result(tmp_path):
    rng = np.random.default_rng(0)
    small = rng.random((8, 8, 8)).astype(np.float32)
    path = write(tmp_path / "a.nii.gz", small, np.diag([80.0, 80.0, 80.0, 1.0]))
    result, grown = peak_of(path, {"spacing": 1.0, "size": (32, 64, 64)})
    assert result == "(32, 64, 64)"
    assert grown < 40
    result, grown = peak_of(path, {"spacing": 1.0})  # 262 million voxels of 512
    assert result == "VolumeError"
    assert grown < 20
    bytes_ = rng.integers(0, 255, (160, 160, 160)).astype(np.uint8)
    path = write(tmp_path / "b.nii", bytes_, np.diag([4.0, 4.0, 4.0, 1.0]))
    result, grown = peak_of(path, {"spacing": 1.0, "size": (32, 64, 64)})
    assert result == "(32, 64, 64)"
    assert grown < 100


def test_compressed_file_unpacks_to_what_its_header_promises_and_no_further(tmp_path):
    content = write(tmp_path / "a.nii", WHOLE).read_bytes()
    for name, where in (("behind", len(content)), ("before", 352)):
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        parts = [packer.compress(content[:where])]
        parts += [packer.compress(bytes(1 << 20)) for _ in range(200)]
        parts += [packer.compress(content[where:]), packer.flush()]
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(b"".join(parts))
        if name == "before":
            fields = nibabel.Nifti1Header(content[:348])
            fields["vox_offset"] = 352 + (200 << 20)
            packed = gzip.decompress(path.read_bytes())
            path.write_bytes(gzip.compress(fields.binaryblock + packed[348:], 1))
        result, grown = peak_of(path, {"size": (2, 2, 2)})
        assert result == "VolumeError"
        assert grown < 20


def test_compressed_volume_larger_than_may_be_unpacked_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.nii.gz", WHOLE)
    read_volume(path)
    monkeypatch.setattr(nifti, "_MAX_BYTES", WHOLE.nbytes - 1)
    with pytest.raises(VolumeError, match="unpack the file or store it in a smaller type"):
        read_volume(path)
    read_volume(write(tmp_path / "a.nii", WHOLE))
