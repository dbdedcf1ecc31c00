"""Which rows belong together: as users say, by an index of parts, or by what the rows hold."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk import BrainAdapterClassifier, make_prefixes, make_windows
from medfusion_sdk.datasets import make_volume_cohort
from medfusion_sdk.estimators._content import content_codes
from medfusion_sdk.estimators._groups import checked_groups, group_codes, row_groups
from medfusion_sdk.exceptions import DataError


def together(X, groups=None, rows=None, counted=None):
    rows = pd.RangeIndex(len(X)) if rows is None else rows
    counted = np.ones(len(X), dtype=bool) if counted is None else counted
    return row_groups(X, groups, rows, counted)


def same_partition(one, other):
    pairs = set(zip(one, other, strict=True))
    return len(pairs) == len(set(one)) == len(set(other))


@pytest.fixture
def numbers():
    return np.random.default_rng(0).normal(size=(30, 4))


# -- as users say


@pytest.mark.parametrize(
    "groups",
    [
        list("aab"),
        ["a", "a", 1],
        [("s1", 1), ("s1", 1), ("s2", 1)],
        [dt.date(2026, 1, 1), dt.date(2026, 1, 1), dt.date(2026, 1, 2)],
        np.array([[5], [5], [7]]),
        pd.Series([1.5, 1.5, 2.5], index=list("xyz")),
        pd.Categorical(["a", "a", "b"]),
        pd.array([1, 1, 2], dtype="Int64"),
        pd.MultiIndex.from_tuples([("s", 1), ("s", 1), ("s", 2)]),
        pd.to_datetime(["2026-01-01", "2026-01-01", "2026-01-02"]),
        [frozenset("ab"), frozenset("ba"), frozenset("c")],
    ],
    ids=lambda groups: type(groups).__name__,
)
def test_groups_of_any_hashable_type_are_told_apart(groups):
    np.testing.assert_array_equal(group_codes(groups, 3), [0, 0, 1])
    codes = together(np.arange(6.0).reshape(3, 2), groups)
    assert same_partition(codes, [0, 0, 1])


@pytest.mark.parametrize(
    "groups",
    [["a", None, "b"], [1.0, np.nan, 2.0], pd.array([1, None, 2], dtype="Int64"), [1, pd.NaT, 2]],
    ids=["None", "nan", "NA", "NaT"],
)
def test_missing_group_is_refused_by_the_rows_label(groups):
    with pytest.raises(DataError, match=r"missing in 1 rows, of the labels 'p2'\."):
        together(np.arange(6.0).reshape(3, 2), groups, pd.Index(["p1", "p2", "p3"]))


def test_missing_group_of_a_row_without_weight_is_of_no_matter():
    counted = np.array([True, False, True])
    codes = together(np.arange(6.0).reshape(3, 2), ["a", None, "b"], counted=counted)
    assert same_partition(codes, [0, 1])


def test_groups_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="2 entries for 3 rows"):
        checked_groups([1, 2], 3)
    with pytest.raises(DataError, match=r"shape \(3, 2\)"):
        checked_groups(np.zeros((3, 2)), 3)
    with pytest.raises(DataError, match="unhashable"):
        group_codes([[1], [2], [3]], 3)
    with pytest.raises(DataError, match="one value alone, 'a'"):
        together(np.arange(6.0).reshape(3, 2), ["a"] * 3)


def test_given_groups_hold_whatever_rows_contain(numbers):
    tripled = np.repeat(numbers, 3, axis=0)
    given = np.tile(np.arange(45), 2)
    assert same_partition(together(tripled, given), given)


# -- by content


def test_rows_equal_in_content_belong_together_and_no_others(numbers):
    patient = np.random.default_rng(1).permutation(np.repeat(np.arange(30), 3))
    assert same_partition(together(numbers[patient]), patient)


def test_numbers_of_groups_follow_content_and_not_the_order_of_rows(numbers):
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal(together(numbers[order]), together(numbers)[order])
    given = np.arange(30) // 3
    np.testing.assert_array_equal(
        together(numbers[order], given[order]), together(numbers, given)[order]
    )


def test_missing_values_and_signed_zeros_are_equal():
    x = np.array([[np.nan, 0.0], [np.float64("nan"), -0.0], [0.0, 0.0]])
    assert same_partition(content_codes(x), [0, 0, 1])


def test_cells_are_equal_where_they_hold_the_same():
    wave, other = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3)
    table = pd.DataFrame(
        {
            "age": [50, 50, 50, 50, 50, 51],
            "ecg": [wave, other, wave + 1, None, None, wave],
            "note": ["sinus", "sinus", "sinus", None, pd.NA, "sinus"],
            "file": [Path("a.hea"), "a.hea", "a.hea", "a.hea", "a.hea", "a.hea"],
            "steps": [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2], [1, 2]],
        }
    )
    assert same_partition(content_codes(table), [0, 0, 1, 2, 2, 3])
    repeated = pd.concat([table, table.map(lambda cell: cell)])
    assert same_partition(content_codes(repeated), [0, 0, 1, 2, 2, 3] * 2)


def test_cells_with_an_end_of_zeros_stay_apart():
    # Of bytes as numpy holds them, zeros at the end are lost.
    x = np.random.default_rng(0).normal(size=(3000, 1))
    assert len(np.unique(content_codes(x))) == 3000


def test_few_coarse_rows_are_not_patients():
    x = np.random.default_rng(0).integers(0, 2, size=(500, 3)).astype(float)
    assert len(np.unique(together(x))) == 500
    fine = np.random.default_rng(0).integers(0, 2, size=(500, 8)).astype(float)
    assert same_partition(together(fine), content_codes(fine))


# -- by the index of parts


def test_windows_and_prefixes_of_a_stay_belong_together():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"vitals": [rng.normal(size=(2, 12)) for _ in range(25)]}, index=np.arange(25) + 1000
    )
    windows, stays = make_windows(table, window=6, stride=3)
    assert same_partition(together(windows, rows=windows.index), stays)
    prefixes, stays = make_prefixes(table, [3, 6])
    assert same_partition(together(prefixes, rows=prefixes.index), stays)
    array = np.random.default_rng(0).normal(size=(len(prefixes), 3))  # of an encoder
    assert same_partition(together(array, rows=prefixes.index), stays)


def test_index_of_subjects_and_stays_is_no_index_of_parts(numbers):
    rows = pd.MultiIndex.from_product([range(15), range(2)], names=["subject", "stay"])
    assert len(np.unique(together(numbers, rows=rows))) == 30


def test_subjects_of_brain_adapter_are_its_groups():
    cohort = make_volume_cohort(12, size=(8, 16, 16), n_subjects=6, random_state=0)
    model = BrainAdapterClassifier("standin-vit3d", adapter="slice2d", subject="subject")
    X, rows = cohort.data, pd.RangeIndex(12)
    codes = model._row_groups(X, None, rows, np.ones(12, dtype=bool))
    assert same_partition(codes, X["subject"])
    unknown = X.assign(subject=[None, None, *X["subject"][2:]])
    codes = model._row_groups(unknown, None, rows, np.ones(12, dtype=bool))
    assert codes[0] != codes[1]
    given = np.arange(12) // 4
    assert same_partition(model._row_groups(X, given, rows, np.ones(12, dtype=bool)), given)
