"""NIfTI files against an independent decoding, byte by byte, and headers that can't be meant."""

from __future__ import annotations

import gzip
import struct

import nibabel
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medfusion_sdk.exceptions import VolumeError
from medfusion_sdk.readers.resampling import resample
from medfusion_sdk.readers.volume import read_volume
from tests.readers.nifti_files import WHOLE, from_0_to_1, write

TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8",
    1280: "u8",
}  # fmt: skip
UNITS = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}


# -- an independent decoding --------------------------------------------------------------------


def decode(content):
    """Voxels, matrix and scaling of a file's bytes, by the standard's table of offsets."""
    order = "<" if struct.unpack_from("<i", content)[0] in (348, 540) else ">"
    two = struct.unpack_from(order + "i", content)[0] == 540
    at = (
        {"dim": (16, "8q"), "type": (12, "h"), "pixdim": (104, "8d"), "offset": (168, "q"),
         "scale": (176, "2d"), "codes": (344, "2i"), "quatern": (352, "6d"), "srow": (400, "12d")}
        if two
        else {"dim": (40, "8h"), "type": (70, "h"), "pixdim": (76, "8f"), "offset": (108, "f"),
              "scale": (112, "2f"), "codes": (252, "2h"), "quatern": (256, "6f"),
              "srow": (280, "12f")}
    )  # fmt: skip
    field = {k: struct.unpack_from(order + form, content, place) for k, (place, form) in at.items()}
    shape = field["dim"][1 : 1 + field["dim"][0]][:3]
    dtype = np.dtype(order + TYPES[field["type"][0]])
    n = int(np.prod(shape))
    voxels = np.frombuffer(content, dtype, n, int(field["offset"][0])).reshape(shape, order="F")
    if field["codes"][1]:
        matrix = np.array(field["srow"]).reshape(3, 4)[:, :3]
    else:
        b, c, d = field["quatern"][:3]
        a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        hand = -1.0 if field["pixdim"][0] < 0 else 1.0
        matrix = turn * np.array(field["pixdim"][1:4]) * [1, 1, hand]
    return voxels, matrix, field["scale"]


def to_ras(voxels, matrix):
    """Turn each stored axis to the anatomical one that its largest component lies along."""
    axes = matrix / np.linalg.norm(matrix, axis=0)
    nearest = np.abs(axes).argmax(axis=0)
    # Where two axes are about as near, which is taken is a convention.
    ranked = np.sort(np.abs(axes), axis=0)
    assume(sorted(nearest.tolist()) == [0, 1, 2] and (ranked[2] - ranked[1]).min() > 0.1)
    order = np.argsort(nearest)
    signs = [int(np.sign(axes[world, stored])) for world, stored in enumerate(order)]
    return voxels.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]


@st.composite
def files(draw):
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(*[st.integers(2, 5)] * 3))
    dtype = np.dtype(draw(st.sampled_from(sorted(TYPES.values()))))
    if dtype.kind == "f":
        voxels = numbers.normal(size=shape).astype(dtype)
    else:
        bounds = np.iinfo(dtype)
        voxels = numbers.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)
    quaternion = numbers.normal(size=4)
    a, b, c, d = quaternion / np.linalg.norm(quaternion) * np.sign(quaternion[0] or 1)
    turn = nibabel.quaternions.quat2mat([a, b, c, d])
    affine = np.eye(4)
    affine[:3, :3] = turn * draw(st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3))
    affine[:3, :3] *= draw(st.sampled_from([1, -1]))  # of either hand
    return (
        voxels,
        affine,
        draw(st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image])),
        draw(st.sampled_from("<>")),
        draw(st.sampled_from([".nii", ".nii.gz"])),
        draw(st.sampled_from([(1, 0), (0, 1), (1, 1)])),
        draw(st.sampled_from([(0.0, 7.0), (1.0, 0.0), (2.5, -3.0), (-0.5, 1e3)])),
    )


@settings(max_examples=150, deadline=None)
@given(files())
def test_any_file_is_read_as_the_standard_says_and_turned_as_nibabel_turns_it(
    tmp_path_factory, file
):
    voxels, affine, kind, order, suffix, codes, scale = file
    path = tmp_path_factory.mktemp("nifti") / f"a{suffix}"
    fields = {"qform_code": codes[0], "sform_code": codes[1]}
    fields |= {"scl_slope": scale[0], "scl_inter": scale[1]}
    if codes == (1, 0):
        fields |= {f"srow_{axis}": (0, 0, 0, 0) for axis in "xyz"}
    image = nibabel.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.set_qform(affine, 1)
    quatern = {name: image.header[name] for name in ("quatern_b", "quatern_c", "quatern_d")}
    pixdim = image.header["pixdim"]
    write(path, voxels, affine, kind=kind, order=order, pixdim=pixdim, **quatern, **fields)
    content = path.read_bytes()
    stored, matrix, (slope, _) = decode(gzip.decompress(content) if suffix != ".nii" else content)
    np.testing.assert_array_equal(stored, voxels)
    expected = to_ras(from_0_to_1(stored, slope), matrix)
    read = read_volume(path, orientation="RAS")
    np.testing.assert_allclose(read, expected, atol=1e-7)
    canonical = nibabel.as_closest_canonical(
        nibabel.Nifti1Image(from_0_to_1(stored, slope), affine)
    )
    np.testing.assert_allclose(read, canonical.get_fdata(dtype=np.float32), atol=1e-7)
    np.testing.assert_array_equal(read_volume(path), read.transpose(2, 1, 0)[:, ::-1, ::-1])


# -- lengths ------------------------------------------------------------------------------------

BALL = np.zeros((12, 12, 12), np.float32)
BALL[3:9, 4:8, 5:7] = 1


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("orientation", ["RAS", "SPL", None])
def test_spacing_is_in_millimetres_whatever_the_headers_unit(tmp_path, unit, kind, orientation):
    image = kind(BALL, np.diag([2 / UNITS[unit]] * 3 + [1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    read = read_volume(tmp_path / "a.nii", spacing=1.0, orientation=orientation)
    expected = resample(BALL, (24, 24, 24))
    turned = expected.transpose(2, 1, 0)[:, ::-1, ::-1] if orientation == "SPL" else expected
    np.testing.assert_allclose(read, turned, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"xyzt_units": 5}, "unit of length has the code 5"),
        ({"xyzt_units": 0, "pixdim": (1, 1e-3, 1e-3, 1e-3, 0, 0, 0, 0)}, "no unit of length"),
        ({"xyzt_units": 0, "pixdim": (1, 9e3, 9e3, 9e3, 0, 0, 0, 0)}, "no unit of length"),
        ({"pixdim": (1, 2, 1, 1, 0, 0, 0, 0)}, r"sform has voxels of \[1.0.*pixdim of \[2.0"),
        ({"pixdim": (1, 0, 1, 1, 0, 0, 0, 0)}, r"it states \[0.0, 1.0, 1.0\] mm"),
        ({"pixdim": (1, np.inf, 1, 1, 0, 0, 0, 0)}, r"it states \[inf"),
    ],
)
def test_lengths_in_doubt_are_told_where_they_are_asked_for(tmp_path, fields, message):
    path = write(tmp_path / "a.nii", BALL, **{"qform_code": 0, "sform_code": 1, **fields})
    read_volume(path, size=(6, 6, 6))  # needs none
    with pytest.raises(VolumeError, match=message):
        read_volume(path, size=(6, 6, 6), spacing=2.0)


def test_size_at_a_spacing_is_the_middle_of_the_whole(tmp_path):
    voxels = np.random.default_rng(0).random((9, 14, 11)).astype(np.float32)
    path = write(tmp_path / "a.nii", voxels, np.diag([1.5, 0.7, 2.0, 1.0]))
    for spacing, size in ((0.5, (8, 7, 9)), (1.9, (4, 30, 5)), ((1.5, 0.7, 2.0), (5, 20, 11))):
        whole = read_volume(path, spacing=spacing, orientation=None)
        read = read_volume(path, spacing=spacing, orientation=None, size=size)
        expected = np.zeros(size, np.float32)
        target, source = [], []
        for found, wanted in zip(whole.shape, size, strict=True):
            cut, pad = max(0, found - wanted) // 2, max(0, wanted - found) // 2
            source.append(slice(cut, cut + min(found, wanted)))
            target.append(slice(pad, pad + min(found, wanted)))
        expected[tuple(target)] = whole[tuple(source)]
        np.testing.assert_allclose(read, expected, atol=1e-6)


# -- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, np.nan])
@pytest.mark.parametrize("intercept", [0.0, 5.0, np.nan, np.inf])
def test_no_slope_is_no_scaling_whatever_the_intercept(tmp_path, slope, intercept):
    path = write(tmp_path / "a.nii", WHOLE, scl_slope=slope, scl_inter=intercept)
    read = read_volume(path, orientation=None)
    np.testing.assert_allclose(read, (WHOLE + 9) / 26, atol=1e-7)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ((1.0, np.nan), "adds nan"),
        ((1.0, np.inf), "adds inf"),
        ((np.inf, 0.0), "by inf"),
        ((-np.inf, 0.0), "by -inf"),
        ((3e38, 0.0), "beyond float32"),
        ((1.0, 3.4e38), None),
        ((1e36, 3.4e38), "beyond float32"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scaling_that_overflows_is_refused(tmp_path, suffix, scale, message):
    path = write(tmp_path / f"a{suffix}", WHOLE, scl_slope=scale[0], scl_inter=scale[1])
    if message is None:  # what is added takes no part in a range
        np.testing.assert_allclose(read_volume(path, orientation=None), (WHOLE + 9) / 26, atol=1e-7)
        return
    with pytest.raises(VolumeError, match=message):
        read_volume(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_volume_of_one_unusable_value_is_refused(tmp_path, dtype, value):
    path = write(tmp_path / "a.nii.gz", np.full((3, 3, 3), value, dtype))
    with pytest.raises(VolumeError, match="NaN" if np.isnan(value) else "infinite"):
        read_volume(path, max_nan=1.0)
    mixed = np.zeros((3, 3, 3), dtype)
    mixed[0, 0, 0], mixed[2, 2, 2] = value, np.inf
    with pytest.raises(VolumeError, match="infinite"):
        read_volume(write(tmp_path / "b.nii", mixed), max_nan=1.0)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("slope", [1.0, -2.0])
def test_integers_keep_their_steps_at_both_ends_of_their_type(tmp_path, dtype, slope):
    bounds = np.iinfo(dtype)
    top = (np.arange(27, dtype="u8") + (bounds.max - 26)).astype(dtype).reshape(3, 3, 3)
    ends = np.array([bounds.min, bounds.max, 0, 1, 2, 3, 4, 5], dtype).reshape(2, 2, 2)
    for voxels in (top, ends):
        path = write(tmp_path / "a.nii", voxels, scl_slope=slope)
        read = read_volume(path, orientation=None)
        np.testing.assert_allclose(read, from_0_to_1(voxels, slope), atol=1e-7)
        np.testing.assert_array_equal(read_volume(voxels), from_0_to_1(voxels))


def test_small_range_on_a_large_offset_is_kept():
    voxels = 1e6 + np.arange(27).reshape(3, 3, 3) / 1000
    np.testing.assert_allclose(read_volume(voxels), np.arange(27).reshape(3, 3, 3) / 26, atol=1e-6)
