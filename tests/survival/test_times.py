"""Survival outcomes in every form, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sksurv.util import Surv

from medfusion_sdk.datasets import load_heart_failure
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.survival import SurvivalTimes, survival_target

EVENT, TIME = [True, False, True, True], [5.0, 7.0, 2.0, 1.0]

FORMS = {
    "structured": survival_target(EVENT, TIME),
    "scikit-survival's": Surv.from_arrays(EVENT, TIME),
    "structured, other names": Surv.from_arrays(EVENT, TIME, name_event="dead", name_time="d"),
    "structured, scikit-survival's GBSG2": Surv.from_arrays(EVENT, TIME, name_event="cens"),
    "frame": pd.DataFrame({"event": EVENT, "time": TIME}),
    "frame, time first": pd.DataFrame({"Time": TIME, "Event": np.array(EVENT, dtype=int)}),
    "frame, nullable": pd.DataFrame({"event": EVENT, "time": TIME}).convert_dtypes(),
    "frame, other names": pd.DataFrame({"days": TIME, "DEATH_EVENT": np.array(EVENT, dtype=int)}),
    "frame, own index": pd.DataFrame({"event": EVENT, "time": TIME}, index=list("abcd")),
    "array": np.column_stack([EVENT, TIME]),
    "array, time first": np.column_stack([TIME, EVENT]),
    "list of pairs": list(zip(EVENT, TIME, strict=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_outcome_in_any_form_gives_the_same_events_and_times(form):
    found = SurvivalTimes.of(FORMS[form])
    assert found.event.dtype == bool
    np.testing.assert_array_equal(found.event, EVENT)
    np.testing.assert_array_equal(found.time, TIME)


def test_booleans_are_the_event_where_times_are_zeros_and_ones_too():
    found = SurvivalTimes.of(pd.DataFrame({"a": [0, 1, 1], "b": [True, True, False]}))
    np.testing.assert_array_equal(found.time, [0, 1, 1])


def test_arrays_of_zeros_and_ones_have_the_event_first():
    found = SurvivalTimes.of(np.array([[1, 0], [0, 1], [0, 1]]))
    np.testing.assert_array_equal(found.event, [True, False, False])


def test_names_count_more_than_values():
    found = SurvivalTimes.of(pd.DataFrame({"time": [0, 1], "event": [1, 1]}))
    np.testing.assert_array_equal(found.time, [0, 1])


def test_heart_failure_outcome_is_read_as_frame_and_as_array():
    frame = SurvivalTimes.of(load_heart_failure().target)
    array = SurvivalTimes.of(load_heart_failure(as_frame=False).target)
    assert frame.event.sum() == array.event.sum() == 96
    np.testing.assert_array_equal(frame.time, array.time)


def test_original_is_what_scikit_survival_makes():
    original = SurvivalTimes.of(FORMS["frame"]).original
    expected = Surv.from_arrays(EVENT, TIME)
    assert original.dtype == expected.dtype
    np.testing.assert_array_equal(original, expected)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1.0, 2.0], "shape"),
        (np.ones((3, 3)), "3 columns"),
        (pd.DataFrame({"months": [3.0, 4.0], "censorship": [1, 0]}), "who was censored"),
        (np.array([[2.0, 3.0], [4.0, 5.0]]), "no column of events"),
        (pd.DataFrame({"event": [2, 1], "time": [3.0, 4.0]}), "no column of events"),
        (pd.DataFrame({"event": [1, 0], "time": [3.0, np.nan]}, index=["p", "q"]), "row 'q'"),
        (np.array([[1, 3.0], [0, -4.0]]), "can't be negative"),
        (np.array([[1, 3.0], [0, np.inf]]), "finite"),
        (np.array([[1, 3.0], [0, -4.0]]), "in row 1;"),
        (
            pd.DataFrame({"event": [1, 0], "time": ["3", "lost"]}, index=["p", "q"]),
            "'lost' in row 'q'",
        ),
        (
            pd.DataFrame({"event": [1, 0], "time": pd.to_datetime(["2020-01-01", "2021-02-01"])}),
            "days",
        ),
        (pd.DataFrame({"event": [1, 0], "time": pd.to_timedelta([3, 9], unit="D")}), "days"),
        (
            np.array([(1, 3.0), (0, 4.0)], dtype=[("cens", "i8"), ("time", "f8")]),
            "who was censored",
        ),
    ],
)
def test_outcome_that_cannot_be_read_raises_and_says_why(y, message):
    with pytest.raises(DataError, match=message):
        SurvivalTimes.of(y)


def test_survival_target_refuses_unequal_lengths():
    with pytest.raises(DataError, match="one value per row"):
        survival_target([1, 0], [1.0, 2.0, 3.0])
