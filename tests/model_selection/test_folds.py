"""Multilabel stratified folds of whole patients, and the guard against leaks."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    cross_val_predict,
    cross_validate,
)
from sklearn.multioutput import MultiOutputClassifier

from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.exceptions import DataError, MedFusionWarning, ParameterError
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold, check_disjoint_groups


@pytest.fixture(scope="module")
def ptbxl():
    return load_ptbxl()


def label_counts(splitter, y, groups):
    """Rows with each label, and rows, per test fold."""
    tests = [test for _, test in splitter.split(np.zeros(len(y)), y, groups)]
    return np.array([np.asarray(y)[test].sum(axis=0) for test in tests]), [len(t) for t in tests]


def largest_deviation(splitter, y, groups):
    """Largest gap between a label's rate in a test fold and in all rows."""
    counts, sizes = label_counts(splitter, y, groups)
    return np.abs(counts / np.array(sizes)[:, None] - np.asarray(y).mean(axis=0)).max()


@pytest.fixture
def patients():
    """Three labels of which one is rare, on rows that come in patients of one to six."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(120), rng.integers(1, 7, size=120))
    y = (rng.random((len(groups), 3)) < [0.5, 0.2, 0.06]).astype(int)
    return y, groups


# -- what it promises


@pytest.mark.parametrize("n_splits", [2, 5, 10])
def test_folds_of_ptbxl_hold_each_label_equally_often_within_one_row(ptbxl, n_splits):
    splitter = MultilabelStratifiedGroupKFold(n_splits)
    counts, sizes = label_counts(splitter, ptbxl.target, ptbxl.groups)
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(sizes) <= 3


@pytest.mark.parametrize("seed", range(5))
def test_folds_of_ptbxl_are_closer_to_the_label_rates_than_grouped_ones(ptbxl, seed):
    ours = MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=seed)
    theirs = GroupKFold(5, shuffle=True, random_state=seed)
    gap = largest_deviation(ours, ptbxl.target, ptbxl.groups)
    assert gap < 0.06
    assert gap < 0.7 * largest_deviation(theirs, ptbxl.target, ptbxl.groups)


def test_folds_of_large_patients_stay_balanced(patients):
    y, groups = patients
    assert largest_deviation(MultilabelStratifiedGroupKFold(5), y, groups) < 0.04
    counts, sizes = label_counts(MultilabelStratifiedGroupKFold(5), y, groups)
    assert np.ptp(counts[:, 2]) <= 2
    assert np.ptp(sizes) <= 0.1 * np.mean(sizes)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_folds_partition_rows_and_never_split_a_group(data):
    n_rows = data.draw(st.integers(8, 60))
    groups = np.array(data.draw(st.lists(st.integers(0, 9), min_size=n_rows, max_size=n_rows)))
    cells = st.lists(st.booleans(), min_size=3 * n_rows, max_size=3 * n_rows)
    y = np.array(data.draw(cells), dtype=int).reshape(n_rows, 3)
    n_splits = data.draw(st.integers(2, 5))
    groups[:n_splits] = np.arange(n_splits)
    shuffle = data.draw(st.booleans())
    splitter = MultilabelStratifiedGroupKFold(
        n_splits, shuffle=shuffle, random_state=0 if shuffle else None
    )
    # Rare labels are the point here, and announced.
    with pytest.warns() if _has_rare(y, groups, n_splits) else nullcontext():
        splits = list(splitter.split(y, y, groups))
    assert len(splits) == n_splits
    tests = np.concatenate([test for _, test in splits])
    np.testing.assert_array_equal(np.sort(tests), np.arange(n_rows))
    for train, test in splits:
        np.testing.assert_array_equal(np.union1d(train, test), np.arange(n_rows))
        assert not set(groups[train]) & set(groups[test])
        assert len(test) > 0 or len(np.unique(groups)) < n_splits


def test_folds_of_one_class_per_row_are_as_good_as_stratified_group_k_fold():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(100), 3)
    names = np.array(["a", "b", "c"])[rng.choice(3, size=300, p=[0.6, 0.3, 0.1])]
    y = pd.get_dummies(names)

    def spread(splitter):
        tests = [test for _, test in splitter.split(groups, names, groups)]
        return np.ptp([y.to_numpy()[test].sum(axis=0) for test in tests], axis=0).max()

    assert spread(MultilabelStratifiedGroupKFold(5)) <= spread(StratifiedGroupKFold(5))


def test_binary_target_as_column_and_as_sparse_matrix_gives_the_same_folds(patients):
    y, groups = patients
    splitter = MultilabelStratifiedGroupKFold(4)
    flat = list(splitter.split(y, y[:, 0], groups))
    column = list(splitter.split(y, y[:, :1], groups))
    dense, sparse = (list(splitter.split(y, form, groups)) for form in (y, csr_array(y)))
    for (_, one), (_, two) in [*zip(flat, column, strict=True), *zip(dense, sparse, strict=True)]:
        np.testing.assert_array_equal(one, two)


# -- randomness


def test_unshuffled_folds_are_the_same_at_every_call(patients):
    y, groups = patients
    once, twice = (list(MultilabelStratifiedGroupKFold(3).split(y, y, groups)) for _ in range(2))
    for (_, one), (_, two) in zip(once, twice, strict=True):
        np.testing.assert_array_equal(one, two)


def test_shuffled_folds_follow_random_state(patients):
    y, groups = patients

    def first_test(seed):
        splitter = MultilabelStratifiedGroupKFold(3, shuffle=True, random_state=seed)
        return next(splitter.split(y, y, groups))[1].tolist()

    assert first_test(0) == first_test(0)
    assert first_test(0) != first_test(1)


def test_shuffled_folds_without_seed_leave_the_global_generator_alone(patients):
    y, groups = patients
    before = np.random.get_state()  # noqa: NPY002
    splitter = MultilabelStratifiedGroupKFold(3, shuffle=True)
    draws = [next(splitter.split(y, y, groups))[1].tolist() for _ in range(3)]
    after = np.random.get_state()  # noqa: NPY002
    assert before[2] == after[2]
    np.testing.assert_array_equal(before[1], after[1])
    assert draws[0] != draws[1] or draws[1] != draws[2]


# -- scikit-learn's tools


@pytest.mark.parametrize("routing", [False, True])
def test_groups_reach_the_splitter_through_cross_validate(patients, routing):
    y, groups = patients
    X = np.random.default_rng(0).normal(size=(len(y), 4))
    model = MultiOutputClassifier(LogisticRegression())
    splitter = MultilabelStratifiedGroupKFold(3)
    passed = {"params": {"groups": groups}} if routing else {"groups": groups}
    with sklearn.config_context(enable_metadata_routing=routing):
        result = cross_validate(model, X, y, cv=splitter, return_indices=True, **passed)
    check_disjoint_groups(
        zip(result["indices"]["train"], result["indices"]["test"], strict=True), groups
    )


def test_grid_search_takes_the_splitter_with_groups(ptbxl):
    X = ptbxl.data[["sex"]]
    search = GridSearchCV(
        LogisticRegression(), {"C": [0.1, 1.0]}, cv=MultilabelStratifiedGroupKFold(3)
    )
    search.fit(X, ptbxl.target["NORM"], groups=ptbxl.groups)
    assert search.n_splits_ == 3


def test_cross_val_predict_takes_the_splitter_on_a_cohort_table(ptbxl):
    # Every row is in one test fold, whatever the index and the cells of the table are.
    predicted = cross_val_predict(
        LogisticRegression(),
        ptbxl.data[["sex"]],
        ptbxl.target["MI"],
        cv=MultilabelStratifiedGroupKFold(4),
        groups=ptbxl.groups,
    )
    assert len(predicted) == 353


def test_splitter_repr_tells_how_it_was_made():
    splitter = MultilabelStratifiedGroupKFold(3, shuffle=True, random_state=0)
    assert repr(splitter) == (
        "MultilabelStratifiedGroupKFold(n_splits=3, random_state=0, shuffle=True)"
    )


# -- refusals


@pytest.mark.parametrize("n_splits", [1, 0, 2.5, "5"])
def test_impossible_number_of_folds_is_refused(patients, n_splits):
    y, groups = patients
    with pytest.raises(ParameterError, match="n_splits"):
        next(MultilabelStratifiedGroupKFold(n_splits).split(y, y, groups))


def test_more_folds_than_groups_are_refused():
    with pytest.raises(DataError, match=r"n_splits=3 exceeds the 2 groups"):
        next(MultilabelStratifiedGroupKFold(3).split([0] * 4, [0, 1, 0, 1], [0, 0, 1, 1]))


def test_seed_without_shuffle_is_refused(patients):
    y, groups = patients
    with pytest.raises(ParameterError, match="shuffle=True"):
        next(MultilabelStratifiedGroupKFold(3, random_state=0).split(y, y, groups))


def test_split_without_target_is_refused():
    with pytest.raises(DataError, match="y is needed"):
        next(MultilabelStratifiedGroupKFold(2).split(np.zeros(10), groups=range(10)))


def test_without_groups_each_row_is_one():
    y = (np.arange(20) % 5 == 0).astype(int)
    splitter = MultilabelStratifiedGroupKFold(2)
    for own, grouped in zip(splitter.split(y, y), splitter.split(y, y, range(20)), strict=True):
        np.testing.assert_array_equal(own[1], grouped[1])
    assert [y[test].sum() for _, test in splitter.split(y, y)] == [2, 2]


def test_continuous_target_is_refused():
    y = np.linspace(0, 1, 10)
    with pytest.raises(DataError, match="y is continuous"):
        next(MultilabelStratifiedGroupKFold(2).split(y, y, np.arange(10)))


def test_row_without_known_group_is_refused_with_its_position():
    # Numbered as one group, all unknown patients would share a fold; as none, they might leak.
    with pytest.raises(DataError, match="2 rows, the first at position 1"):
        next(MultilabelStratifiedGroupKFold(2).split([0] * 4, [0, 1] * 2, ["a", None, None, "b"]))


def test_label_in_fewer_groups_than_folds_is_announced_by_name():
    y = pd.DataFrame({"common": [1, 0] * 10, "rare": [1, 1, 1] + [0] * 17})
    groups = [0, 0, 0, *range(1, 18)]
    with pytest.warns(MedFusionWarning, match=r"n_splits=4, .*: rare \(1\)") as caught:
        list(MultilabelStratifiedGroupKFold(4).split(y, y, groups))
    assert caught[0].filename == __file__


def test_overlap_of_groups_is_named_with_its_split():
    groups = np.array(["p1", "p2", "p2", "p3"])
    splits = [([0], [1, 2, 3]), ([0, 1], [2, 3])]
    with pytest.raises(DataError, match=r"split 1: 1 groups .*'p2'"):
        check_disjoint_groups(splits, groups)


def test_grouped_folds_of_ptbxl_are_disjoint_and_plain_ones_are_not(ptbxl):
    ours = MultilabelStratifiedGroupKFold(5).split(ptbxl.data, ptbxl.target, ptbxl.groups)
    check_disjoint_groups(ours, ptbxl.groups)
    with pytest.raises(DataError, match="split 0"):
        check_disjoint_groups(
            KFold(5, shuffle=True, random_state=0).split(ptbxl.data), ptbxl.groups
        )


def _has_rare(y, groups, n_splits):
    n_groups = [len(np.unique(groups[column == 1])) for column in y.T]
    return any(0 < count < n_splits for count in n_groups)
