"""Explanations of growing series: each is that of the series as it was known by then."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from medfusion_sdk import AMFNRegressor
from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.inspection import WeightsOverTimeDisplay, explain_over_time

SERIES = ["vitals", "respiration", "neuro", "labs", "cardiac"]


def cut(X, step):
    """The table as it was after some steps, by hand."""
    known = X.copy()
    for name in SERIES:
        cells = [None if cell is None else cell[:, :step] for cell in X[name]]
        known[name] = pd.Series(cells, index=X.index, dtype=object)
    return known


@pytest.fixture(scope="module")
def course(amfn, stays):
    return explain_over_time(amfn, stays[0], [12, 3, 48])


def test_each_step_is_explained_as_if_nothing_came_after(amfn, stays, course):
    X = stays[0]
    for step in (3, 12, 48):
        own = course[course["step"] == step].drop(columns="step").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, amfn.explain(cut(X, step)), rtol=1e-6, atol=1e-6)
    assert list(course.columns[:3]) == ["row", "step", "quantity"]
    whole = course[course["step"] == 48].drop(columns="step").reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, amfn.explain(X), rtol=1e-6, atol=1e-6)


def test_future_values_change_nothing(amfn, stays, course):
    X = stays[0].copy()
    X["vitals"] = [
        np.concatenate([cell[:, :12], 1e4 + cell[:, 12:]], axis=1) for cell in X["vitals"]
    ]
    told = explain_over_time(amfn, X, [12], quantities=["probability"])
    before = course[(course["step"] == 12) & (course["quantity"] == "probability")]
    np.testing.assert_allclose(told["value"], before["value"], atol=1e-6)


def test_row_of_which_nothing_is_known_yet_has_no_lines(amfn, stays):
    X = stays[0].assign(static__age=np.nan, static__sex=np.nan)
    late = X.index[2]
    for name in SERIES:
        cell = X.at[late, name]
        if cell is not None:
            X.at[late, name] = np.where(np.arange(48) < 20, np.nan, cell).astype(np.float32)
    with pytest.warns(match="static"):
        told = explain_over_time(amfn, X, [12, 48], quantities=["gate"])
    assert set(told.loc[told["row"] == late, "step"]) == {48}
    assert set(told.loc[told["row"] == X.index[3], "step"]) == {12, 48}
    with pytest.raises(DataError, match="first 12 steps"):
        explain_over_time(amfn, X.loc[[late]], [6, 12])


def test_lines_are_means_of_what_is_told(course):
    display = WeightsOverTimeDisplay.from_explanation(course)
    gates = course[(course["quantity"] == "gate") & (course["value"] > 0)]
    for name, line in display.lines_.items():
        own = gates[gates["modality"] == name].groupby("step")["value"].mean()
        assert line.get_xdata().tolist() == [3, 12, 48]
        np.testing.assert_allclose(line.get_ydata(), own)
    proba = course[(course["quantity"] == "probability") & (course["label"] == 1)]
    expected = proba.groupby("step")["value"].mean()
    np.testing.assert_allclose(display.prediction_line_.get_ydata(), expected)
    assert len(display.prediction_ax_.collections) == 1  # the band
    assert display.prediction_ax_.get_ylim() == (0, 1)


def test_course_of_one_row_is_its_own_and_has_no_band(amfn, stays):
    X = stays[0]
    row = X.index[X["cardiac"].isna().to_numpy().argmax()]
    display = WeightsOverTimeDisplay.from_estimator(
        amfn, X.loc[[row]], [6, 24], quantity="contribution", label=0
    )
    told = amfn.explain(cut(X.loc[[row]], 24))
    own = told[(told["quantity"] == "contribution") & (told["label"] == 0)].set_index("modality")
    assert "cardiac" not in display.lines_
    for name, line in display.lines_.items():
        assert line.get_ydata()[1] == pytest.approx(own.loc[name, "value"], abs=1e-6)
    assert display.prediction_line_.get_ydata()[1] == pytest.approx(
        amfn.predict_proba(cut(X.loc[[row]], 24))[0, 0], abs=1e-6
    )
    assert not display.prediction_ax_.collections


def test_predictions_of_a_regression_are_drawn_in_their_units(stays):
    X, y = stays
    days = pd.DataFrame({"days": 5.0 + 3 * y, "cost": -1.0 * y})
    model = AMFNRegressor(d_model=8, ensemble_size=1, max_epochs=2, random_state=0).fit(X, days)
    told = explain_over_time(model, X, [6, 48])
    display = WeightsOverTimeDisplay.from_explanation(told, label="days")
    expected = [model.predict(cut(X, step))[:, 0].mean() for step in (6, 48)]
    np.testing.assert_allclose(display.prediction_line_.get_ydata(), expected, rtol=1e-5)
    assert display.prediction_ax_.get_ylabel() == "prediction (dashed)"
    with pytest.raises(ParameterError, match=r"label='death'.*'days', 'cost'"):
        WeightsOverTimeDisplay.from_explanation(told, label="death")


def test_course_is_drawn_where_it_is_told_to(course):
    figure, ax = plt.subplots()
    display = WeightsOverTimeDisplay.from_explanation(course, ax=ax)
    assert (display.ax_, display.figure_) == (ax, figure)
    assert WeightsOverTimeDisplay(display.weights).plot().prediction_ax_ is None


def test_course_is_drawn_in_hours_where_a_step_is_told(course):
    ax = WeightsOverTimeDisplay.from_explanation(course, hours_per_step=0.5).ax_
    steps = sorted(course["step"].unique())
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [f"{s / 2:g}" for s in steps]
    assert ax.get_xlabel() == "time in hours"


def test_what_cannot_be_followed_over_time_is_refused(amfn, stays, course):
    X = stays[0]
    with pytest.raises(ParameterError, match="no steps"):
        WeightsOverTimeDisplay.from_explanation(amfn.explain(X))
    with pytest.raises(ParameterError, match="'router'"):
        WeightsOverTimeDisplay.from_explanation(course, quantity="router")
    with pytest.raises(ParameterError, match="surprise"):
        explain_over_time(amfn, X, [12], quantities=["surprise"])
    with pytest.raises(ParameterError, match="steps is empty"):
        explain_over_time(amfn, X, [])
