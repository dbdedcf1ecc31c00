"""A frozen language model in parts: every family, exactly the model's own hidden states."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

from medfusion_sdk.backbones.language_model import LanguageModel
from medfusion_sdk.exceptions import WeightsError
from medfusion_sdk.nn.gated_attention import GatedAttention

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
BERT_SIZES = SIZES | {"intermediate_size": 64, "max_position_embeddings": 40}
GPT2_SIZES = {"vocab_size": 50, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40}
BUILD = {
    "gpt2": lambda: GPT2Model(GPT2Config(**GPT2_SIZES, bos_token_id=1, eos_token_id=2)),
    "bert": lambda: BertModel(BertConfig(**BERT_SIZES), add_pooling_layer=False),
    "roberta": lambda: RobertaModel(RobertaConfig(**BERT_SIZES), add_pooling_layer=False),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(
            vocab_size=50, dim=32, n_layers=3, n_heads=4, hidden_dim=64, max_position_embeddings=40
        )
    ),
    "llama": lambda: LlamaModel(
        LlamaConfig(
            **SIZES, intermediate_size=64, num_key_value_heads=2, max_position_embeddings=40
        )
    ),
}
KERNELS = ("sdpa", "eager")


@pytest.fixture(params=BUILD)
def family(request):
    return request.param


@pytest.fixture(params=KERNELS)
def lm(request, family):
    torch.manual_seed(0)
    model = BUILD[family]()
    model.set_attn_implementation(request.param)
    model.config.use_cache = False
    return LanguageModel(SimpleNamespace(model=model.eval().requires_grad_(False)))


def batch(seed=0):
    ids = torch.randint(5, 50, (3, 9), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(9) < torch.tensor([[9], [4], [6]])
    return ids, mask


def own_states(lm, ids, mask):
    """Hidden states by the library's forward pass: the input of each block, then the last output.

    Taken by hooks on the untouched model, because its last reported state is normalised.
    """
    seen = []
    blocks = list(lm.blocks)
    hooks = [block.register_forward_pre_hook(lambda _, x: seen.append(x[0])) for block in blocks]
    hooks.append(
        blocks[-1].register_forward_hook(
            lambda _m, _x, y: seen.append(y[0] if isinstance(y, tuple) else y)
        )
    )
    with torch.no_grad():
        lm.backbone.model(input_ids=ids, attention_mask=mask.long())
    for hook in hooks:
        hook.remove()
    return seen


def adapters(lm, layers, gate, requires_grad=False):
    generator = torch.Generator().manual_seed(1)
    made = []
    for layer in layers:
        tokens = torch.randn(2, lm.width, generator=generator)
        common = torch.randn(3, lm.width, generator=generator)
        gates = torch.full((lm.n_heads,), float(gate), requires_grad=requires_grad)
        made.append(GatedAttention(gates, *lm.keys_values(layer, tokens, common)))
    return made


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_parts_give_the_models_own_states_exactly(lm, cut):
    ids, mask = batch()
    expected = own_states(lm, ids, mask)
    lower = lm.segment(0, cut, embeds=True)(ids, mask)
    assert torch.equal(lower[mask], expected[cut][mask])
    if cut < 3:
        assert torch.equal(lm.segment(cut, 3)(lower, mask)[mask], expected[3][mask])


def test_gates_at_zero_change_nothing_and_open_ones_do(lm):
    ids, mask = batch()
    lower, upper = lm.segment(0, 1, embeds=True)(ids, mask), lm.segment(1, 3)
    plain = upper(lower, mask)
    assert torch.equal(upper(lower, mask, adapters(lm, (1, 2), 0.0))[mask], plain[mask])
    changed = upper(lower, mask, adapters(lm, (1, 2), 0.5))
    assert (changed[mask] - plain[mask]).abs().max() > 1e-3
    # Nothing of it stays behind, in the segment or in the shared model.
    assert torch.equal(upper(lower, mask), plain)
    assert torch.equal(own_states(lm, ids, mask)[3][mask], plain[mask])


def test_padding_and_later_tokens_are_not_seen(lm):
    ids, mask = batch()
    segment = lm.segment(0, 3, embeds=True)
    whole = segment(ids, mask, adapters(lm, range(3), 0.5))
    for row, length in enumerate((9, 4, 6)):
        alone = [
            GatedAttention(a.gate, a.keys[row : row + 1], a.values[row : row + 1])
            for a in adapters(lm, range(3), 0.5)
        ]
        short = segment(ids[row : row + 1, :length], None, alone)
        np.testing.assert_allclose(short[0].detach(), whole[row, :length].detach(), atol=2e-6)
    changed = ids.clone()
    changed[:, -1] = 7
    first = segment(changed)[:, :-1] - segment(ids)[:, :-1]
    assert (first.abs().max() == 0) == lm.causal


def test_gradients_flow_through_frozen_blocks(lm):
    ids, mask = batch()
    states = lm.segment(0, 1, embeds=True)(ids, mask).requires_grad_()
    made = adapters(lm, (1, 2), 0.3, requires_grad=True)
    lm.segment(1, 3)(states, mask, made).square().sum().backward()
    assert states.grad.abs().max() > 0
    assert all(adapter.gate.grad.abs().max() > 0 for adapter in made)
    assert all(weight.grad is None for weight in lm.backbone.model.parameters())


def test_added_attention_is_the_published_formula(lm):
    # One layer by hand: softmax of the block's own queries over projected adaptation tokens.
    tokens, common = torch.randn(2, lm.width), torch.randn(3, lm.width)
    queries = torch.randn(3, lm.n_heads, 5, lm.head_width)
    output = torch.randn(3, 5, lm.n_heads * lm.head_width)
    gate = torch.rand(lm.n_heads)
    keys, values = lm.keys_values(1, tokens, common)
    found = GatedAttention(gate, keys, values)(queries, output)
    expected = output.clone()
    for b in range(3):
        for h in range(lm.n_heads):
            part = slice(h * lm.head_width, (h + 1) * lm.head_width)
            scores = queries[b, h] @ keys[b, h].T / lm.head_width**0.5
            weights = torch.exp(scores) / torch.exp(scores).sum(dim=1, keepdim=True)
            expected[b, :, part] += gate[h] * (weights @ values[b, h])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_tokens_of_one_value_add_that_value_whatever_the_scores(lm):
    # Only if the attention over adaptation tokens sums to one.
    queries = torch.randn(3, lm.n_heads, 5, lm.head_width)
    keys = torch.randn(3, lm.n_heads, 4, lm.head_width)
    output, gate = torch.zeros(3, 5, lm.n_heads * lm.head_width), torch.ones(lm.n_heads)
    added = GatedAttention(gate, keys, torch.full_like(keys, 0.7))(queries, output)
    np.testing.assert_allclose(added, 0.7, rtol=1e-5)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_has_its_softmax_in_float32(lm, half):
    # Scores of 150 and 149: exp overflows, and their difference is lost, in half precision.
    size = (1, lm.n_heads, 1, lm.head_width)
    queries = torch.ones(size, dtype=half)
    scale = lm.head_width**0.5 / lm.head_width
    keys = torch.cat([torch.full(size, value * scale) for value in (150.0, 148.0)], dim=2).to(half)
    values = torch.cat([torch.ones(size), torch.zeros(size)], dim=2).to(half)
    output = torch.zeros(1, 1, lm.n_heads * lm.head_width, dtype=half)
    adapter = GatedAttention(torch.ones(lm.n_heads), keys, values)
    found = adapter(queries, output)
    scores = (queries @ keys.transpose(-1, -2) / lm.head_width**0.5).double()
    expected = scores.softmax(dim=-1)[0, 0, 0, 0].item()
    assert found.dtype == half
    np.testing.assert_allclose(found.double(), expected, rtol=1e-2)


def test_gates_at_zero_change_nothing_in_bfloat16(lm):
    model = deepcopy(lm.backbone.model).to(torch.bfloat16)
    rounded = LanguageModel(SimpleNamespace(model=model))
    ids, mask = batch()
    states = rounded.segment(0, 1, embeds=True)(ids, mask).float()
    upper = rounded.segment(1, 3)
    own = upper(states, mask)
    assert own.dtype == torch.float32  # as what went in
    gated = upper(states, mask, adapters(rounded, (1, 2), 0.0))
    assert torch.equal(own[mask], gated[mask])


def test_adaptation_tokens_are_projected_by_the_blocks_own_matrices(lm, family):
    tokens, common = torch.randn(2, lm.width), torch.randn(3, lm.width)
    keys, values = lm.keys_values(2, tokens, common)
    summed = tokens[None] + common[:, None]
    block = lm.blocks[2]
    if family == "gpt2":
        _, key, value = block.attn.c_attn(summed).split(lm.width, dim=-1)
    else:
        attention = {
            "distilbert": lambda: (block.attention.k_lin, block.attention.v_lin),
            "llama": lambda: (block.self_attn.k_proj, block.self_attn.v_proj),
        }.get(family, lambda: (block.attention.self.key, block.attention.self.value))()
        key, value = (projection(summed) for projection in attention)
    for found, projected in ((keys, key), (values, value)):
        heads = projected.unflatten(-1, (-1, lm.head_width)).transpose(1, 2)
        heads = heads.repeat_interleave(lm.n_heads // heads.shape[1], dim=1)
        np.testing.assert_allclose(found, heads, atol=1e-5)


def test_embeddings_enter_as_the_models_own_do(lm):
    ids, _ = batch()
    embedded = lm.backbone.model.get_input_embeddings()(ids)
    segment = lm.segment(0, 2, embeds=True)
    by_vectors, by_ids = segment(embedded), segment(ids)
    np.testing.assert_allclose(by_vectors, by_ids, atol=1e-6)


def test_unknown_kinds_of_model_are_refused():
    config = T5Config(vocab_size=10, d_model=8, d_kv=4, num_heads=2, num_layers=1, d_ff=8)
    with pytest.raises(WeightsError, match=r"'t5'.*gpt2"):
        LanguageModel(SimpleNamespace(model=T5EncoderModel(config)))


def test_moving_or_casting_a_part_leaves_the_shared_model_alone(lm):
    parent = torch.nn.Sequential(lm.segment(0, 2), torch.nn.Linear(2, 2)).double()
    assert parent[1].weight.dtype == torch.float64
    assert {weight.dtype for weight in lm.backbone.model.parameters()} == {torch.float32}
