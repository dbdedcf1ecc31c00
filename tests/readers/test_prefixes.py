"""Prefixes of series: what was known after some steps, and nothing of what came later."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk import make_prefixes
from medfusion_sdk.exceptions import DataError, ModalityError, ParameterError, SignalError

NAN = np.nan


@pytest.fixture
def stays():
    vitals = [np.arange(16.0).reshape(2, 8), np.arange(6.0).reshape(2, 3), None]
    labs = [np.full((1, 8), NAN), np.ones((1, 3)), None]
    labs[0][0, 5] = 7.0
    index = pd.Index(["a", "b", "c"], name="stay")
    return pd.DataFrame({"vitals": vitals, "labs": labs, "static__age": [60.0, 70.0, 80.0]}, index)


def test_prefixes_hold_the_first_steps_and_shorter_series_as_they_are(stays):
    prefixes, groups = make_prefixes(stays, [2, 6])
    assert prefixes.index.names == ["stay", "step"]
    assert prefixes.index.to_list() == [(stay, step) for stay in "abc" for step in (2, 6)]
    assert groups.to_list() == ["a", "a", "b", "b", "c", "c"]
    np.testing.assert_array_equal(prefixes.loc[("a", 6), "vitals"], [range(6), range(8, 14)])
    np.testing.assert_array_equal(prefixes.loc[("b", 6), "vitals"], stays.loc["b", "vitals"])
    assert prefixes["static__age"].to_list() == [60, 60, 70, 70, 80, 80]


def test_series_not_observed_yet_is_missing(stays):
    prefixes, _ = make_prefixes(stays, [2, 6])
    assert prefixes["labs"].isna().to_list() == [True, False, False, False, True, True]


def test_row_of_which_nothing_is_known_yet_has_no_prefix(stays):
    prefixes, groups = make_prefixes(stays[["labs"]], [2, 6])
    assert prefixes.index.to_list() == [("a", 6), ("b", 2), ("b", 6)]
    assert groups.to_list() == ["a", "b", "b"]
    with pytest.raises(DataError, match="first 2 steps"):
        make_prefixes(stays.loc[["a"], ["labs"]], [1, 2])


def test_prefixes_share_no_memory(stays):
    prefixes, _ = make_prefixes(stays, [2, 8])
    prefixes.loc[("a", 2), "vitals"][:] = -1
    assert prefixes.loc[("a", 8), "vitals"].min() == stays.loc["a", "vitals"].min() == 0


def test_other_arrays_are_left_alone_where_the_series_are_named(stays):
    stays["scan"] = list(np.zeros((3, 5, 5)))
    with pytest.raises(SignalError, match="differ in steps"):
        make_prefixes(stays, [2])
    prefixes, _ = make_prefixes(stays, [2], columns=["vitals", "labs"])
    assert {cell.shape for cell in prefixes["scan"]} == {(5, 5)}


def test_what_cannot_be_cut_is_refused_with_the_reason(stays):
    for steps in ([0], [2.5], []):
        with pytest.raises(ParameterError, match="steps"):
            make_prefixes(stays, steps)
    with pytest.raises(ModalityError, match="called 'vital'"):
        make_prefixes(stays, [2], columns=["vital"])
    with pytest.raises(ModalityError, match="holds series"):
        make_prefixes(stays[["static__age"]], [2])
