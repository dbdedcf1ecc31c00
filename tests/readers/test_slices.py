"""Slices of volumes: which ones, and which way up."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from medfusion_sdk.exceptions import VolumeError
from medfusion_sdk.readers.slices import even_places, read_slices

# Along each axis of a body: right to left, front to back, below to above.
RIGHT, FRONT, LOW = 0, 0, 0


@pytest.fixture
def bright_corner():
    """Axial slices from below whose lowest, frontmost, rightmost voxel is the only bright one."""
    volume = np.zeros((3, 4, 5))
    volume[LOW, FRONT, RIGHT] = 1.0
    return volume


def test_places_are_the_middles_of_equal_parts():
    assert even_places(20, 20).tolist() == list(range(20))
    assert even_places(9, 3).tolist() == [1, 4, 7]
    assert even_places(5, 1).tolist() == [2]


@pytest.mark.parametrize(
    ("plane", "shape", "place"),
    [
        ("axial", (3, 4, 5), (LOW, 0, 0)),  # front on top, right on the left
        ("coronal", (4, 3, 5), (FRONT, 2, 0)),  # head on top, right on the left
        ("sagittal", (5, 3, 4), (RIGHT, 2, 0)),  # head on top, front on the left
    ],
)
def test_planes_are_shown_as_in_radiology(bright_corner, plane, shape, place):
    images = read_slices(bright_corner, slices="all", plane=plane)
    assert images.shape == (*shape, 3)
    assert images.dtype == np.uint8
    expected = np.zeros(shape, dtype=np.uint8)
    expected[place] = 255
    for channel in range(3):
        np.testing.assert_array_equal(images[..., channel], expected)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_file_is_turned_by_its_header(tmp_path, plane, axes):
    volume = np.random.default_rng(0).random((3, 4, 5))
    to_right_front_top = nibabel.Nifti1Image(volume.T[::-1, ::-1], np.eye(4))
    start = nibabel.orientations.axcodes2ornt("RAS")
    turn = nibabel.orientations.ornt_transform(
        start, nibabel.orientations.axcodes2ornt(tuple(axes))
    )
    path = tmp_path / "scan.nii.gz"
    nibabel.save(to_right_front_top.as_reoriented(turn), path)
    np.testing.assert_array_equal(
        read_slices(path, slices=2, plane=plane), read_slices(volume, slices=2, plane=plane)
    )


def test_grey_is_scaled_over_the_volume_not_the_slice():
    images = read_slices(np.array([[[2.0]], [[3.0]], [[6.0]]]), slices="all")
    assert images[:, 0, 0, 0].tolist() == [0, 64, 255]
    assert not read_slices(np.full((3, 4, 4), 7.0), slices=2).any()


def test_what_cannot_be_cut_is_refused(tmp_path):
    with pytest.raises(VolumeError, match=r"\(2, 3, 4, 5\), expected \(depth, height, width\)"):
        read_slices(np.zeros((2, 3, 4, 5)), slices=2)
    np.save(tmp_path / "thin.npy", np.zeros((3, 4, 5)))
    with pytest.raises(VolumeError, match=r"thin.npy has 3 axial slices, expected at least 4"):
        read_slices(tmp_path / "thin.npy", slices=4)
    assert len(read_slices(tmp_path / "thin.npy", slices=4, plane="coronal")) == 4
