"""ImageEncoder: from files and arrays to a block."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone

from medfusion_sdk import make_modality_transformer
from medfusion_sdk.backbones.pool import shared_backbones
from medfusion_sdk.backbones.vision import VisionBackbone
from medfusion_sdk.encoders import _precision, image
from medfusion_sdk.encoders.image import ImageEncoder
from medfusion_sdk.exceptions import (
    CellFileNotFoundError,
    EncoderWarning,
    ImageError,
    ParameterError,
    WeightsNotFoundError,
)
from tests.vision_checkpoints import write_vision

STANDIN = "standin-image"


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size=(30 + i, 40), dtype=np.uint8) for i in range(9)]


@pytest.fixture
def paths(arrays, tmp_path):
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{i}.png")
    files = [str(tmp_path / f"{i}.png") for i in range(len(arrays))]
    return pd.Series(files, index=[f"p{i}" for i in range(len(files))], name="cxr")


@pytest.fixture
def embedded(monkeypatch):
    """Sizes of the batches that went through a network."""
    sizes = []
    forward = VisionBackbone.forward

    def counting(self, pixels, pooling):
        sizes.append(len(pixels))
        return forward(self, pixels, pooling)

    monkeypatch.setattr(VisionBackbone, "forward", counting)
    return sizes


# -- what comes out ------------------------------------------------------------------------------


def test_block_is_float32_with_names_and_the_index_of_the_column(paths):
    encoder = ImageEncoder(STANDIN).set_output(transform="pandas")
    block = encoder.fit_transform(paths)
    assert block.shape == (9, 64)
    assert (block.dtypes == np.float32).all()
    assert block.index.equals(paths.index)
    assert list(block.columns[:2]) == ["0000", "0001"]


def test_paths_and_arrays_of_the_same_images_are_embedded_alike(paths, arrays):
    encoder = ImageEncoder(STANDIN)
    np.testing.assert_allclose(
        encoder.fit_transform(paths), encoder.fit_transform(arrays), atol=1e-6
    )


def test_stack_of_images_of_one_size_is_a_column(arrays):
    stack = np.stack([array[:30] for array in arrays])
    encoder = ImageEncoder(STANDIN)
    np.testing.assert_array_equal(encoder.transform(stack), encoder.transform(list(stack)))


def test_transformer_of_the_cohort_table_names_the_modality(paths):
    encode = make_modality_transformer(cxr=(ImageEncoder(STANDIN), "cxr"))
    assert encode.fit_transform(paths.to_frame()).columns[0] == "cxr__0000"


def test_embedding_depends_on_no_other_row_nor_on_the_batch(paths):
    block = ImageEncoder(STANDIN).fit_transform(paths)
    single = np.vstack([ImageEncoder(STANDIN).transform(paths.iloc[[i]]) for i in range(9)])
    pairs = ImageEncoder(STANDIN, batch_size=2).transform(paths.iloc[::-1])
    np.testing.assert_allclose(single, block, atol=1e-6)
    np.testing.assert_allclose(pairs[::-1], block, atol=1e-6)


def test_images_that_keep_their_proportions_are_embedded_one_by_one(tmp_path, arrays, embedded):
    folder = write_vision(tmp_path / "dinov2", "dinov2")
    settings = folder / "preprocessor_config.json"
    settings.write_text(
        '{"size": {"shortest_edge": 16}, "do_normalize": false, "crop_size": 16, "resample": 2}'
    )
    assert ImageEncoder(folder, batch_size=4).fit_transform(arrays).shape == (9, 24)
    assert set(embedded) == {1}


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_pooling_is_the_one_asked_for(tmp_path, paths, pooling):
    folder = write_vision(tmp_path / "vit", "vit")
    blocks = {
        name: ImageEncoder(folder, pooling=name).transform(paths.iloc[:2])
        for name in ("auto", "cls", "mean", "pooler")
    }
    assert np.array_equal(blocks["auto"], blocks[pooling]) == (pooling == "cls")


# -- missing and bad cells -----------------------------------------------------------------------


def test_missing_cell_is_a_nan_row(paths):
    paths.iloc[[1, 4]] = None
    block = ImageEncoder(STANDIN).fit_transform(paths)
    assert np.flatnonzero(np.isnan(block).all(axis=1)).tolist() == [1, 4]


def test_bad_file_is_named_by_row_and_column(paths, tmp_path):
    (tmp_path / "3.png").write_bytes(b"nothing of the kind")
    with pytest.raises(ImageError, match=r"row 'p3', column 'cxr': .*3\.png is no PNG"):
        ImageEncoder(STANDIN).fit_transform(paths)
    (tmp_path / "3.png").unlink()
    with pytest.raises(CellFileNotFoundError, match=r"row 'p3', column 'cxr': no image file at"):
        ImageEncoder(STANDIN).fit_transform(paths)


def test_bad_files_become_missing_and_are_listed_when_asked_for(paths, tmp_path):
    (tmp_path / "3.png").write_bytes(b"nothing of the kind")
    (tmp_path / "7.png").unlink()
    encoder = ImageEncoder(STANDIN, on_error="missing", batch_size=2)
    with pytest.warns(EncoderWarning, match="2 of 9 cells"):
        block = encoder.fit_transform(paths)
    assert np.flatnonzero(np.isnan(block).all(axis=1)).tolist() == [3, 7]
    assert encoder.errors_.index.tolist() == ["p3", "p7"]
    assert encoder.errors_["error"].tolist() == ["ImageError", "CellFileNotFoundError"]


def test_column_of_bad_files_alone_is_missing_when_asked_for(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nothing of the kind")
    encoder = ImageEncoder(STANDIN, on_error="missing")
    with pytest.warns(EncoderWarning, match="1 of 1 cells"):
        assert np.isnan(encoder.fit_transform([tmp_path / "bad.png"])).all()


# -- memory, cache, pickles ------------------------------------------------------------------------


def test_column_of_paths_never_lies_in_memory_as_a_whole(tmp_path, monkeypatch):
    np.save(tmp_path / "image.npy", np.zeros((8, 8), np.uint8))
    paths = []
    for i in range(40):  # files of one content would be read once
        np.save(tmp_path / f"{i}.npy", np.full((8, 8), i, np.uint8))
        paths.append(tmp_path / f"{i}.npy")
    read, passed, ahead = [0], [0], []
    read_image, forward = image.read_image, VisionBackbone.forward

    def reading(cell, **options):
        read[0] += 1
        ahead.append(read[0] - passed[0])
        return read_image(cell, **options)

    def passing(self, pixels, pooling):
        passed[0] += len(pixels)
        return forward(self, pixels, pooling)

    monkeypatch.setattr(image, "read_image", reading)
    monkeypatch.setattr(VisionBackbone, "forward", passing)
    ImageEncoder(STANDIN, batch_size=2, dtype="float32").fit_transform(paths)
    assert read == passed == [40]
    # A batch per thread and one that waits.
    assert max(ahead) <= 2 * (torch.get_num_threads() + 1)


def test_cache_serves_copies_of_a_file_without_reading_it_again(
    paths, tmp_path, embedded, monkeypatch
):
    encoder = ImageEncoder(STANDIN, cache=tmp_path / "cache")
    block = encoder.fit_transform(paths)
    before = sum(embedded)
    copy = tmp_path / "copy.png"
    copy.write_bytes((tmp_path / "2.png").read_bytes())
    monkeypatch.setattr(image, "read_image", None)
    np.testing.assert_array_equal(clone(encoder).transform([copy]), block[[2]])
    assert sum(embedded) == before


def test_equal_images_are_embedded_once(paths, embedded):
    ImageEncoder(STANDIN, dtype="float32").fit_transform(pd.concat([paths, paths]))
    assert sum(embedded) == len(paths)


def test_pickle_holds_no_network_and_the_pool_lets_it_go(paths):
    gc.collect()
    before = len(shared_backbones)
    encoder = ImageEncoder(STANDIN).fit(paths)
    block = encoder.transform(paths)
    assert len(shared_backbones) > before
    stored = pickle.dumps(encoder)
    assert len(stored) < 2000
    np.testing.assert_array_equal(pickle.loads(stored).transform(paths), block)
    del encoder
    gc.collect()
    assert len(shared_backbones) == before


def test_fingerprint_follows_every_parameter_that_decides_a_vector(tmp_path):
    options = {"backbone": write_vision(tmp_path / "a", "vit")}
    changes = [
        {}, {"backbone": write_vision(tmp_path / "b", "vit", seed=1)}, {"pooling": "mean"},
        {"scale": "minmax"}, {"dtype": "float32"},
    ]  # fmt: skip
    fingerprints = [ImageEncoder(**(options | change)).fingerprint() for change in changes]
    assert len(set(fingerprints)) == len(changes)
    for same in ({"batch_size": 3}, {"missing": "zero"}, {"device": "cpu"}):
        assert ImageEncoder(**(options | same)).fingerprint() == fingerprints[0]


# -- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "expected"), [(0.999, torch.bfloat16), (1.1, torch.float32)])
def test_automatic_precision_is_checked_with_the_first_good_images(
    arrays, monkeypatch, least, expected
):
    monkeypatch.setattr("medfusion_sdk.backbones.precision.has_bfloat16_units", lambda device: True)
    monkeypatch.setattr(_precision, "_verdicts", {})
    monkeypatch.setattr(_precision, "_LEAST_COSINE", least)
    used = []
    forward = VisionBackbone.forward

    def noted(self, pixels, pooling):
        used.append(pixels.dtype)
        return forward(self, pixels, pooling)

    monkeypatch.setattr(VisionBackbone, "forward", noted)
    encoder = ImageEncoder(STANDIN)
    if expected is torch.float32:
        with pytest.warns(EncoderWarning, match="going on in float32"):
            encoder.fit_transform(arrays)
    else:
        encoder.fit_transform(arrays)
    assert set(used) == {torch.float32, torch.bfloat16}
    assert used[-1] is expected


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling": "max"}, "pooling must be 'auto', 'cls', 'mean' or 'pooler', got 'max'"),
        ({"scale": "window"}, "scale must be 'type' or 'minmax'"),
        ({"dtype": "int8"}, "dtype must be"),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1 or 'auto', got 0"),
        ({"pooling": "cls"}, "no class token"),
    ],
)
def test_parameter_that_it_can_not_have_is_refused(arrays, parameters, message):
    with pytest.raises(ParameterError, match=message):
        ImageEncoder(STANDIN, **parameters).fit_transform(arrays)


def test_model_that_is_not_there_is_named(arrays, tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"no folder .*nowhere"):
        ImageEncoder(tmp_path / "nowhere").fit_transform(arrays)
