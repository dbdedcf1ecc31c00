"""Damaged checkpoints and descriptions of models: a typed error that names the file, or a model."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from medfusion_sdk.backbones.checkpoints import read_checkpoint, tensor_shapes
from medfusion_sdk.backbones.text_source import find_text_source
from medfusion_sdk.backbones.vision_source import find_vision_source
from medfusion_sdk.backbones.volume_source import find_volume_source
from medfusion_sdk.exceptions import WeightsError, WeightsNotFoundError
from tests.damage import damaged
from tests.text_checkpoints import write_checkpoint
from tests.vision_checkpoints import write_vision
from tests.volume_checkpoints import write_m3d_clip

TENSORS = {"a": torch.zeros(3, 4), "b": torch.ones(5, dtype=torch.float16)}
WRITERS = {
    "w.safetensors": lambda path: save_file(TENSORS, path),
    "zip.pt": lambda path: torch.save(TENSORS, path),
    "older.pt": lambda path: torch.save(TENSORS, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_checkpoint_is_read_or_refused_by_name(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    refused = []
    for variant in damaged(path.read_bytes(), 150):
        path.write_bytes(variant)
        for read in (read_checkpoint, tensor_shapes):
            try:
                found = read(path)
            except WeightsError as told:
                refused.append(str(told))
            else:
                assert all(isinstance(name, str) for name in found)
    assert len(refused) > 60
    assert all(name in message for message in refused)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_folder_in_place_of_a_checkpoint_is_refused(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    path.mkdir()
    for read in (read_checkpoint, tensor_shapes):
        with pytest.raises(WeightsError, match="w"):
            read(path)


MODELS = {
    "text": (lambda folder: write_checkpoint(folder, "bert"), find_text_source),
    "image": (lambda folder: write_vision(folder, "clip"), find_vision_source),
    "volume": (lambda folder: write_m3d_clip(folder), find_volume_source),
}
WRONG = (None, "text", -1, 0, [], {}, [None], {"a": 1}, 1e300, True, float("nan"))


@pytest.mark.parametrize("kind", MODELS)
def test_description_with_a_value_of_another_kind_is_read_or_refused(tmp_path, kind):
    write, find = MODELS[kind]
    folder = write(tmp_path / "model")
    find(folder)
    n_refused = 0
    for path in sorted(folder.glob("*.json")):
        if path.name in ("tokenizer.json", "vocab.json"):
            continue
        given = json.loads(path.read_text())
        whole = [*WRONG, *([{**given, key: value}] for key in given for value in WRONG)]
        for content in whole:
            changed = content[0] if isinstance(content, list) and content else content
            path.write_text(json.dumps(changed))
            try:
                find(folder)
            except (WeightsError, WeightsNotFoundError):
                n_refused += 1
        path.write_text(json.dumps(given))
    assert n_refused > 10


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null", b"3"])
def test_description_that_is_no_json_is_refused_by_name(tmp_path, kind, content):
    write, find = MODELS[kind]
    folder = write(tmp_path / "model")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match=r"config\.json"):
        find(folder)


@pytest.mark.parametrize("kind", MODELS)
def test_list_of_shards_that_is_none_is_refused(tmp_path, kind):
    write, find = MODELS[kind]
    folder = write(tmp_path / "model")
    for path in folder.glob("*"):
        if path.suffix in (".safetensors", ".bin"):
            path.unlink()
    for content in ({"weight_map": []}, {"weight_map": {"a": 3}}, {"weight_map": {"a": [1]}}, {}):
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))
        with pytest.raises((WeightsError, WeightsNotFoundError)):
            find(folder)
    shutil.rmtree(folder)
    with pytest.raises(WeightsNotFoundError):
        find(folder)
