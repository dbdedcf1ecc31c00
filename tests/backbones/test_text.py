"""Loading text models, token states, pooling."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from medfusion_sdk.backbones.standin_text import build_standin
from medfusion_sdk.backbones.text import borrow_text_backbone, pool_states
from medfusion_sdk.backbones.text_source import find_text_source
from medfusion_sdk.exceptions import WeightsError
from tests.text_checkpoints import (
    KINDS,
    drop_weights,
    edit_json,
    reference_states,
    write_checkpoint,
)

CPU = torch.device("cpu")
TEXTS = ["sinus rhythm", "no acute st elevation in lead v2", "sinus"]


class User:
    """Whoever borrows."""


def load(folder, user=None):
    return borrow_text_backbone(user or User(), find_text_source(folder), CPU, torch.float32)


def read(backbone, texts, max_length=64):
    """The head of each text, in token ids."""
    windows, _ = backbone.tokens.windows(texts, max_length)
    return [only for (only,) in windows]


def digest_of(model):
    state = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        state.update(name.encode() + np.ascontiguousarray(weight.numpy()).tobytes())
    return state.hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_token_states_of_a_padded_batch_equal_transformers_one_by_one(tmp_path, kind):
    folder = write_checkpoint(tmp_path, kind)
    backbone = load(folder)
    with torch.inference_mode():
        states, mask = backbone(read(backbone, TEXTS))
    assert mask.sum(dim=1).tolist() != [mask.shape[1]] * len(TEXTS)  # there is padding
    for text, state, present in zip(TEXTS, states, mask, strict=True):
        np.testing.assert_allclose(state[present], reference_states(folder, text), atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_tokenize_keeps_the_head_and_gives_an_empty_text_a_token(tmp_path, kind):
    backbone = load(write_checkpoint(tmp_path, kind))
    whole, head, empty = read(backbone, [TEXTS[1] * 9, TEXTS[1], ""], 6)
    assert len(whole) == 6
    assert whole[:4].tolist() == head[:4].tolist()
    assert len(empty) >= 1


def test_weights_are_frozen_and_stay_as_loaded(tmp_path):
    backbone = load(write_checkpoint(tmp_path, "bert"))
    before = digest_of(backbone.model)
    backbone.train()
    with torch.inference_mode():
        first, _ = backbone([[2, 5, 3]])
        second, _ = backbone([[2, 5, 3]])
    assert torch.equal(first, second)  # no dropout
    assert not any(weight.requires_grad for weight in backbone.parameters())
    assert digest_of(backbone.model) == before


def test_same_weights_under_two_names_are_one_copy(tmp_path):
    users = [User(), User()]
    one = load(write_checkpoint(tmp_path / "one", "bert"), users[0])
    two = load(write_checkpoint(tmp_path / "two", "bert"), users[1])
    other = load(write_checkpoint(tmp_path / "three", "bert", seed=1))
    assert one is two
    assert other is not one


def test_loading_leaves_the_global_random_state_alone(tmp_path):
    folder = write_checkpoint(tmp_path, "bert")
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    users = [User(), User()]
    load(folder, users[0])
    load("standin-text", users[1])
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_loading_is_silent(tmp_path, capfd):
    folder = write_checkpoint(tmp_path, "bert")
    capfd.readouterr()
    load(folder)
    assert capfd.readouterr() == ("", "")


def test_standin_is_the_same_whatever_the_global_seed():
    torch.manual_seed(1)
    first = digest_of(build_standin())
    torch.manual_seed(2)
    assert digest_of(build_standin()) == first


def test_standin_weights_are_those_that_its_fingerprint_stands_for():
    # Other weights ask for another recipe number in describe_standin, or caches mix the two up.
    total = sum(
        float(weight.detach().double().abs().sum()) for weight in build_standin().parameters()
    )
    assert find_text_source("standin-text").fingerprint.startswith("3d723a8439518138")
    assert total == pytest.approx(34203.02417211039, rel=1e-9)


@pytest.mark.parametrize("shards", [False, True])
def test_sharded_safetensors_load_as_one_file_does(tmp_path, shards):
    folder = write_checkpoint(tmp_path, "bert", **({"max_shard_size": "8KB"} if shards else {}))
    assert (folder / "model.safetensors.index.json").is_file() == shards
    backbone = load(folder)
    with torch.inference_mode():
        states, _ = backbone(read(backbone, ["sinus rhythm"]))
    np.testing.assert_allclose(states[0], reference_states(folder, "sinus rhythm"), atol=2e-6)


def test_older_weight_format_loads_without_unpickling_objects(tmp_path):
    safe = write_checkpoint(tmp_path / "safe", "bert")
    older = write_checkpoint(tmp_path / "older", "bert")
    from safetensors.torch import load_file

    torch.save(load_file(older / "model.safetensors"), older / "pytorch_model.bin")
    (older / "model.safetensors").unlink()
    assert digest_of(load(older).model) == digest_of(load(safe).model)


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_weights_with_code_in_them_are_refused_and_not_run(tmp_path):
    folder = write_checkpoint(tmp_path / "model", "bert")
    (folder / "model.safetensors").unlink()
    sprung = tmp_path / "sprung"
    torch.save({"embeddings.word_embeddings.weight": Trap(sprung)}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="can't be loaded"):
        load(folder)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))  # the trap does work
    assert sprung.exists()


def test_code_that_a_model_folder_brings_is_not_run(tmp_path):
    folder = write_checkpoint(tmp_path / "model", "bert")
    sprung = tmp_path / "sprung"
    (folder / "modeling_own.py").write_text(
        f"from pathlib import Path\nPath({str(sprung)!r}).touch()\nclass Own: ...\n"
    )
    edit_json(
        folder / "config.json",
        model_type="own-type",
        auto_map={"AutoModel": "modeling_own.Own", "AutoConfig": "modeling_own.Own"},
    )
    with pytest.raises(WeightsError, match="can't be loaded"):
        load(folder)
    assert not sprung.exists()


def test_missing_tensors_are_refused_instead_of_drawn_at_random(tmp_path):
    folder = write_checkpoint(tmp_path, "bert")
    drop_weights(folder, "encoder.layer.1.output.dense.weight")
    with pytest.raises(WeightsError, match=r"1 tensors.*encoder\.layer\.1\.output\.dense\.weight"):
        load(folder)


def test_missing_pooler_does_not_matter(tmp_path):
    folder = write_checkpoint(tmp_path, "bert")
    expected = reference_states(folder, "sinus rhythm")
    drop_weights(folder, "pooler.dense.weight", "pooler.dense.bias")
    backbone = load(folder)
    with torch.inference_mode():
        states, _ = backbone(read(backbone, ["sinus rhythm"]))
    np.testing.assert_allclose(states[0], expected, atol=2e-6)


def test_truncated_weights_are_refused_by_name(tmp_path):
    folder = write_checkpoint(tmp_path, "bert")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=str(folder)):
        load(folder)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_sees_only_tokens_whichever_side_is_padded(side, pooling):
    tokens = torch.tensor([[1.0, 5.0], [3.0, 7.0]])
    padding = torch.full((1, 2), float("nan"))
    parts = [padding, tokens] if side == "left" else [tokens, padding]
    states = torch.cat(parts)[None]
    mask = ~states[..., 0].isnan()
    expected = {"mean": [2.0, 6.0], "cls": [1.0, 5.0], "last": [3.0, 7.0]}[pooling]
    assert pool_states(states, mask, pooling).tolist() == [expected]


def test_pooling_computes_in_float32():
    states = torch.tensor([[[128.0], [129.0]]], dtype=torch.bfloat16)
    pooled = pool_states(states, torch.ones(1, 2), "mean")
    assert pooled.dtype is torch.float32
    assert pooled.item() == 128.5  # no bfloat16 number
