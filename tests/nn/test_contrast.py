"""Similarities and contrastive loss against NumPy, and at values known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medfusion_sdk.nn.contrast import bank_log_similarity, batch_log_similarity, cosine_logits

TAU = 0.07


def vectors(n_rows=6, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n_rows, width, generator=generator, dtype=torch.float64)


def similarity(large, small, weight=None, kind="softmax"):
    weight = torch.ones(len(large), dtype=large.dtype) if weight is None else weight
    return batch_log_similarity(cosine_logits(large, small, TAU), weight, kind).exp()


def cosines(large, small):
    large, small = large.numpy(), small.numpy()
    norms = np.linalg.norm(large, axis=1)[:, None] * np.linalg.norm(small, axis=1)[None]
    return large @ small.T / norms


def test_similarity_is_the_papers_softmax_of_cosines():
    large, small = vectors()
    odds = np.exp(cosines(large, small) / TAU)
    expected = np.diag(odds) / odds.sum(axis=1)
    np.testing.assert_allclose(similarity(large, small).numpy(), expected, rtol=1e-12)


def test_mean_similarity_divides_negatives_by_the_number_of_rows():
    large, small = vectors()
    odds = np.exp(cosines(large, small) / TAU)
    own = np.diag(odds)
    expected = own / (own + (odds.sum(axis=1) - own) / len(own))
    actual = similarity(large, small, kind="softmax_mean").numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("n_rows", [1, 2, 7, 64])
def test_equal_cosines_give_log_of_row_count_as_loss(n_rows):
    same = torch.ones(n_rows, 3, dtype=torch.float64)
    loss = -similarity(same, same).log().mean()
    assert loss.item() == pytest.approx(np.log(n_rows), abs=1e-12)


@pytest.mark.parametrize("n_rows", [1, 2, 7, 64])
def test_equal_cosines_give_mean_similarity_near_one_half(n_rows):
    same = torch.ones(n_rows, 3, dtype=torch.float64)
    actual = similarity(same, same, kind="softmax_mean")
    expected = n_rows / (2 * n_rows - 1)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["softmax", "softmax_mean"])
def test_single_row_is_wholly_similar_to_itself(kind):
    large, small = vectors(n_rows=1)
    assert similarity(large, small, kind=kind).item() == 1.0


def test_similarity_ignores_the_length_of_vectors():
    large, small = vectors()
    scaled = similarity(large * 7.0, small * torch.arange(1.0, 7.0)[:, None])
    torch.testing.assert_close(scaled, similarity(large, small))


def test_contrastive_loss_is_never_negative():
    for seed in range(20):
        assert (similarity(*vectors(seed=seed)) <= 1.0).all()


@pytest.mark.parametrize("kind", ["softmax", "softmax_mean"])
def test_row_of_weight_two_is_two_rows(kind):
    large, small = vectors()
    counts = torch.tensor([1, 2, 1, 3, 1, 1])
    weighted = similarity(large, small, counts.to(large), kind)
    repeated = similarity(
        large.repeat_interleave(counts, 0), small.repeat_interleave(counts, 0), kind=kind
    )
    torch.testing.assert_close(weighted.repeat_interleave(counts), repeated, rtol=1e-12, atol=0)


def test_row_of_weight_zero_is_no_negative():
    large, small = vectors()
    weight = torch.tensor([1.0, 1, 1, 1, 0, 1], dtype=torch.float64)
    kept = weight > 0
    actual = similarity(large, small, weight)[kept]
    torch.testing.assert_close(actual, similarity(large[kept], small[kept]), rtol=1e-12, atol=0)


def test_zero_vector_has_a_finite_similarity_and_gradient():
    large, small = vectors()
    large = large.clone()
    large[2] = 0.0
    large.requires_grad_()
    value = similarity(large, small)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(large.grad).all()


def test_small_temperature_in_half_precision_stays_finite():
    large, small = vectors()
    logits = cosine_logits(large.half(), small.half(), 0.001)
    loss = -batch_log_similarity(logits, torch.ones(6))
    assert logits.dtype is torch.float32
    assert torch.isfinite(loss).all()


@pytest.mark.parametrize("kind", ["softmax", "softmax_mean"])
def test_bank_of_the_other_rows_gives_the_batchs_similarity(kind):
    large, small = vectors()
    logits = cosine_logits(large, small, TAU)
    bank = torch.stack([row[torch.arange(6) != i] for i, row in enumerate(logits)])
    actual = bank_log_similarity(logits.diagonal(), bank, kind).exp()
    torch.testing.assert_close(actual, similarity(large, small, kind=kind), rtol=1e-12, atol=0)
