"""Videos from files and arrays, and which are refused."""

from __future__ import annotations

import numpy as np
import pytest

from medfusion_sdk.exceptions import CellFileNotFoundError, VideoError
from medfusion_sdk.readers.video import as_videos, read_frames, video_digest

FRAMES = np.random.default_rng(0).integers(0, 256, size=(40, 6, 9, 3), dtype=np.uint8)
SOME = slice(0, 32, 2)


def test_wanted_frames_of_file_and_array_are_read_alike(tmp_path):
    np.save(tmp_path / "video.npy", FRAMES)
    for video in (FRAMES, tmp_path / "video.npy", str(tmp_path / "video.npy")):
        read = read_frames(video, SOME)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, FRAMES[0:32:2])


def test_short_video_gives_the_frames_there_are():
    np.testing.assert_array_equal(read_frames(FRAMES[:5], SOME), FRAMES[[0, 2, 4]])


def test_grey_frames_have_three_equal_channels():
    grey = FRAMES[..., 1]
    expected = np.repeat(grey[0:32:2, ..., None], 3, axis=-1)
    np.testing.assert_array_equal(read_frames(grey, SOME), expected)
    np.testing.assert_array_equal(read_frames(grey[..., None], SOME), expected)


def test_values_are_scaled_by_their_type_or_by_what_there_is():
    floats = FRAMES[..., 0] / 255
    np.testing.assert_array_equal(read_frames(floats, SOME), read_frames(FRAMES[..., 0], SOME))
    counts = np.zeros((3, 4, 4), np.int32)
    counts[2] = 900
    with pytest.raises(VideoError, match="scale='minmax'"):
        read_frames(counts, slice(None))
    # Over all frames together: a frame keeps its brightness beside the others.
    assert read_frames(counts, slice(None), scale="minmax").max(axis=(1, 2, 3)).tolist() == [
        0, 0, 255,
    ]  # fmt: skip


def test_only_the_wanted_frames_of_a_file_are_read(tmp_path):
    path = tmp_path / "long.npy"
    shape = (2_000, 512, 512)  # half a gigabyte, of which nothing but the header is written
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    assert read_frames(path, SOME).shape == (16, 512, 512, 3)


def test_more_than_memory_should_hold_is_refused(tmp_path):
    path = tmp_path / "wide.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(16, 6000, 6000))
    with pytest.raises(VideoError, match=r"wide\.npy: 16 frames of \(6000, 6000, 1\) are more"):
        read_frames(path, slice(None))


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.zeros((8, 9)), r"shape \(8, 9\), expected \(frames, H, W\)"),
        (np.zeros((224, 224, 3)), r"shape \(224, 224, 3\)"),
        (np.zeros((4, 3, 8, 9)), r"shape \(4, 3, 8, 9\)"),
        (np.zeros((0, 8, 9)), r"shape \(0, 8, 9, 1\)"),
        (np.full((2, 4, 4), np.nan), "NaN or infinity"),
        (np.array([[["a"]]]), "real numbers"),
        (3, "found int '3'"),
        ([1, 2], "found list"),
    ],
    ids=str,
)
def test_what_is_no_video_is_refused(video, message):
    with pytest.raises(VideoError, match=message):
        read_frames(video, SOME)


@pytest.mark.parametrize("use", [video_digest, lambda cell: read_frames(cell, SOME)])
def test_file_that_is_missing_or_of_another_kind_is_named(tmp_path, use):
    with pytest.raises(CellFileNotFoundError, match=r"no video file at .*nowhere\.npy"):
        use(tmp_path / "nowhere.npy")
    (tmp_path / "film.avi").write_bytes(b"RIFF")
    with pytest.raises(VideoError, match=r"film\.avi: videos are read from \.npy"):
        use(tmp_path / "film.avi")


def test_study_is_a_list_of_videos_and_its_digest_is_of_all():
    assert as_videos("a.npy") == ["a.npy"]
    assert as_videos(("a.npy", "b.npy")) == ["a.npy", "b.npy"]
    one, two = FRAMES, FRAMES[:9]
    assert video_digest([one]) == video_digest(one)
    assert len({video_digest(study) for study in (one, [one, two], [two, one], [one, one])}) == 4
