"""VolumeEncoder: the network's own vectors, reading batch by batch, bad cells, the cache."""

from __future__ import annotations

import gzip
import pickle
import weakref

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.utils import estimator_checks

from medfusion_sdk import EmbeddingCache, VolumeEncoder, make_modality_transformer
from medfusion_sdk.backbones.volume import load_vit3d
from medfusion_sdk.backbones.volume_source import find_volume_source
from medfusion_sdk.encoders import volume as volume_module
from medfusion_sdk.exceptions import (
    CellFileNotFoundError,
    EncoderWarning,
    ParameterError,
    VolumeError,
)
from medfusion_sdk.readers.volume import read_volume
from tests.volume_checkpoints import write_m3d_clip

RNG = np.random.default_rng(0)
VOLUMES = [RNG.random((20, 40, 36)).astype(np.float32) for _ in range(5)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_m3d_clip(tmp_path_factory.mktemp("m3d"))


@pytest.fixture
def paths(tmp_path):
    made = []
    for i, voxels in enumerate(VOLUMES):
        made.append(tmp_path / f"scan{i}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), made[-1])
    return made


def reference(backbone, cells, size, pool="cls"):
    network = load_vit3d(find_volume_source(backbone))
    x = torch.from_numpy(np.stack([read_volume(cell, size=size) for cell in cells]))
    with torch.no_grad():
        states = network(x[:, None])
    return (states[:, 0] if pool == "cls" else states[:, 1:].mean(1)).numpy()


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_vectors_are_the_networks_read_outs(checkpoint, pool):
    found = VolumeEncoder(checkpoint, pool=pool, dtype="float32").transform(VOLUMES)
    expected = reference(checkpoint, VOLUMES, (8, 16, 16), pool)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_other_size_interpolates_positions(checkpoint):
    encoder = VolumeEncoder(checkpoint, target_size=(16, 16, 24), dtype="float32")
    found = encoder.transform(VOLUMES)
    np.testing.assert_allclose(found, reference(checkpoint, VOLUMES, (16, 16, 24)), atol=1e-5)
    with pytest.raises(ParameterError, match="multiple of the patch size"):
        VolumeEncoder(checkpoint, target_size=(16, 16, 25)).transform(VOLUMES)


@pytest.mark.parametrize("batch_size", [1, 2, 100, "auto"])
def test_batches_do_not_change_the_vectors(batch_size):
    whole = VolumeEncoder(dtype="float32").transform(VOLUMES)
    found = VolumeEncoder(batch_size=batch_size, dtype="float32").transform(VOLUMES[::-1])
    np.testing.assert_allclose(found[::-1], whole, atol=1e-6)


def test_no_more_than_a_batch_of_volumes_is_in_memory(paths, monkeypatch):
    alive, most = weakref.WeakSet(), []

    class Counted(np.ndarray):
        __hash__ = object.__hash__

    def counted(cell, **options):
        array = read_volume(cell, **options).view(Counted)
        alive.add(array)
        most.append(len(alive))
        return array

    monkeypatch.setattr(volume_module, "read_volume", counted)
    VolumeEncoder(batch_size=2, dtype="float32").transform(paths)
    assert len(most) == 5
    assert max(most) <= 2 * min(2, torch.get_num_threads())  # batches are computed side by side


def test_bad_cells_raise_with_their_place_or_are_listed(paths, tmp_path):
    cut, series, promise = (tmp_path / f"{name}.nii.gz" for name in ("cut", "series", "promise"))
    cut.write_bytes(paths[0].read_bytes()[:2000])
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3)), np.eye(4)), series)
    header = nibabel.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 30_000))
    promise.write_bytes(gzip.compress(header.binaryblock + bytes(4)))
    holed = VOLUMES[0].copy()
    holed[3] = np.nan
    cells = [paths[0], cut, series, promise, tmp_path / "absent.nii", holed, None, "note.txt"]
    column = pd.Series(cells, name="mri", index=list("abcdefgh"), dtype=object)
    with pytest.raises(VolumeError, match=r"row 'b', column 'mri'.*cut off"):
        VolumeEncoder().transform(column[["a", "b"]])
    with pytest.raises(CellFileNotFoundError, match="row 'e'"):
        VolumeEncoder().transform(column[["e"]])
    encoder = VolumeEncoder(on_error="missing")
    with pytest.warns(EncoderWarning, match="6 of 8 cells"):
        block = encoder.transform(column)
    assert encoder.errors_.index.tolist() == list("bcdefh")
    assert encoder.errors_["error"].tolist() == ["VolumeError"] * 3 + [
        "CellFileNotFoundError", "VolumeError", "VolumeError",
    ]  # fmt: skip
    assert np.isnan(block[1:]).all()
    np.testing.assert_array_equal(block[0], VolumeEncoder().transform(paths[:1])[0])
    filled = VolumeEncoder(max_nan=0.1).transform([holed])
    assert np.isfinite(filled).all()


def test_cache_finds_a_volume_by_its_content(paths, tmp_path, monkeypatch):
    cache = EmbeddingCache(tmp_path / "cache")
    first = VolumeEncoder(cache=cache).transform(paths)
    copied = tmp_path / "copy.nii.gz"
    copied.write_bytes(paths[3].read_bytes())
    monkeypatch.setattr(volume_module, "read_volume", None)  # nothing is read again
    found = VolumeEncoder(cache=cache, batch_size=1).transform([copied, *paths[::-1]])
    np.testing.assert_array_equal(found, first[[3, 4, 3, 2, 1, 0]])


def test_everything_that_decides_a_vector_is_in_the_fingerprint(checkpoint):
    changes = [
        {},
        {"backbone": checkpoint},
        {"target_size": (16, 32, 40)},
        {"pool": "mean"},
        {"spacing": 2.0},
        {"spacing": (2.0, 1.0, 1.0)},
        {"orientation": "RAS"},
        {"orientation": None},
        {"max_nan": 0.5},
        {"dtype": "bfloat16"},
    ]
    prints = [VolumeEncoder(**change).fingerprint() for change in changes]
    assert len(set(prints)) == len(changes)
    same = [{"batch_size": 3}, {"missing": "zero"}, {"on_error": "missing"}, {"device": "cpu"}]
    assert {VolumeEncoder(**change).fingerprint() for change in same} == {prints[0]}
    assert VolumeEncoder(target_size=(16, 32, 32)).fingerprint() == prints[0]
    assert VolumeEncoder(spacing=(2.0, 2.0, 2.0)).fingerprint() == prints[4]


def test_bfloat16_is_close_to_float32():
    rough, exact = (VolumeEncoder(dtype=d).transform(VOLUMES) for d in ("bfloat16", "float32"))
    cosine = (rough * exact).sum(1) / np.linalg.norm(rough, axis=1) / np.linalg.norm(exact, axis=1)
    assert 0.999 < cosine.min() < 1


@pytest.mark.parametrize(
    "wrong",
    [{"orientation": "XYZ"}, {"pool": "max"}, {"spacing": 0}, {"target_size": (1, 2)},
     {"max_nan": 2}, {"dtype": "int8"}],
    ids=str,
)  # fmt: skip
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        VolumeEncoder(**wrong).fit(VOLUMES)


def test_is_a_modality_among_others(paths):
    table = pd.DataFrame({"mri": paths, "age": [70.0, 71, 72, 73, 74]})
    table.loc[2, "mri"] = None
    encode = make_modality_transformer(
        mri=(VolumeEncoder(), "mri"), person=("passthrough", ["age"])
    )
    block = encode.fit_transform(table)
    assert block.columns[[0, 47, 48]].tolist() == ["mri__0000", "mri__0047", "person__age"]
    assert (
        block.filter(like="mri").isna().all(axis=1).tolist() == [False] * 2 + [True] + [False] * 2
    )


def test_pickles_and_clones_carry_no_network():
    encoder = VolumeEncoder(missing="mean").fit([*VOLUMES, None])
    copied = pickle.loads(pickle.dumps(encoder))
    assert len(pickle.dumps(encoder)) < 3000
    np.testing.assert_array_equal(copied.transform([None])[0], encoder.mean_embedding_)
    assert clone(encoder).get_params() == encoder.get_params()


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_valid_tag_types,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_mixin_order,
        estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
    ],
    ids=lambda check: check.__name__,
)
def test_common_checks_without_data_pass(check):
    check("VolumeEncoder", VolumeEncoder())
