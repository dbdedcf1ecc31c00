"""VideoEncoder: studies of one or several videos, with the stand-in."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from medfusion_sdk import make_modality_transformer
from medfusion_sdk.backbones.standin_video import StandInVideo
from medfusion_sdk.encoders.video import VideoEncoder
from medfusion_sdk.exceptions import EncoderWarning, ParameterError, VideoError

STANDIN = "standin-video"


@pytest.fixture
def videos():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size=(20 + i, 40, 50), dtype=np.uint8) for i in range(5)]


@pytest.fixture
def studies(videos, tmp_path):
    """Five cells: a path, a list of paths, none, an array, a list of both."""
    for i, video in enumerate(videos):
        np.save(tmp_path / f"{i}.npy", video)
    paths = [str(tmp_path / f"{i}.npy") for i in range(5)]
    cells = [paths[0], [paths[1], paths[2]], None, videos[3], [videos[4], paths[0], paths[1]]]
    return pd.Series(cells, index=list("abcde"), name="echo", dtype=object)


@pytest.mark.parametrize(("feature", "width"), [("trunk", 64), ("head", 16)])
def test_block_has_the_mean_over_the_videos_of_a_study(studies, videos, feature, width):
    encoder = VideoEncoder(STANDIN, feature=feature).set_output(transform="pandas")
    block = encoder.fit_transform(studies)
    each = clone(encoder).set_output(transform="default").fit_transform(videos)
    assert block.shape == (5, width)
    assert block.index.equals(studies.index)
    assert block.isna().all(axis=1).tolist() == [False, False, True, False, False]
    expected = [each[0], each[[1, 2]].mean(axis=0), each[3], each[[4, 0, 1]].mean(axis=0)]
    np.testing.assert_allclose(block.drop("c"), expected, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_embedding_depends_on_no_other_row_nor_on_the_batch(studies, batch_size):
    block = VideoEncoder(STANDIN).fit_transform(studies)
    other = VideoEncoder(STANDIN, batch_size=batch_size).fit_transform(studies.iloc[::-1])
    np.testing.assert_allclose(other[::-1], block, atol=1e-6)


def test_order_of_a_studys_videos_does_not_matter(videos):
    encoder = VideoEncoder(STANDIN)
    one, other = encoder.transform([videos]), encoder.transform([videos[::-1]])
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_empty_list_is_a_missing_study(videos):
    block = VideoEncoder(STANDIN).fit_transform([[], videos[0], ()])
    assert np.isnan(block).all(axis=1).tolist() == [True, False, True]


def test_frames_beyond_those_it_looks_at_do_not_matter(videos):
    encoder = VideoEncoder(STANDIN)
    changed = videos[0].copy()
    changed[16:] = 0
    changed[1::2] = 0
    np.testing.assert_array_equal(encoder.transform([videos[0]]), encoder.transform([changed]))


def test_study_with_a_bad_video_is_named_by_row_and_column(studies, tmp_path):
    np.save(tmp_path / "2.npy", np.zeros((3, 4)))
    with pytest.raises(VideoError, match=r"row 'b', column 'echo': .*2\.npy has shape \(3, 4\)"):
        VideoEncoder(STANDIN).fit_transform(studies)


def test_study_with_bad_videos_is_missing_and_listed_once_when_asked_for(studies, tmp_path):
    for i in (1, 2):
        np.save(tmp_path / f"{i}.npy", np.zeros((3, 4)))
    encoder = VideoEncoder(STANDIN, on_error="missing")
    with pytest.warns(EncoderWarning, match="2 of 5 cells"):
        block = encoder.fit_transform(studies)
    assert np.isnan(block).all(axis=1).tolist() == [False, True, True, False, True]
    assert encoder.errors_.index.tolist() == ["b", "e"]


def test_cache_serves_a_study_without_reading_it(studies, tmp_path, monkeypatch):
    encoder = VideoEncoder(STANDIN, cache=tmp_path / "cache")
    block = encoder.fit_transform(studies)
    monkeypatch.setattr("medfusion_sdk.encoders.video.read_frames", None)
    np.testing.assert_array_equal(clone(encoder).transform(studies.iloc[::-1]), block[::-1])


def test_transformer_of_the_cohort_table_and_pickles_work(studies):
    encode = make_modality_transformer(echo=(VideoEncoder(STANDIN), "echo"))
    block = encode.fit_transform(studies.to_frame())
    assert block.columns[0] == "echo__0000"
    again = pickle.loads(pickle.dumps(encode)).transform(studies.to_frame())
    pd.testing.assert_frame_equal(again, block)


def test_fingerprint_follows_every_parameter_that_decides_a_vector():
    changes = [{}, {"feature": "head"}, {"scale": "minmax"}, {"dtype": "float32"}]
    fingerprints = [VideoEncoder(STANDIN, **change).fingerprint() for change in changes]
    assert len(set(fingerprints)) == len(changes)
    for same in ({"batch_size": 3}, {"missing": "zero"}, {"device": "cpu"}):
        assert VideoEncoder(STANDIN, **same).fingerprint() == fingerprints[0]


def test_standin_is_the_same_whatever_the_global_seed():
    # Other weights ask for another number in find_video_source.
    torch.manual_seed(1)
    total = sum(float(weight.double().abs().sum()) for weight in StandInVideo().parameters())
    assert total == pytest.approx(589.77513, abs=0.001)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": "i3d"}, "backbone must be 'echo-prime' or 'standin-video', got 'i3d'"),
        ({"feature": "both"}, "feature must be 'trunk' or 'head'"),
        ({"scale": None}, "scale must be"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_parameter_that_it_can_not_have_is_refused(videos, parameters, message):
    with pytest.raises(ParameterError, match=message):
        VideoEncoder(**({"backbone": STANDIN} | parameters)).fit_transform(videos)
