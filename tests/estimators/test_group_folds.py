"""Folds of whole groups, and rows held out: their size, their strata, what they depend on."""

from __future__ import annotations

import numpy as np
import pytest

from medfusion_sdk.estimators._group_folds import group_folds, held_groups
from medfusion_sdk.exceptions import DataError


@pytest.fixture
def visits():
    """Three visits each of 100 patients of two classes, one in ten of the second."""
    patient = np.repeat(np.arange(100), 3)
    return patient, (patient % 10 == 0).astype(int)


def split(fold, groups):
    return any(len(np.unique(fold[groups == group])) > 1 for group in np.unique(groups))


def test_folds_keep_groups_together_and_have_their_share_of_each_class(visits):
    patient, y = visits
    fold = group_folds(patient, y, seed=0)
    assert not split(fold, patient)
    np.testing.assert_array_equal(np.bincount(fold), 60)
    np.testing.assert_array_equal(np.bincount(fold, weights=y), 6)


def test_folds_have_their_share_of_each_label():
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 3)) < [0.05, 0.2, 0.5]).astype(float)
    fold = group_folds(np.arange(300), labels, seed=0)
    counts = np.stack([np.bincount(fold, weights=label) for label in labels.T])
    assert (np.ptp(counts, axis=1) <= 2).all()
    np.testing.assert_allclose(np.bincount(fold), 60, atol=2)


def test_groups_of_unequal_size_make_folds_of_like_size():
    size = np.random.default_rng(0).integers(1, 40, 60)
    groups = np.repeat(np.arange(60), size)
    counts = np.bincount(group_folds(groups, seed=0))
    assert np.ptp(counts) <= 5


def test_fewer_groups_than_folds_are_a_fold_each():
    fold = group_folds(np.repeat([0, 1, 2], 4), np.tile([0, 1], 6), seed=0)
    assert sorted(np.unique(fold, return_counts=True)[1]) == [4, 4, 4]


def test_rows_without_a_known_class_are_dealt_too():
    y = np.repeat([-1, 0, 1], 20)
    fold = group_folds(np.arange(60), y, seed=0)
    for k in (-1, 0, 1):
        np.testing.assert_array_equal(np.bincount(fold[y == k]), 4)


def test_a_row_of_weight_two_is_two_rows(visits):
    _, y = visits
    counts = np.random.default_rng(0).integers(1, 4, 300)
    once = group_folds(np.arange(300), y, counts.astype(float), seed=0)
    repeated = group_folds(np.repeat(np.arange(300), counts), np.repeat(y, counts), seed=0)
    np.testing.assert_array_equal(repeated, np.repeat(once, counts))


def test_order_of_rows_is_of_no_matter_to_folds(visits):
    patient, y = visits
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(
        group_folds(patient[order], y[order], seed=0), group_folds(patient, y, seed=0)[order]
    )


def test_seed_decides_the_folds(visits):
    patient, y = visits
    assert (group_folds(patient, y, seed=0) != group_folds(patient, y, seed=1)).any()


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.6])
def test_held_rows_are_whole_groups_with_their_share_of_each_class(visits, fraction):
    patient, y = visits
    held = held_groups(patient, y, fraction=fraction, seed=0)
    out = np.zeros(300, dtype=bool)
    out[held] = True
    assert not split(out, patient)
    assert len(held) == pytest.approx(300 * fraction, abs=3)
    assert y[held].sum() == pytest.approx(30 * fraction, abs=3)


def test_held_rows_are_any_groups(visits):
    patient, y = visits
    often = np.zeros(300)
    for seed in range(400):
        often[held_groups(patient, y, fraction=0.2, seed=seed)] += 1
    assert often.min() > 40  # of 80 expected
    assert often.max() < 120


def test_some_group_is_held_and_some_kept_however_few_there_are():
    for fraction in (0.01, 0.99):
        held = held_groups(np.repeat([0, 1], 5), fraction=fraction, seed=0)
        assert len(held) == 5
    with pytest.raises(DataError, match="one alone"):
        held_groups(np.zeros(5, dtype=int), fraction=0.1, seed=0)


def test_held_rows_depend_on_which_belong_together_and_not_on_their_numbers(visits):
    patient, y = visits
    again = np.random.default_rng(0).permutation(100)[patient]
    np.testing.assert_array_equal(
        held_groups(patient, y, fraction=0.2, seed=0), held_groups(again, y, fraction=0.2, seed=0)
    )
