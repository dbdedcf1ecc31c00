from __future__ import annotations

import gzip
import itertools

import nibabel
import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool3d, interpolate

from medfusion_sdk.exceptions import CellFileNotFoundError, VolumeError
from medfusion_sdk.readers import nifti
from medfusion_sdk.readers.resampling import resample
from medfusion_sdk.readers.volume import is_orientation, read_volume, volume_digest

RNG = np.random.default_rng(0)
VOXELS = RNG.normal(size=(6, 5, 4)).astype(np.float32)


def write(path, voxels=VOXELS, affine=None, **header):
    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def scaled(voxels):
    exact = voxels.astype(np.float64)
    return ((exact - exact.min()) / (exact.max() - exact.min())).astype(np.float32)


# -- orientation --------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((1, -1), repeat=3)))
def test_depth_height_and_width_point_up_back_and_left_however_the_file_stores_them(
    tmp_path, axes, flips
):
    # World coordinates point right, anterior and superior. The voxel furthest up, back and left
    # has the highest value, and must come last along every axis.
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(axes)].T * flips
    index = np.stack(np.meshgrid(*map(np.arange, (4, 5, 6)), indexing="ij"), axis=-1)
    world = index @ affine[:3, :3].T
    voxels = (world @ [-1.0, -100.0, 10_000.0]).astype(np.float32)
    read = read_volume(write(tmp_path / "a.nii", voxels, affine))
    ranks = read.ravel().argsort().reshape(read.shape)
    assert (ranks == np.arange(read.size).reshape(read.shape)).all()


def test_orientation_equals_nibabels_canonical_one(tmp_path):
    # Oblique: 20 degrees about the vertical axis, on top of a permutation.
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:3, :3] = [
        [np.cos(turn), 0, -np.sin(turn)],
        [np.sin(turn), 0, np.cos(turn)],
        [0, -2, 0],
    ]
    path = write(tmp_path / "a.nii.gz", VOXELS, affine)
    canonical = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(read_volume(path, orientation="RAS"), scaled(canonical))
    np.testing.assert_array_equal(
        read_volume(path, orientation="SPL"), scaled(canonical.transpose(2, 1, 0)[:, ::-1, ::-1])
    )
    np.testing.assert_array_equal(read_volume(path, orientation=None), scaled(VOXELS))


def test_orientation_has_one_letter_for_each_axis():
    assert all(map(is_orientation, ("RAS", "ILP", "SPL")))
    assert not any(map(is_orientation, ("RAL", "RA", "RASS", "ras", None)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sform_code": 0, "qform_code": 0}, "doesn't say how it is oriented"),
        ({"srow_x": (0.0, 1.0, 0.0, 0.0)}, "no orientation in space"),
        ({"srow_x": (np.nan, 0.0, 0.0, 0.0)}, "no orientation in space"),
        ({"srow_x": (-1.0, 0.0, 0.0, 0.0), "qform_code": 1}, "orient it differently"),
        ({"quatern_b": 4.0, "qform_code": 1}, "qform is invalid"),
    ],
    ids=["no code", "two axes are one", "NaN", "sform against qform", "quaternion"],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_wrong_affine_is_refused_unless_axes_are_taken_as_stored(tmp_path, change, message, suffix):
    path = tmp_path / f"a{suffix}"
    image = nibabel.Nifti1Image(VOXELS, np.eye(4))
    content = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header.from_fileobj(_file(content))
    for name, value in change.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(VolumeError, match=message):
        read_volume(path)
    np.testing.assert_array_equal(read_volume(path, orientation=None), scaled(VOXELS))


def _file(content):
    from io import BytesIO

    return BytesIO(bytes(content))


# -- size and spacing ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(3, 5, 2), (6, 1, 1), (2, 5, 4)])
def test_shrinking_by_whole_factors_equals_average_pooling(size):
    pooled = adaptive_avg_pool3d(torch.from_numpy(VOXELS)[None], size)[0].numpy()
    np.testing.assert_allclose(resample(VOXELS, size), pooled, atol=1e-6)


@pytest.mark.parametrize("size", [(12, 5, 4), (9, 7, 11)])
def test_growing_equals_trilinear_interpolation(size):
    grown = interpolate(torch.from_numpy(VOXELS)[None, None], size, mode="trilinear")[0, 0]
    np.testing.assert_allclose(resample(VOXELS, size), grown.numpy(), atol=1e-6)


def test_shrinking_by_a_fraction_keeps_the_mean_and_a_slope():
    assert resample(VOXELS, (4, 3, 3)).mean() == pytest.approx(VOXELS.mean(), abs=1e-6)
    slope = np.arange(7.0).reshape(1, 1, 7)
    # The first of three voxels covers 0, 1 and a third of 2: (0 + 1 + 2 / 3) / (7 / 3).
    np.testing.assert_allclose(resample(slope, (1, 1, 3))[0, 0], [5 / 7, 3, 37 / 7])


def test_same_size_is_the_volume_itself():
    assert resample(VOXELS, VOXELS.shape) is VOXELS


def test_spacing_keeps_lengths_and_size_cuts_or_pads(tmp_path):
    # A block of 8 mm a side in the middle of a field of view of 16 x 16 x 24 mm.
    voxels = np.zeros((16, 8, 24), dtype=np.float32)
    voxels[4:12, 2:6, 8:16] = 1
    path = write(tmp_path / "a.nii.gz", voxels, np.diag([1.0, 2.0, 1.0, 1.0]))
    read = read_volume(path, spacing=1.0, orientation="RAS")
    assert read.shape == (16, 16, 24)
    assert read[4:12, 5:11, 8:16].min() == 1
    fitted = read_volume(path, spacing=2.0, size=(10, 6, 12), orientation="RAS")
    assert fitted.shape == (10, 6, 12)
    block = np.zeros((10, 6, 12))
    block[3:7, 1:5, 4:8] = 1
    np.testing.assert_allclose(fitted, block)
    turned = read_volume(path, spacing=(1.0, 2.0, 1.0))
    assert turned.shape == (24, 8, 16)


def test_spacing_that_makes_too_many_voxels_is_refused(tmp_path):
    with pytest.raises(VolumeError, match=r"1.2e\+11 voxels at \[0.001, 0.001, 0.001\] mm"):
        read_volume(write(tmp_path / "a.nii"), spacing=0.001)
    path = write(tmp_path / "b.nii", pixdim=(1, np.nan, 1, 1, 1, 1, 1, 1))
    with pytest.raises(VolumeError, match="mm between voxels"):
        read_volume(path, spacing=1.0, orientation=None)


# -- values -------------------------------------------------------------------------------------


def test_values_run_from_zero_to_one_and_constant_volumes_are_zero():
    read = read_volume(VOXELS * 1000 - 500)
    assert (read.min(), read.max()) == (0.0, 1.0)
    np.testing.assert_allclose(read, scaled(VOXELS), atol=1e-6)
    assert (read_volume(np.full((2, 2, 2), 7)) == 0).all()
    assert read_volume(np.eye(3, dtype=bool)[None]).sum() == 3


def test_slope_and_intercept_of_the_header_are_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    image.header.set_slope_inter(-2.0, 5.0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    read = read_volume(tmp_path / "a.nii.gz", orientation=None)
    np.testing.assert_allclose(read.ravel(), np.arange(8)[::-1] / 7, atol=1e-6)


def test_nan_voxels_are_refused_beyond_the_share_that_may_be():
    holed = VOXELS.copy()
    holed[0, 0, :3] = np.nan
    with pytest.raises(VolumeError, match=r"2.50% of its voxels are NaN, 0.00% may be.*max_nan"):
        read_volume(holed)
    read = read_volume(holed, max_nan=0.025)
    assert (read[0, 0, :3] == 0).all()
    rest = ~np.isnan(holed)
    np.testing.assert_allclose(read[rest], scaled(holed[rest]), atol=1e-6)
    with pytest.raises(VolumeError, match=r"100\.00%"):
        read_volume(np.full((2, 2, 2), np.nan), max_nan=1.0)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_voxels_that_float32_cannot_hold_are_refused(value):
    with pytest.raises(VolumeError, match="infinite"):
        read_volume(np.array([[[0.0, value, np.nan]]]), max_nan=1.0)
    with pytest.raises(VolumeError, match="range"):
        read_volume(np.array([[[-3e38, 3e38]]]))


# -- cells and files ----------------------------------------------------------------------------


def test_files_arrays_and_lists_of_the_same_voxels_are_the_same_volume(tmp_path):
    np.save(tmp_path / "a.npy", VOXELS)
    cells = [VOXELS, VOXELS[None], VOXELS[..., None], VOXELS.tolist(), tmp_path / "a.npy"]
    for suffix in (".nii", ".nii.gz"):
        # What a file stores along its first axis is width, along its last depth.
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        cells.append(str(write(tmp_path / f"a{suffix}", VOXELS.transpose(2, 1, 0), affine)))
    for cell in cells:
        np.testing.assert_array_equal(read_volume(cell), scaled(VOXELS))


def test_nifti_2_and_a_fourth_axis_of_length_one_are_read(tmp_path):
    nibabel.save(nibabel.Nifti2Image(VOXELS[..., None], np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(
        read_volume(tmp_path / "a.nii.gz", orientation="RAS"), scaled(VOXELS)
    )


def test_reading_leaves_the_callers_array_alone():
    kept = VOXELS.copy()
    kept.flags.writeable = False
    np.testing.assert_array_equal(read_volume(kept), read_volume(VOXELS))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (3.0, "found float"),
        (b"bytes", "found bytes"),
        (np.zeros((4, 4)), r"shape \(4, 4\)"),
        (np.zeros((2, 4, 4, 4)), r"shape \(2, 4, 4, 4\)"),
        (np.zeros((4, 0, 4)), r"shape \(4, 0, 4\)"),
        (np.zeros((2, 2, 2), dtype=complex), "complex128"),
        ([[[1, 2], [3]]], "rectangular"),
        ("scan.mgz", "neither a NIfTI file"),
    ],
)
def test_cell_that_is_no_volume_is_refused(cell, message):
    with pytest.raises(VolumeError, match=message):
        read_volume(cell)


def test_absent_files_are_told_from_bad_ones(tmp_path):
    for name in ("a.nii", "a.nii.gz", "a.npy"):
        with pytest.raises(CellFileNotFoundError, match="no volume file"):
            read_volume(tmp_path / name)


def test_series_and_colours_are_refused(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.zeros((3, 3, 3, 7), dtype=np.float32))
    with pytest.raises(VolumeError, match=r"\(3, 3, 3, 7\): a series.*four_to_three"):
        read_volume(path)
    colours = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(VolumeError, match=r"\('R', 'G', 'B'\) at each voxel"):
        read_volume(write(tmp_path / "b.nii", colours))
    with pytest.raises(VolumeError, match="expected three axes"):
        read_volume(write(tmp_path / "c.nii", np.zeros((3, 3), dtype=np.float32)))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.999])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_file_that_was_cut_off_is_refused(tmp_path, suffix, share):
    path = write(tmp_path / f"a{suffix}", RNG.normal(size=(20, 20, 20)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(VolumeError, match="cut off"):
        read_volume(path)


def test_compressed_file_with_a_changed_voxel_is_refused(tmp_path):
    # Uncompressed blocks: what was changed unpacks without a complaint but the checksum's.
    noise = RNG.normal(size=(40, 40, 40))
    content = nibabel.Nifti1Image(noise, np.eye(4)).to_bytes()
    packed = bytearray(gzip.compress(content, compresslevel=0))
    packed[-100] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(packed)
    with pytest.raises(VolumeError, match="CRC"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"text that is no volume" * 40])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".npy"])
def test_file_of_something_else_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(VolumeError, match=f"a{suffix}"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_header_that_promises_more_than_memory_allocates_nothing(tmp_path, suffix):
    header = nibabel.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 30_000))
    content = header.binaryblock + bytes(4)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(VolumeError, match="promises 27000000000000 voxels"):
        read_volume(path)


def test_header_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((400, 400, 400))
    header["vox_offset"] = 352
    content = header.binaryblock + bytes(1000)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(VolumeError, match=r"promises 256000352 bytes.*it has 1348"):
        read_volume(tmp_path / "a.nii")
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    with pytest.raises(VolumeError, match="cut off"):
        read_volume(tmp_path / "a.nii.gz")


def test_compressed_file_that_unpacks_to_more_than_it_promises_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "_SLACK_BYTES", 1000)
    content = nibabel.Nifti1Image(VOXELS, np.eye(4)).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + bytes(1000)))
    read_volume(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content + bytes(1001)))
    with pytest.raises(VolumeError, match="unpacks to more"):
        read_volume(tmp_path / "b.nii.gz")


def test_digest_is_that_of_the_content(tmp_path):
    one, two = write(tmp_path / "a.nii"), write(tmp_path / "b.nii")
    other = write(tmp_path / "c.nii", VOXELS + 1)
    assert volume_digest(one) == volume_digest(str(two)) != volume_digest(other)
    assert volume_digest(VOXELS) == volume_digest(VOXELS.copy()) != volume_digest(VOXELS[::-1])
    with pytest.raises(CellFileNotFoundError):
        volume_digest(tmp_path / "d.nii")
