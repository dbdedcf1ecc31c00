"""Sequence encoders of several modalities at once, against one at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from medfusion_sdk.nn.grouped import (
    SEQUENCE_ENCODERS,
    GroupedGRU,
    GroupedLinear,
    GroupedTCN,
    GroupedTransformer,
)

CHANNELS, WIDTH, STEPS, ROWS = [3, 1, 2], 8, 7, 5
ALL = pytest.mark.parametrize("kind", list(SEQUENCE_ENCODERS))


@pytest.fixture
def sequences():
    torch.manual_seed(0)
    x = torch.zeros(3, STEPS, ROWS, 3)
    for group, n_channels in enumerate(CHANNELS):
        x[group, ..., :n_channels] = torch.randn(STEPS, ROWS, n_channels)
    return x


def lengths():
    return torch.tensor([[7, 3, 1, 7, 5], [2, 7, 7, 4, 1], [7, 7, 6, 2, 7]])


def build(kind):
    torch.manual_seed(1)
    return SEQUENCE_ENCODERS[kind](CHANNELS, WIDTH).eval()


def test_linear_maps_each_group_by_its_own_weights():
    torch.manual_seed(0)
    layer, x = GroupedLinear([2, 4], 3), torch.randn(2, 5, 6, 4)
    for group in range(2):
        expected = x[group] @ layer.weight[group] + layer.bias[group]
        torch.testing.assert_close(layer(x)[group], expected)
    assert (layer.weight[0, 2:] == 0).all()


def test_gru_is_torchs_gru_of_each_group_on_packed_sequences(sequences):
    ours = build("gru")
    for group, n_channels in enumerate(CHANNELS):
        theirs = nn.GRU(n_channels, WIDTH)
        with torch.no_grad():
            theirs.weight_ih_l0.copy_(ours.inputs.weight[group, :n_channels].T)
            theirs.weight_hh_l0.copy_(ours.states.weight[group].T)
            theirs.bias_ih_l0.copy_(ours.inputs.bias[group, 0])
            theirs.bias_hh_l0.copy_(ours.states.bias[group, 0])
        own = lengths()[group]
        packed = pack_padded_sequence(sequences[group, ..., :n_channels], own, enforce_sorted=False)
        states, last = theirs(packed)
        padded, _ = nn.utils.rnn.pad_packed_sequence(states)
        expected = torch.cat([last[0], padded.sum(0) / own[:, None]], dim=1)
        torch.testing.assert_close(ours(sequences, lengths())[group], expected)


@ALL
def test_what_follows_the_end_of_a_sequence_is_never_read(sequences, kind):
    encoder = build(kind)
    spoilt = sequences.clone()
    after = torch.arange(STEPS)[:, None] >= lengths()[:, None]
    spoilt[after] = 1e3
    torch.testing.assert_close(encoder(spoilt, lengths()), encoder(sequences, lengths()))


@ALL
def test_padding_to_a_longer_table_changes_nothing(sequences, kind):
    encoder = build(kind)
    longer = torch.cat([sequences, torch.zeros(3, 4, ROWS, 3)], dim=1)
    torch.testing.assert_close(encoder(longer, lengths()), encoder(sequences, lengths()))


@ALL
def test_groups_do_not_touch_each_other(sequences, kind):
    encoder = build(kind)
    x = sequences.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(x, lengths())[1].sum(), x)
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[1] != 0).any()


@ALL
def test_sequence_of_no_steps_is_a_zero_vector(sequences, kind):
    none = lengths()
    none[0, 2] = 0
    found = build(kind)(sequences, none)
    assert (found[0, 2] == 0).all()
    assert torch.isfinite(found).all()


def test_convolutions_never_look_ahead(sequences):
    encoder = GroupedTCN(CHANNELS, WIDTH).eval()
    x = sequences.clone().requires_grad_()
    early = torch.full((3, ROWS), 4)
    (gradient,) = torch.autograd.grad(encoder(x, early).sum(), x)
    assert (gradient[:, 4:] == 0).all()
    assert (gradient[0, :4] != 0).all()


def test_transformer_knows_the_order_of_steps(sequences):
    encoder = GroupedTransformer(CHANNELS, WIDTH).eval()
    everything = torch.full((3, ROWS), STEPS)
    ours = encoder(sequences, everything)[..., WIDTH:]  # means, which no order of values changes
    turned = encoder(sequences.flip(1), everything)[..., WIDTH:]
    assert not torch.allclose(ours, turned, atol=1e-4)


def test_gru_of_a_longer_memory_reads_the_first_step(sequences):
    encoder = GroupedGRU(CHANNELS, WIDTH).eval()
    x = sequences.clone().requires_grad_()
    everything = torch.full((3, ROWS), STEPS)
    (gradient,) = torch.autograd.grad(encoder(x, everything)[..., :WIDTH].sum(), x)
    assert (gradient[0, 0] != 0).all()
