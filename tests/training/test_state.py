from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medfusion_sdk.exceptions import CorruptModelError
from medfusion_sdk.training import load_state, module_to_state
from medfusion_sdk.training.state import restore, snapshot
from tests.training.toys import same, state_of


class Adapter(nn.Module):
    """A frozen backbone with buffers, a trainable head, statistics, and a shared layer."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), Positions())
        self.backbone.requires_grad_(False)
        self.head = nn.Linear(4, 2)
        self.same_head = self.head
        self.norm = nn.BatchNorm1d(2, affine=False)
        self.register_buffer("bank", torch.zeros(5, 2))
        self.register_buffer("cache", torch.zeros(7), persistent=False)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(6.0))


TRAINED = {
    "bank",
    "head.weight",
    "head.bias",
    "norm.running_mean",
    "norm.running_var",
    "norm.num_batches_tracked",
}


def test_state_holds_what_training_changes_and_each_part_once():
    assert set(module_to_state(Adapter())) == TRAINED


def test_half_frozen_layer_gives_its_trainable_half():
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    assert set(module_to_state(layer)) == {"bias"}


def test_arrays_are_contiguous_copies():
    module = nn.Linear(4, 3)
    module.weight = nn.Parameter(torch.randn(4, 3).T)
    state = module_to_state(module)
    assert all(array.flags.c_contiguous and array.flags.owndata for array in state.values())
    expected = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.zero_()
    np.testing.assert_array_equal(state["weight"], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_round_trip_is_exact_in_every_type(dtype):
    module, other = Adapter().to(dtype), Adapter().to(dtype)
    with torch.no_grad():
        module.bank.normal_()
    frozen = state_of(other.backbone)
    state = module_to_state(module)
    assert (state["bank"].dtype == np.float32) is (dtype in (torch.float32, torch.bfloat16))
    load_state(other, state)
    assert all(torch.equal(other.state_dict()[name], module.state_dict()[name]) for name in TRAINED)
    assert same(frozen, state_of(other.backbone))


def test_read_only_arrays_load():
    state = module_to_state(nn.Linear(3, 2))
    for array in state.values():
        array.flags.writeable = False
    module = nn.Linear(3, 2)
    load_state(module, state)
    np.testing.assert_array_equal(module_to_state(module)["weight"], state["weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("bias"), "missing ..bias.., unknown nothing"),
        (lambda s: s.update(more=np.zeros(1)), "missing nothing, unknown ..more"),
        (lambda s: s.update(bias=np.zeros(3, np.float32)), "'bias' must have shape"),
        (lambda s: s.update(bias=np.zeros(2)), "'bias' must have shape and dtype"),
    ],
)
def test_state_of_another_build_is_refused_and_nothing_written(change, message):
    module = nn.Linear(3, 2)
    before = state_of(module)
    state = {name: array + 1 for name, array in module_to_state(module).items()}
    change(state)
    with pytest.raises(CorruptModelError, match=message):
        load_state(module, state)
    assert same(before, state_of(module))


def test_snapshot_is_restored_without_the_frozen_part():
    module = Adapter()
    saved, before = snapshot(module), state_of(module)
    assert set(saved) == TRAINED
    with torch.no_grad():
        for tensor in [*module.parameters(), module.bank]:
            tensor.add_(1)
    restore(module, saved)
    assert torch.equal(module.head.weight, before["head.weight"])
    assert torch.equal(module.bank, before["bank"])
    assert torch.equal(module.backbone[0].weight, before["backbone.0.weight"] + 1)
