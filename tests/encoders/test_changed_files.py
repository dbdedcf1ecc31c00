"""Files that change between two calls and within one: no patient gets another one's vector."""

from __future__ import annotations

import gzip
import os
import shutil

import nibabel
import numpy as np
import pytest
import torch
import wfdb
from PIL import Image

from medfusion_sdk import (
    EmbeddingCache,
    ImageEncoder,
    SignalEncoder,
    TextEncoder,
    VideoEncoder,
    VolumeEncoder,
)
from medfusion_sdk.backbones.text import borrow_text_backbone
from medfusion_sdk.backbones.text_source import find_text_source
from medfusion_sdk.exceptions import CellError, WeightsError
from tests.text_checkpoints import write_checkpoint
from tests.vision_checkpoints import write_vision

STAMP = 1_700_000_000


def _npy(shape):
    def write(folder, seed):
        np.save(folder / "cell.npy", np.random.default_rng(seed).random(shape))
        return folder / "cell.npy"

    return write


def _nifti(suffix):
    def write(folder, seed):
        voxels = np.random.default_rng(seed).integers(0, 99, (8, 9, 7)).astype(np.int16)
        image = nibabel.Nifti1Image(voxels, np.eye(4))
        content = image.to_bytes()
        if suffix == ".nii.gz":  # stored, so that all files have one size
            content = gzip.compress(content, compresslevel=0, mtime=0)
        (folder / f"cell{suffix}").write_bytes(content)
        return folder / f"cell{suffix}"

    return write


def _png(folder, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "cell.png", compress_level=0)
    return folder / "cell.png"


def _record(folder, seed):
    samples = np.random.default_rng(seed).integers(-900, 900, (400, 2))
    wfdb.wrsamp(
        "cell", fs=100, units=["mV"] * 2, sig_name=["I", "II"], d_signal=samples, fmt=["16"] * 2,
        adc_gain=[200] * 2, baseline=[0] * 2, write_dir=str(folder),
    )  # fmt: skip
    header = folder / "cell.hea"
    # Checksums have as many digits as they like; the header's size is to be the same.
    header.write_text(header.read_text().ljust(300, "#") + "\n")
    return folder / "cell.hea"


CELLS = {
    "signal": (SignalEncoder, _npy((2, 500))),
    "record": (SignalEncoder, _record),
    "image": (lambda **o: ImageEncoder("standin-image", dtype="float32", **o), _png),
    "array": (lambda **o: ImageEncoder("standin-image", dtype="float32", **o), _npy((16, 16))),
    "slices": (
        lambda **o: ImageEncoder("standin-image", slices=2, dtype="float32", **o),
        _nifti(".nii"),
    ),
    "video": (lambda **o: VideoEncoder("standin-video", dtype="float32", **o), _npy((20, 8, 8))),
    "volume": (lambda **o: VolumeEncoder(dtype="float32", **o), _nifti(".nii")),
    "packed": (lambda **o: VolumeEncoder(dtype="float32", **o), _nifti(".nii.gz")),
}


def put(write, folder, place, seed):
    """Write patient `seed`'s files to `folder` and take them over `place`, all times the same."""
    made = folder / f"patient{seed}"
    made.mkdir(exist_ok=True)
    cell = write(made, seed)
    for file in made.iterdir():
        os.utime(file, (STAMP, STAMP))
        shutil.copy2(file, place / file.name)
    return place / cell.name


@pytest.mark.parametrize("kind", CELLS)
def test_patients_whose_files_follow_under_one_path_get_their_own_embeddings(tmp_path, kind):
    make, write = CELLS[kind]
    place = tmp_path / "in"
    place.mkdir()
    encoder, found, sizes = make(cache=EmbeddingCache(tmp_path / "cache")), [], []
    for seed in (1, 2, 1):
        cell = put(write, tmp_path, place, seed)
        sizes.append([file.stat().st_size for file in sorted(place.iterdir())])
        found.append(encoder.fit_transform([str(cell)]))
        truth = make().fit_transform([str(tmp_path / f"patient{seed}" / cell.name)])
        np.testing.assert_array_equal(found[-1], truth)
    assert sizes[0] == sizes[1]
    assert np.abs(found[0] - found[1]).max() > 1e-6
    assert encoder.cache.stats().misses == 2


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("shared", ["cache", "rows"])
def test_file_that_is_replaced_while_it_is_encoded_is_refused(tmp_path, kind, shared, monkeypatch):
    make, write = CELLS[kind]
    cell = put(write, tmp_path, tmp_path, 1)
    encoder = make(cache=tmp_path / "cache" if shared == "cache" else None)
    kept, calls = type(encoder)._item_digest, []
    n_rows = 1 if shared == "cache" else 2

    def then_replace(self, item):
        found = kept(self, item)
        calls.append(item)
        if len(calls) == n_rows:
            put(write, tmp_path, tmp_path, 2)
        return found

    encoder.fit([str(cell)])
    monkeypatch.setattr(type(encoder), "_item_digest", then_replace)
    with pytest.raises(CellError, match="changed while it was encoded"):
        encoder.transform([str(cell)] * n_rows)
    monkeypatch.undo()
    found = encoder.transform([str(cell)])
    truth = make().fit([str(cell)]).transform([str(tmp_path / "patient2" / cell.name)])
    np.testing.assert_array_equal(found, truth)


def test_memory_mapped_array_is_known_by_what_it_holds_now(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((2, 500)))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r+")
    encoder = SignalEncoder(cache=tmp_path / "cache")
    before = encoder.fit_transform([mapped])
    mapped[:] = np.random.default_rng(1).random((2, 500))
    np.testing.assert_array_equal(
        encoder.transform([mapped]), SignalEncoder().fit_transform([np.array(mapped)])
    )
    assert not np.array_equal(before, encoder.transform([mapped]))


# -- weights ------------------------------------------------------------------------------------


def overwrite_weights(folder, other):
    """Give a folder another one's weights in place, with the same size and time."""
    path, content = folder / "model.safetensors", (other / "model.safetensors").read_bytes()
    status = path.stat()
    assert status.st_size == len(content)
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("kind", ["text", "image"])
def test_weights_that_are_overwritten_in_place_give_new_embeddings(tmp_path, kind):
    if kind == "text":
        folders = [write_checkpoint(tmp_path / str(s), "bert", seed=s) for s in (0, 1)]
        make, cells = TextEncoder, ["sinus rhythm"]
    else:
        folders = [write_vision(tmp_path / str(s), "vit", seed=s) for s in (0, 1)]
        make, cells = ImageEncoder, [np.random.default_rng(0).random((32, 32))]
    truth = make(str(folders[1]), dtype="float32").fit_transform(cells)
    encoder = make(str(folders[0]), dtype="float32", cache=tmp_path / "cache")
    first = encoder.fit_transform(cells)
    overwrite_weights(*folders)
    np.testing.assert_array_equal(encoder.transform(cells), truth)
    assert np.abs(first - truth).max() > 1e-3


def test_loaded_network_does_not_change_with_its_file(tmp_path):
    folders = [write_checkpoint(tmp_path / str(s), "bert", seed=s) for s in (0, 1)]

    class User:
        pass

    user = User()
    source = find_text_source(folders[0])
    backbone = borrow_text_backbone(user, source, torch.device("cpu"), torch.float32)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    overwrite_weights(*folders)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_weights_that_change_while_they_are_loaded_are_refused(tmp_path):
    folders = [write_checkpoint(tmp_path / str(s), "bert", seed=s) for s in (0, 1)]
    source = find_text_source(folders[0])
    overwrite_weights(*folders)
    with pytest.raises(WeightsError, match="changed while it was loaded"):
        borrow_text_backbone(source, source, torch.device("cpu"), torch.float32)
