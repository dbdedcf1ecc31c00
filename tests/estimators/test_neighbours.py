"""Exact search: against scikit-learn, against arithmetic, whatever the blocks."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from medfusion_sdk.estimators import _neighbours
from medfusion_sdk.estimators._neighbours import nearest_rows, unit_rows


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=[(7, 11), (1, 500), (64, 1), (512, 16_384)], ids=str)
def blocks(request, monkeypatch):
    monkeypatch.setattr(_neighbours, "_QUERY_ROWS", request.param[0])
    monkeypatch.setattr(_neighbours, "_GALLERY_ROWS", request.param[1])


def sorted_by_hand(queries, gallery, k, forbidden=None):
    """All cosines, sorted from the largest and by position where equal."""
    cosine = queries.astype(np.float64) @ gallery.astype(np.float64).T
    if forbidden is not None:
        cosine[forbidden] = -np.inf
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosine, order, axis=1), order


@pytest.mark.parametrize("k", [1, 5, 200])
def test_search_equals_scikit_learns_brute_force(rng, blocks, k):
    x, y = rng.normal(size=(40, 16)), 3 * rng.normal(size=(200, 16))
    similarity, index = nearest_rows(unit_rows(x), unit_rows(y), k)
    expected = NearestNeighbors(metric="cosine", algorithm="brute").fit(y).kneighbors(x, k)
    np.testing.assert_array_equal(index, expected[1])
    np.testing.assert_allclose(1 - similarity, expected[0], atol=1e-6)


def test_ties_go_to_the_row_that_comes_first(rng, blocks):
    gallery = unit_rows(rng.normal(size=(20, 8)))[rng.integers(20, size=300)]
    queries = unit_rows(rng.normal(size=(15, 8)))
    similarity, index = nearest_rows(queries, gallery, 40)
    expected = sorted_by_hand(queries, gallery, 40)
    np.testing.assert_array_equal(similarity, expected[0])
    np.testing.assert_array_equal(index, expected[1])
    assert (np.diff(index)[np.diff(similarity) == 0] > 0).all()


def test_gallery_of_one_row_many_times_gives_the_first_positions(blocks):
    gallery = np.tile(unit_rows(np.array([[1.0, 2.0, 3.0]])), (50, 1))
    similarity, index = nearest_rows(gallery[:3], gallery, 4)
    np.testing.assert_array_equal(index, np.tile(np.arange(4), (3, 1)))
    assert len(np.unique(similarity)) == 1


def test_similarity_is_the_exact_product_of_the_rounded_rows(rng):
    x, y = unit_rows(rng.normal(size=(3, 50))), unit_rows(rng.normal(size=(4, 50)))
    similarity, index = nearest_rows(x, y, 4)
    for i in range(3):
        for n in range(4):
            pairs = zip(x[i].tolist(), y[index[i, n]].tolist(), strict=True)
            exact = sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))
            assert Fraction(similarity[i, n].item()) == exact


def test_similarity_has_the_same_bits_in_any_order_of_features_and_company(rng):
    x, y = unit_rows(rng.normal(size=(30, 129))), unit_rows(rng.normal(size=(500, 129)))
    similarity, index = nearest_rows(x, y, 10)
    order = rng.permutation(129)
    shuffled = nearest_rows(x[:, order], y[:, order], 10)
    np.testing.assert_array_equal(shuffled[0], similarity)
    np.testing.assert_array_equal(shuffled[1], index)
    for i in range(30):
        np.testing.assert_array_equal(nearest_rows(x[[i]], y, 10)[0], similarity[[i]])


def test_row_that_is_no_candidate_is_never_found(rng, blocks):
    x, y = unit_rows(rng.normal(size=(20, 8))), unit_rows(rng.normal(size=(60, 8)))
    candidate = rng.random(60) < 0.5
    similarity, index = nearest_rows(x, y, 5, candidate=candidate)
    assert candidate[index].all()
    alone = nearest_rows(x, y[candidate], 5)
    np.testing.assert_array_equal(similarity, alone[0])
    np.testing.assert_array_equal(index, np.flatnonzero(candidate)[alone[1]])


def test_rows_of_the_querys_own_group_are_never_found(rng, blocks):
    x, y = unit_rows(rng.normal(size=(20, 8))), unit_rows(rng.normal(size=(60, 8)))
    own, groups = rng.integers(6, size=20), rng.integers(6, size=60)
    similarity, index = nearest_rows(x, y, 5, query_groups=own, gallery_groups=groups)
    expected = sorted_by_hand(x, y, 5, forbidden=own[:, None] == groups[None])
    np.testing.assert_array_equal(index, expected[1])
    np.testing.assert_array_equal(similarity, expected[0])
    assert (groups[index] != own[:, None]).all()


def test_places_that_no_candidate_fills_are_marked(rng, blocks):
    x, y = unit_rows(rng.normal(size=(4, 8))), unit_rows(rng.normal(size=(30, 8)))
    candidate = np.zeros(30, dtype=bool)
    candidate[[3, 29]] = True
    similarity, index = nearest_rows(x, y, 5, candidate=candidate)
    assert np.isin(index[:, :2], [3, 29]).all()
    assert (index[:, 2:] == -1).all()
    assert np.isneginf(similarity[:, 2:]).all()


def test_zero_row_has_cosine_zero_with_everything(rng):
    zero = unit_rows(np.zeros((1, 8)))
    similarity, index = nearest_rows(zero, unit_rows(rng.normal(size=(9, 8))), 3)
    np.testing.assert_array_equal(similarity, np.zeros((1, 3)))
    np.testing.assert_array_equal(index, [[0, 1, 2]])


def test_rows_are_scaled_to_length_one_within_what_float32_resolves(rng):
    x = rng.normal(size=(50, 128)) * rng.lognormal(size=(50, 1))
    unit = unit_rows(x)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit.astype(float), axis=1), 1, atol=2e-7)
    np.testing.assert_array_equal(unit * 2.0**26, np.rint(unit * 2.0**26))
    np.testing.assert_array_equal(unit_rows(unit.astype(float) * 2), unit_rows(unit))


def test_memory_does_not_grow_with_the_gallery(rng, monkeypatch):
    monkeypatch.setattr(_neighbours, "_GALLERY_ROWS", 1000)
    x = unit_rows(rng.normal(size=(50, 16)))
    peaks = []
    for n_rows in (5_000, 50_000):
        y = unit_rows(rng.normal(size=(n_rows, 16)))
        tracemalloc.start()
        nearest_rows(x, y, 10)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # All similarities of the larger gallery would be 20 MB.
    assert peaks[1] < 1.2 * peaks[0] < 8e6
