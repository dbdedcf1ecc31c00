"""What EchoPrime sees; its network is tested in tests/echo, where torchvision is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medfusion_sdk.backbones.echo_prime_clips import FRAMES, prepare
from medfusion_sdk.backbones.video import borrow_video_backbone, find_video_source
from medfusion_sdk.exceptions import MissingDependencyError, WeightsNotFoundError
from tests.echo_frames import CUTS, draw_frame

ORACLE = Path(__file__).parents[1] / "data" / "echo_prime_oracle.npz"
# As the authors publish them.
MEAN = np.array([29.110628, 28.076836, 29.096405])
STD = np.array([47.989223, 46.456997, 47.20083])


class User:
    """Whoever borrows."""


def grey_levels(clip):
    """Undo the authors' scaling: (frames, H, W, 3)."""
    return clip.transpose(1, 2, 3, 0) * STD + MEAN


@pytest.mark.parametrize("shape", CUTS, ids=str)
def test_frame_is_cut_and_resized_as_opencv_does_it(shape):
    with np.load(ORACLE) as oracle:
        expected = oracle["x".join(map(str, shape))].astype(float)
    seen = grey_levels(prepare(draw_frame(*shape)[None]))[0, ::5, ::5]
    # OpenCV weighs eight-bit pixels in whole numbers, so a grey level may be the next one.
    assert np.abs(seen - expected).max() < 1.01
    assert np.abs(seen - expected).mean() < 0.05


def test_picture_that_is_larger_by_one_row_or_column_is_not_cut_to_nothing():
    for shape in ((61, 60), (60, 61), (60, 60)):
        frame = np.full((1, *shape, 3), 200, np.uint8)
        np.testing.assert_allclose(grey_levels(prepare(frame))[0], 200, atol=1e-3)


def test_clip_has_every_second_frame_of_thirty_two_and_ends_in_zeros_where_it_is_short():
    video = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((1, 40, 40, 3), np.uint8)
    levels = grey_levels(prepare(video[FRAMES]))[:, 100, 100, 0]
    np.testing.assert_allclose(levels, np.arange(0, 32, 2), atol=1e-3)
    short = prepare(video[:5][FRAMES])
    np.testing.assert_allclose(grey_levels(short)[:3, 100, 100, 0], [0, 2, 4], atol=1e-3)
    assert not short[:, 3:].any()


def test_missing_checkpoint_is_named_with_where_to_get_it(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"needs weights=.*github\.com/echonet"):
        find_video_source("echo-prime", None)
    with pytest.raises(WeightsNotFoundError, match=r"no file .*nowhere\.pt"):
        find_video_source("echo-prime", tmp_path / "nowhere.pt")


def test_missing_torchvision_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models.video", None)
    (tmp_path / "echo.pt").write_bytes(b"any")
    source = find_video_source("echo-prime", tmp_path / "echo.pt")
    with pytest.raises(MissingDependencyError, match=r"medfusion-sdk\[echo\]"):
        borrow_video_backbone(User(), source, torch.device("cpu"), torch.float32)
