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


SAYS_NO_EVENT = """
    censored Censored is_censored right_censored censoring_status zensiert censuré censurado
    alive still_alive StillAlive isAlive alive_at_last_followup survived survivor survival
    overall_survival event_free eventFree EVENTFREE disease_free relapse_free event_free_survival
    progression_free_survival in_remission inRemission lost_to_followup LostToFollowUp ltfu lost
    no_event not_dead without_event did_not_die nonevent no_recurrence never_relapsed lebt am_leben
    überlebt ereignisfrei ohne_ereignis vivant en_vie survécu sans_evenement vivo sobrevivió
    sopravvissuto libre_de_evento no_evidence_of_disease still_on_treatment freedom_from_failure
    存活
"""
SAYS_EVENT = """
    dead Death DEATH_EVENT died status os_event OS.status OS pfs_status DSS uncensored not_censored
    nicht_zensiert not_alive non_survivor relapse recurrence remission discharge live_birth fustat
    progression_free_survival_event disease_free_survival_status overall_survival_status
    survival_status vital_status verstorben décès muerte readmission cvd_event 30_day_mortality
    dead_at_30_days notified
"""


@pytest.mark.parametrize("name", SAYS_NO_EVENT.split())
@pytest.mark.parametrize("dtype", [int, bool])
def test_column_that_says_who_had_no_event_is_refused_by_name(name, dtype):
    y = pd.DataFrame({"months": [3.0, 60.0, 58.0], name: np.array([0, 1, 1], dtype)})
    with pytest.raises(DataError, match=f"column '{name}', which seems to say"):
        SurvivalTimes.of(y)
    structured = y.to_records(index=False)
    with pytest.raises(DataError, match="seems to say"):
        SurvivalTimes.of(np.asarray(structured))


@pytest.mark.parametrize("name", SAYS_EVENT.split())
def test_column_that_names_an_event_is_read_as_it_stands(name):
    y = pd.DataFrame({"survival_months": [3.0, 60.0, 58.0], name: [1, 0, 0]})
    np.testing.assert_array_equal(SurvivalTimes.of(y).event, [True, False, False])


@pytest.mark.parametrize(
    "time", ["survival_months", "OS.time", "event_free_survival", "time_to_censoring", "days_alive"]
)
def test_column_of_times_may_be_called_after_survival(time):
    found = SurvivalTimes.of(pd.DataFrame({time: [3.0, 60.0], "status": [1, 0]}))
    np.testing.assert_array_equal(found.time, [3.0, 60.0])


@pytest.mark.parametrize(
    ("time", "event"),
    [("months", "dead"), ("time_to_death", "dead"), ("OS.time", "OS"), ("t", "relapse_at_2_years")],
)
def test_names_tell_the_time_where_all_values_are_zeros_and_ones(time, event):
    for names in ([time, event], [event, time]):
        y = pd.DataFrame({time: [0, 1, 1], event: [1, 1, 0]})[names]
        np.testing.assert_array_equal(SurvivalTimes.of(y).event, [True, True, False])


def test_zeros_and_ones_under_names_that_tell_nothing_are_refused():
    with pytest.raises(DataError, match=r"\['a', 'b'\], both of zeros and ones"):
        SurvivalTimes.of(pd.DataFrame({"a": [0, 1, 1], "b": [1, 1, 0]}))


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ([0, 1, 2, 1], r"codes \[0, 1, 2\]; if they are competing events"),
        ([1, 2, 2, 1], r"codes \[1, 2\]; R's survival package writes 1 for censored"),
        (["Dead", "Alive", "Dead", "Dead"], "text, 'Dead', 'Alive': compare it"),
        (["True", "False", "True", "True"], "text, 'True', 'False': compare it"),
        (["0:LIVING", "1:DECEASED", "0:LIVING", "0:LIVING"], "text, '0:LIVING'"),
    ],
)
@pytest.mark.parametrize("time", [[3.0, 8.0, 60.0, 58.0], [0, 1, 1, 0]])
def test_codes_and_text_in_place_of_events_are_spoken_of(event, message, time):
    for y in (
        pd.DataFrame({"months": time, "status": event}),
        pd.DataFrame({"status": event, "months": time}),
    ):
        with pytest.raises(DataError, match=message):
            SurvivalTimes.of(y)
    with pytest.raises(DataError, match=message):
        survival_target(event, time)


@pytest.mark.parametrize(
    "y",
    [
        (np.array([1, 0]), np.array([3.0, 4.0])),
        (np.array([1, 0, 1]), np.array([3.0, 4.0, 5.0])),
        (pd.Series([1, 0]), pd.Series([3.0, 4.0])),
        ([1, 0], [3.0, 4.0]),
        ((1, 0, 1), (3.0, 4.0, 5.0)),
    ],
)
def test_tuple_of_two_columns_is_refused_and_told_how_to_join_them(y):
    with pytest.raises(DataError, match=r"tuple of two columns, \(event, time\)"):
        SurvivalTimes.of(y)


def test_column_of_tuples_is_refused_and_told_how_to_part_them():
    y = pd.Series([(True, 3.0), (False, 4.0)])
    with pytest.raises(DataError, match=r"column of tuples such as \(True, 3.0\)"):
        SurvivalTimes.of(y)
    np.testing.assert_array_equal(survival_target(*zip(*y, strict=True))["event"], [True, False])


@pytest.mark.parametrize(
    ("words", "event"),
    [(["Alive", "Dead"], "Dead"), (["0:LIVING", "1:DECEASED"], "1:DECEASED"), (["0", "1"], "1")],
)
def test_advice_about_text_names_the_word_of_the_event(words, event):
    y = pd.DataFrame({"time": [1.0, 2.0], "status": words})
    with pytest.raises(DataError, match=f"column == '{event}'"):
        SurvivalTimes.of(y)
