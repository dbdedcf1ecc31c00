"""Canonical correlation of blocks: against scikit-learn, closed forms and repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh, sqrtm
from sklearn.cross_decomposition import CCA

from medfusion_sdk.estimators._correlation import correlated_maps


@pytest.fixture
def blocks():
    """Three blocks of 80 rows that share two latents; centred."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(80, 2))
    made = [latent @ rng.normal(size=(2, d)) + rng.normal(size=(80, d)) for d in (5, 4, 3)]
    return [block - block.mean(axis=0) for block in made]


def maps_of(blocks, present=None, weight=None, **options):
    n = len(blocks[0])
    settings = {"n_components": 10, "ridge": 1e-9} | options
    present = np.ones((n, len(blocks)), dtype=bool) if present is None else present
    return correlated_maps(blocks, present, np.ones(n) if weight is None else weight, **settings)


def correlations(a, b):
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)])


def test_two_blocks_without_ridge_are_canonical_correlation_analysis(blocks):
    x, y = blocks[:2]
    a, b = maps_of([x, y])
    cca = CCA(n_components=4, scale=False, max_iter=5000, tol=1e-12).fit(x, y)
    expected = correlations(*cca.transform(x, y))
    np.testing.assert_allclose(correlations(x @ a.T, y @ b.T), expected, atol=1e-5)
    # Each direction counts by its correlation.
    np.testing.assert_allclose(
        np.std(x @ a.T, axis=0) / np.std(x @ a.T, axis=0)[0], expected / expected[0], atol=1e-5
    )


def test_ridge_whitens_as_ridge_regression_does(blocks):
    x, y = blocks[:2]
    a, b = maps_of([x, y], ridge=2.0)
    whitened = []
    for block in (x, y):
        unit = (block**2).sum() / len(block)
        whitened.append(
            block @ np.linalg.inv(sqrtm(block.T @ block + 2 * unit * np.eye(block.shape[1])).real)
        )
    _, expected, _ = np.linalg.svd(whitened[0].T @ whitened[1])
    # Directions are scaled by their correlation, half of it in each block's part of a unit vector.
    found = np.abs(np.sum((x @ a.T) * (y @ b.T), axis=0)) * 2 / expected**2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_three_blocks_have_the_largest_sum_of_covariances(blocks):
    maps = maps_of(blocks, ridge=1.0)
    # The first direction solves a generalised eigenproblem of the stacked blocks.
    stacked = np.hstack(blocks)
    total = stacked.T @ stacked
    own = np.zeros_like(total)
    start = 0
    for block in blocks:
        part = slice(start, start + block.shape[1])
        start += block.shape[1]
        own[part, part] = block.T @ block
    between = total - own
    ridge = np.concatenate([np.full(b.shape[1], (b**2).sum() / len(b)) for b in blocks])
    _, vectors = eigh(between, own + np.diag(ridge))
    first = np.concatenate([own_map[0] for own_map in maps])
    cosine = first @ vectors[:, -1] / np.linalg.norm(first) / np.linalg.norm(vectors[:, -1])
    assert abs(cosine) == pytest.approx(1, abs=1e-8)


def test_weight_two_is_two_rows(blocks):
    weight = np.random.default_rng(1).integers(1, 4, size=80)
    centred = [block - np.average(block, axis=0, weights=weight) for block in blocks]
    weighted = maps_of(centred, weight=weight.astype(float), ridge=1.0)
    repeated = maps_of([np.repeat(block, weight, axis=0) for block in centred], ridge=1.0)
    for a, b in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_missing_rows_are_left_out_of_what_they_lack(blocks):
    x, y = blocks[:2]
    present = np.ones((80, 2), dtype=bool)
    present[:20, 0] = present[60:, 1] = False
    zeroed = [x * present[:, [0]], y * present[:, [1]]]
    a, b = maps_of(zeroed, present, ridge=1.0)
    # What a row holds without its counterpart says nothing of the pair.
    both = np.where(present.all(axis=1), 1.0, 1e-300)
    cross = (x * both[:, None]).T @ y
    covariances = [zeroed[0].T @ zeroed[0], zeroed[1].T @ zeroed[1]]
    roots = []
    for covariance in covariances:
        unit = np.trace(covariance) / 60
        roots.append(np.linalg.inv(sqrtm(covariance + unit * np.eye(len(covariance))).real))
    left, _, right = np.linalg.svd(roots[0] @ cross @ roots[1])
    for found, expected in ((a, roots[0] @ left[:, 0]), (b, roots[1] @ right[0])):
        cosine = found[0] @ expected / np.linalg.norm(found[0]) / np.linalg.norm(expected)
        assert abs(cosine) == pytest.approx(1, abs=1e-8)


def test_number_of_directions_is_bounded_by_the_narrower_block(blocks):
    assert [len(own) for own in maps_of(blocks[:2])] == [4, 4]
    assert [own.shape for own in maps_of(blocks, n_components=2)] == [(2, 5), (2, 4), (2, 3)]


def test_single_block_keeps_its_leading_directions(blocks):
    (own,) = maps_of(blocks[:1], n_components=2, ridge=1.0)
    _, _, components = np.linalg.svd(blocks[0])
    for found, expected in zip(own, components[:2], strict=True):
        assert abs(found @ expected) == pytest.approx(np.linalg.norm(found))


def test_block_without_variance_gives_finite_maps(blocks):
    for own in maps_of([np.zeros((80, 3)), blocks[0]], ridge=1.0):
        assert np.isfinite(own).all()
    for own in maps_of([np.zeros((80, 3))], ridge=1.0):
        assert np.isfinite(own).all()
