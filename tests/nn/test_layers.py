"""Masked softmax and batch-shared dropout."""

from __future__ import annotations

import pytest
import torch

from medfusion_sdk.nn.layers import (
    CrossAttention,
    MaskedSelfAttention,
    SharedDropout,
    masked_softmax,
)


def test_masked_softmax_is_softmax_over_what_is_allowed():
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    actual = masked_softmax(scores, torch.tensor([[True, False, True]]))
    expected = torch.tensor([[1.0, 3.0]]).softmax(dim=1)
    torch.testing.assert_close(actual[:, [0, 2]], expected)
    assert actual[0, 1] == 0


def test_masked_softmax_with_nothing_allowed_gives_zeros_and_no_gradient():
    scores = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    out = masked_softmax(scores, torch.zeros(2, 3, dtype=torch.bool))
    out.sum().backward()
    assert (out == 0).all()
    assert (scores.grad == 0).all()


def test_masked_entry_of_infinite_content_does_not_leak():
    scores = torch.tensor([[0.0, 1.0, float("inf")]])
    actual = masked_softmax(scores, torch.tensor([[True, True, False]]))
    assert torch.isfinite(actual).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masked_softmax_of_large_half_precision_scores_is_finite(dtype):
    scores = torch.tensor([[6e4, 5.9e4, 0.0]]).to(dtype)
    out = masked_softmax(scores, torch.tensor([[True, True, True]]))
    assert out.dtype is dtype
    assert out.sum().item() == pytest.approx(1.0, abs=0.01)


def test_dropout_takes_the_same_units_from_every_row():
    layer = SharedDropout(0.5).train()
    layer.generator = torch.Generator().manual_seed(0)
    out = layer(torch.ones(10, 40))
    assert (out == out[0]).all()
    assert set(out.unique().tolist()) == {0.0, 2.0}


def test_dropout_draws_from_its_own_generator():
    layer = SharedDropout(0.5).train()
    before = torch.get_rng_state()
    layer.generator = torch.Generator().manual_seed(0)
    first = layer(torch.ones(1, 40))
    layer.generator = torch.Generator().manual_seed(0)
    assert torch.equal(layer(torch.ones(1, 40)), first)
    assert not torch.equal(layer(torch.ones(1, 40)), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_outside_training_is_the_input():
    x = torch.ones(2, 3)
    assert SharedDropout(0.9).eval()(x) is x


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="n_heads=3"):
        MaskedSelfAttention(8, 3)


def test_cross_attention_is_torchs_with_the_same_weights():
    torch.manual_seed(0)
    ours, theirs = CrossAttention(8, 2), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    queries, tokens = torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    allowed = torch.rand(3, 4, 5) < 0.6
    allowed[..., 0] = True
    mask = (~allowed).repeat_interleave(2, dim=0)
    expected, weights = theirs(queries, tokens, tokens, attn_mask=mask, average_attn_weights=False)
    found = ours(queries, tokens, allowed)
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], weights)


def test_query_that_may_look_at_nothing_gets_zeros_and_the_others_a_finite_gradient():
    torch.manual_seed(0)
    attend = CrossAttention(8, 2)
    tokens = torch.randn(2, 3, 8, requires_grad=True)
    allowed = torch.tensor([[[True] * 3], [[False] * 3]])
    attended, _ = attend(torch.randn(1, 1, 8), tokens, allowed)
    attended.square().sum().backward()
    assert (attended[1] == 0).all()
    assert (tokens.grad[1] == 0).all()
    assert torch.isfinite(tokens.grad).all()
