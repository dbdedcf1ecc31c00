"""Copies of frozen networks of which a part learns."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from medfusion_sdk.backbones.tuning import transformer_blocks, tunable_copy
from medfusion_sdk.encoders._tunable import frozen_network, network_inputs
from medfusion_sdk.encoders.image import ImageEncoder
from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.exceptions import MissingDependencyError, ParameterError
from tests.st_mem_checkpoints import write_st_mem
from tests.text_checkpoints import write_checkpoint
from tests.vision_checkpoints import write_vision

CPU = torch.device("cpu")
# A bias of keys adds the same to all scores of a softmax; rounding alone gives it a gradient.
_UNMOVED = ("key.bias", "k_proj.bias", "k_lin.bias")
KINDS = (
    "text-standin", "text-bert", "text-roberta", "text-distilbert", "text-llama",
    "text-windows",
    "image-standin", "image-vit", "image-dinov2", "image-clip", "slices-vit", "signal",
)  # fmt: skip


def make(kind, folder):
    """An encoder of two blocks, and some cells for it."""
    rng = np.random.default_rng(0)
    family, _, model = kind.partition("-")
    if family == "signal":
        weights = write_st_mem(folder / "encoder.pth")
        cells = list(rng.standard_normal((3, 2, 2300)))
        return SignalEncoder("st-mem", weights=weights, leads=("II", "V5")).fit(cells), cells
    if family == "text":
        backbone = (
            "standin-text" if model in ("standin", "windows") else write_checkpoint(folder, model)
        )
        cells = ["sinus rhythm", "no acute st elevation in lead v2", "sinus"]
        windows = {"max_length": 5, "long": "chunks"} if model == "windows" else {}
        return TextEncoder(backbone, dtype="float32", **windows), cells
    if family == "slices":
        cells = list(rng.random((3, 7, 40, 40)))
        return ImageEncoder(write_vision(folder, model), dtype="float32", slices=3), cells
    backbone = "standin-image" if model == "standin" else write_vision(folder, model)
    return ImageEncoder(backbone, dtype="float32"), list(rng.random((3, 40, 40)))


@pytest.fixture(params=KINDS)
def encoder_and_cells(request, tmp_path):
    return make(request.param, tmp_path)


def weights_of(network):
    return {name: weight.detach().clone() for name, weight in network.named_parameters()}


def train_a_step(network, inputs):
    learns = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(learns, lr=0.1)
    vectors = network(inputs)
    (
        vectors * torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0))
    ).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("tuning", [1, 2, "lora"])
def test_copy_begins_as_the_encoder_is(encoder_and_cells, tuning):
    encoder, cells = encoder_and_cells
    inputs = network_inputs(encoder, cells, CPU)
    tuned = tunable_copy(frozen_network(encoder, CPU), tuning, "it")
    with torch.no_grad():
        vectors = tuned(inputs).numpy()
    np.testing.assert_allclose(vectors, encoder.transform(cells), atol=1e-5)


@pytest.mark.parametrize("k", [1, 2])
def test_exactly_the_last_blocks_learn_and_the_shared_network_never_does(encoder_and_cells, k):
    encoder, cells = encoder_and_cells
    inputs = network_inputs(encoder, cells, CPU)
    frozen = frozen_network(encoder, CPU)
    before = weights_of(frozen)
    tuned = tunable_copy(frozen, k, "it")
    last = {id(weight) for block in transformer_blocks(tuned)[-k:] for weight in block.parameters()}
    train_a_step(tuned, inputs)
    for name, weight in tuned.named_parameters():
        inside = id(weight) in last
        assert weight.requires_grad == inside, name
        assert not inside or weight.grad is not None, name
        if not inside:
            assert torch.equal(weight, before[name]), name
        elif not name.endswith(_UNMOVED):
            assert not torch.equal(weight, before[name]), name
    for name, weight in frozen.named_parameters():
        assert not weight.requires_grad, name
        assert torch.equal(weight, before[name]), name


def test_adapters_alone_learn_and_the_shared_network_never_does(encoder_and_cells):
    encoder, cells = encoder_and_cells
    inputs = network_inputs(encoder, cells, CPU)
    frozen = frozen_network(encoder, CPU)
    before = weights_of(frozen)
    tuned = tunable_copy(frozen, "lora", "it")
    learns = {name for name, weight in tuned.named_parameters() if weight.requires_grad}
    assert learns
    assert all("lora_" in name for name in learns)
    # Adapters in each block.
    blocks = transformer_blocks(tuned)
    assert all(any("lora_A" in name for name, _ in block.named_parameters()) for block in blocks)
    train_a_step(tuned, inputs)
    assert any((weight != 0).any() for name, weight in tuned.named_parameters() if "lora_B" in name)
    assert weights_of(frozen).keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in frozen.named_parameters())


@pytest.mark.parametrize("tuning", [1, "lora"])
def test_what_does_not_learn_is_the_same_tensors(encoder_and_cells, tuning):
    encoder, _ = encoder_and_cells
    frozen = frozen_network(encoder, CPU)
    tuned = tunable_copy(frozen, tuning, "it")
    own = {weight.data_ptr() for weight in frozen.parameters()}
    shared = [weight for weight in tuned.parameters() if weight.data_ptr() in own]
    assert shared
    assert all(weight.data_ptr() in own or weight.requires_grad for weight in tuned.parameters())
    assert not any(weight.requires_grad for weight in shared)


def test_missing_cells_take_a_place_and_change_no_other(encoder_and_cells):
    encoder, cells = encoder_and_cells
    network = frozen_network(encoder, CPU)
    inputs = network_inputs(encoder, [cells[0], None, cells[2]], CPU)
    assert len(inputs) == 3
    with torch.no_grad():
        vectors = network(inputs.index_select(0, torch.tensor([0, 2])))
    np.testing.assert_allclose(vectors, encoder.transform([cells[0], cells[2]]), atol=1e-5)


@pytest.mark.parametrize("tuning", [1, "lora"])
def test_copy_has_no_dropout_in_training(encoder_and_cells, tuning):
    encoder, cells = encoder_and_cells
    tuned = tunable_copy(frozen_network(encoder, CPU), tuning, "it").train()
    inputs = network_inputs(encoder, cells, CPU)
    assert torch.equal(tuned(inputs), tuned(inputs))


def test_more_blocks_than_there_are_or_none_at_all_are_refused(tmp_path):
    encoder, _ = make("text-standin", tmp_path)
    with pytest.raises(ParameterError, match=r"encoder_tuning=3.*'note' has 2 transformer blocks"):
        tunable_copy(frozen_network(encoder, CPU), 3, "note")
    with pytest.raises(ParameterError, match="has 0 transformer blocks"):
        tunable_copy(torch.nn.Linear(2, 2), "lora", "note")


def test_missing_peft_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    encoder, _ = make("text-standin", tmp_path)
    with pytest.raises(MissingDependencyError, match=r"medfusion-sdk\[lora\]"):
        tunable_copy(frozen_network(encoder, CPU), "lora", "note")
