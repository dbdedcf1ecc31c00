"""The mixture of experts against a row-by-row NumPy computation, and its masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medfusion_sdk.nn.experts import ModalityExperts, modality_subsets

DIMS = (3, 4, 2)
WIDTH = 4
READINGS = ("tokens", "concat")


def experts(attention="tokens", dims=DIMS, seed=0, **options):
    torch.manual_seed(seed)
    module = ModalityExperts(dims, WIDTH, n_heads=2, attention=attention, **options)
    return module.double().eval()


@pytest.fixture(autouse=True)
def _private_randomness():
    with torch.random.fork_rng():
        yield


def rows(n_rows=8, dims=DIMS):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n_rows, sum(dims), generator=generator, dtype=torch.float64)
    present = torch.rand(n_rows, len(dims), generator=generator) < 0.6
    present[0] = True
    present[torch.arange(n_rows), torch.arange(n_rows) % len(dims)] = True
    return x, present


@pytest.mark.parametrize(("n_modalities", "n_experts"), [(1, 1), (2, 3), (3, 7), (4, 15), (5, 31)])
def test_every_non_empty_subset_has_an_expert(n_modalities, n_experts):
    subsets = modality_subsets(n_modalities)
    assert len(set(subsets)) == n_experts
    assert len(experts(dims=[2] * n_modalities).inner) == n_experts


def test_max_subset_size_bounds_the_subsets():
    assert [len(s) for s in modality_subsets(7, 2)] == [1] * 7 + [2] * 21
    assert modality_subsets(2, 9) == modality_subsets(2)


@pytest.mark.parametrize("attention", READINGS)
def test_router_is_a_distribution_over_experts_whose_modalities_are_there(attention):
    x, present = rows()
    module = experts(attention)
    router = module(x, present).router.detach().numpy()
    assert (router >= 0).all()
    np.testing.assert_allclose(router.sum(axis=1), 1.0)
    for row, has in zip(router, present.numpy(), strict=True):
        for weight, subset in zip(row, module.subsets, strict=True):
            assert (weight > 0) == has[list(subset)].all()


@pytest.mark.parametrize("attention", READINGS)
def test_row_of_one_modality_has_one_expert(attention):
    x, _ = rows(3)
    router = experts(attention)(x, torch.eye(3, dtype=torch.bool)).router
    torch.testing.assert_close(router[:, :3], torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("attention", READINGS)
def test_content_of_absent_modality_changes_nothing_and_gets_no_gradient(attention):
    x, present = rows()
    module = experts(attention)
    known = torch.repeat_interleave(present, torch.tensor(DIMS), dim=1)
    garbage = torch.where(known, x, torch.full_like(x, 1e6))
    for clean, dirty in zip(module(x, present), module(garbage, present), strict=True):
        torch.testing.assert_close(dirty, clean, rtol=0, atol=0)
    x.requires_grad_()
    module(x, present).fused.square().sum().backward()
    assert (x.grad[~known] == 0).all()
    assert (x.grad[known] != 0).any()


@pytest.mark.parametrize("attention", READINGS)
def test_row_does_not_see_other_rows(attention):
    x, present = rows()
    module = experts(attention)
    together = module(x, present).fused
    alone = torch.cat([module(x[[i]], present[[i]]).fused for i in range(len(x))])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-12)


def linear(layer, values):
    return values @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def layer_norm(layer, values):
    centred = values - values.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + layer.eps)
    return scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def softmax(scores):
    odds = np.exp(scores - scores.max())
    return odds / odds.sum()


def attend(module, tokens, has):
    """Two heads of scaled dot products over the tokens that are there, one query at a time."""
    query, key, value = np.split(linear(module.attend.qkv, tokens), 3, axis=1)
    out = np.zeros_like(tokens)
    for head in (slice(0, 2), slice(2, 4)):
        for i in range(len(tokens)):
            scores = query[i, head] @ key[has][:, head].T / np.sqrt(2)
            out[i, head] = softmax(scores) @ value[has][:, head]
    return linear(module.attend.out, out)


def fuse_one_row(module, x, has):
    """Equations 1 and 2 for a row, expert by expert."""
    parts = np.split(x, np.cumsum(DIMS)[:-1])
    tokens = np.stack([linear(p, part) for p, part in zip(module.projections, parts, strict=True)])
    tokens = tokens * has[:, None]
    if module.attend is not None:
        tokens = layer_norm(module.token_norm, tokens + attend(module, tokens, has))
    else:
        flat = tokens.ravel()
        tokens = layer_norm(module.token_norm, flat + linear(module.mix, flat)).reshape(3, WIDTH)
    tokens = tokens * has[:, None]
    flat = tokens.ravel()
    speakers = [e for e, s in enumerate(module.subsets) if has[list(s)].all()]
    shares = softmax(linear(module.router, flat)[speakers])
    mixed = np.zeros_like(flat)
    for e, share in zip(speakers, shares, strict=True):
        inner = np.maximum(linear(module.inner[e], tokens[list(module.subsets[e])].ravel()), 0)
        outer = module.outer_weight.detach().numpy()[e * WIDTH : (e + 1) * WIDTH]
        mixed += share * (inner @ outer + module.outer_bias.detach().numpy()[e])
    return layer_norm(module.fused_norm, flat + mixed)


@pytest.mark.parametrize("attention", READINGS)
def test_fused_vector_is_the_equations(attention):
    x, present = rows()
    module = experts(attention)
    actual = module(x, present).fused.detach().numpy()
    expected = [fuse_one_row(module, *row) for row in zip(x.numpy(), present.numpy(), strict=True)]
    np.testing.assert_allclose(actual, np.stack(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize("attention", READINGS)
def test_attention_of_absent_modalities_is_zero(attention):
    x, present = rows()
    table = experts(attention)(x, present).attention
    both = present[:, :, None] & present[:, None, :]
    assert (table[~both] == 0).all()
    torch.testing.assert_close(table.sum(dim=2), present.double())


def test_modalities_in_another_order_with_their_parameters_fuse_alike():
    # Two modalities swapped, with everything that belongs to them.
    module, swapped = experts(dims=(3, 3)), experts(dims=(3, 3), seed=5)
    state = module.state_dict()
    h = WIDTH
    halves = torch.cat([torch.arange(h, 2 * h), torch.arange(h)])
    order = [1, 0, 2]  # experts of {a}, {b}, {a, b}
    moved = dict(state)
    for part in ("weight", "bias"):
        for new, old in ((0, 1), (1, 0)):
            moved[f"projections.{new}.{part}"] = state[f"projections.{old}.{part}"]
            moved[f"inner.{new}.{part}"] = state[f"inner.{old}.{part}"]
    moved["inner.2.weight"] = state["inner.2.weight"][:, halves]
    moved["router.weight"] = state["router.weight"][order][:, halves]
    moved["router.bias"] = state["router.bias"][order]
    moved["outer_weight"] = state["outer_weight"].view(3, h, -1)[order].flatten(0, 1)[:, halves]
    moved["outer_bias"] = state["outer_bias"][order][:, halves]
    for part in ("weight", "bias"):
        moved[f"fused_norm.{part}"] = state[f"fused_norm.{part}"][halves]
    swapped.load_state_dict(moved)
    x, present = rows(dims=(3, 3))
    back = swapped(x[:, [3, 4, 5, 0, 1, 2]], present[:, [1, 0]])
    there = module(x, present)
    torch.testing.assert_close(back.fused[:, halves], there.fused, rtol=0, atol=1e-12)
    torch.testing.assert_close(back.router[:, order], there.router, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attention", READINGS)
def test_half_precision_is_finite(attention, dtype):
    x, present = rows()
    fused = experts(attention).to(dtype)(x.to(dtype) * 50, present).fused
    assert torch.isfinite(fused).all()
