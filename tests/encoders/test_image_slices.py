"""ImageEncoder on volumes: the vectors of slices, and one of all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk import EmbeddingCache
from medfusion_sdk.backbones.vision import VisionBackbone
from medfusion_sdk.encoders.image import ImageEncoder
from medfusion_sdk.exceptions import EncoderWarning, ParameterError, VolumeError
from tests.vision_checkpoints import write_vision

STANDIN = "standin-image"


@pytest.fixture
def volumes():
    """Values that eight bits hold, from 0 to 255 in each volume."""
    made = np.random.default_rng(0).integers(0, 256, size=(5, 9, 20, 24), dtype=np.uint8)
    made[:, 0, 0, 0], made[:, 0, 0, 1] = 0, 255
    return list(made)


def by_hand(volume, places, pooling, **image):
    """One call for each slice."""
    vectors = [ImageEncoder(**image).transform([volume[place]])[0] for place in places]
    return getattr(np, pooling)(vectors, axis=0)


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("kind", ["stand-in", "dinov2", "clip"])
def test_vector_is_that_of_a_loop_over_slices(tmp_path, volumes, kind, pooling):
    backbone = STANDIN if kind == "stand-in" else write_vision(tmp_path / kind, kind)
    block = ImageEncoder(backbone, slices=3, slice_pooling=pooling).transform(volumes)
    expected = [by_hand(volume, [1, 4, 7], pooling, backbone=backbone) for volume in volumes]
    np.testing.assert_allclose(block, expected, atol=1e-5)


@pytest.mark.parametrize("slices", [1, 4, "all"])
def test_volume_of_equal_slices_has_its_images_vector(volumes, slices):
    image = volumes[0][0]
    block = ImageEncoder(STANDIN, slices=slices).transform([np.stack([image] * 6)])
    np.testing.assert_allclose(block, ImageEncoder(STANDIN).transform([image]), atol=1e-6)


def test_planes_are_cut_as_they_are_read(volumes):
    volume = volumes[0]
    head_on_top = volume.transpose(1, 0, 2)[:, ::-1]
    np.testing.assert_allclose(
        ImageEncoder(STANDIN, slices="all", plane="coronal").transform([volume])[0],
        by_hand(head_on_top, range(20), "mean", backbone=STANDIN),
        atol=1e-5,
    )


def test_vector_depends_on_no_other_row_nor_on_the_batch(volumes):
    ragged = [volume[: 5 + i] for i, volume in enumerate(volumes)]
    for slices in (4, "all"):
        block = ImageEncoder(STANDIN, slices=slices).transform(ragged)
        small = ImageEncoder(STANDIN, slices=slices, batch_size=2).transform(ragged[::-1])
        single = [ImageEncoder(STANDIN, slices=slices).transform([v])[0] for v in ragged]
        np.testing.assert_allclose(small[::-1], block, atol=1e-6)
        np.testing.assert_allclose(single, block, atol=1e-6)


def test_volume_is_kept_once_and_found_by_its_slices(volumes, tmp_path, monkeypatch):
    seen = []
    forward = VisionBackbone.forward

    def counting(self, pixels, pooling):
        seen.append(len(pixels))
        return forward(self, pixels, pooling)

    monkeypatch.setattr(VisionBackbone, "forward", counting)
    path = tmp_path / "scan.npy"
    np.save(path, volumes[0])
    column = pd.Series([str(path), None, str(path)])
    cache = EmbeddingCache(tmp_path / "cache")
    first = ImageEncoder(STANDIN, slices=4, cache=cache).transform(column)
    again = ImageEncoder(STANDIN, slices=4, cache=cache).transform(column)
    assert sum(seen) == 4
    np.testing.assert_array_equal(first, again)
    assert np.isnan(first[1]).all()
    np.testing.assert_array_equal(first[0], first[2])
    for changed in ({"slices": 5}, {"plane": "sagittal"}, {"slice_pooling": "max"}):
        other = ImageEncoder(STANDIN, **{"slices": 4, "cache": cache} | changed).transform(column)
        assert np.abs(other[0] - first[0]).max() > 1e-3


def test_bad_volumes_are_named_or_count_as_missing(volumes):
    column = pd.Series(
        [volumes[0], volumes[1][:3], np.zeros((2, 3, 4, 5)), np.full((8, 9, 9), 5.0)],
        index=["whole", "thin", "series", "flat"],
    )
    with pytest.raises(VolumeError, match="3 axial slices, expected at least 4") as caught:
        ImageEncoder(STANDIN, slices=4).transform(column.iloc[:2])
    assert "thin" in str(caught.value)
    encoder = ImageEncoder(STANDIN, slices=4, on_error="missing")
    with pytest.warns(EncoderWarning, match="2 of 4"):
        block = encoder.transform(column)
    assert np.isnan(block).all(axis=1).tolist() == [False, True, True, False]
    assert len(encoder.errors_) == 2
    black = ImageEncoder(STANDIN).transform([np.zeros((9, 9))])
    np.testing.assert_allclose(block[3:], black, atol=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"slices": 0}, {"slices": "some"}, {"slices": 2.0}, {"plane": "oblique"}], ids=str
)
def test_wrong_parameters_are_refused(volumes, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        ImageEncoder(STANDIN, **wrong).transform(volumes)
