"""Survival displays hold what lifelines and scikit-survival compute."""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from scipy.stats import binomtest
from sksurv.compare import compare_survival

from medfusion_sdk import TGMMSurvival
from medfusion_sdk.datasets import load_heart_failure
from medfusion_sdk.exceptions import DataError, MissingDependencyError, ParameterError
from medfusion_sdk.inspection import KaplanMeierDisplay, SurvivalCalibrationDisplay
from medfusion_sdk.survival import kaplan_meier, survival_target


@pytest.fixture(autouse=True)
def no_window():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    return load_heart_failure(return_X_y=True)


@pytest.fixture(scope="module")
def fitted(data):
    X, y = data
    return TGMMSurvival(max_epochs=3, random_state=0).fit(X[::2], y[::2])


# -- Kaplan-Meier by risk group


@pytest.mark.parametrize("cuts", [(0.5,), (1 / 3, 2 / 3)])
def test_groups_curves_and_p_value_are_those_of_other_packages(data, cuts):
    X, y = data
    risk = X["ejection_fraction"].to_numpy() * -1.0
    display = KaplanMeierDisplay.from_predictions(y, risk, cuts=cuts)
    group = np.searchsorted(np.quantile(risk, cuts), risk, side="left")
    structured = survival_target(y["event"], y["time"])
    assert display.p_value == pytest.approx(compare_survival(structured, group)[1], rel=1e-8)
    assert display.sizes["patients"].to_list() == np.bincount(group).tolist()
    for number, (_, curve) in enumerate(display.curves.groupby("group", sort=False)):
        own = structured[group == number]
        expected = KaplanMeierFitter().fit(own["time"], own["event"])
        np.testing.assert_allclose(curve["survival"], expected.survival_function_.iloc[:, 0])
        known = curve["survival"].between(0, 1, inclusive="neither").to_numpy()
        assert known.sum() > len(known) - 3
        band = expected.confidence_interval_.to_numpy()
        np.testing.assert_allclose(curve.loc[known, ["low", "high"]], band[known])


def test_low_risk_comes_first_and_lives_longer(data, fitted):
    X, y = data
    display = KaplanMeierDisplay.from_estimator(fitted, X[1::2], y[1::2])
    low, high = (
        curve["survival"].iloc[-1] for _, curve in display.curves.groupby("group", sort=False)
    )
    assert low > high
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert [label.partition(" (")[0] for label in labels] == ["low risk", "high risk"]
    assert "log-rank p" in display.ax_.get_title()


def test_thresholds_take_the_place_of_quantiles(data):
    X, y = data
    creatinine = X["serum_creatinine"]
    display = KaplanMeierDisplay.from_predictions(
        y, creatinine, thresholds=[1.2, 2.0], labels=["normal", "raised", "high"]
    )
    counts = display.sizes["patients"]
    assert counts["normal"] == (creatinine <= 1.2).sum()
    assert counts["high"] == (creatinine > 2.0).sum()


def test_curves_are_drawn_on_the_users_axes(data):
    X, y = data
    ax = plt.subplots()[1]
    assert KaplanMeierDisplay.from_predictions(y, X["age"], ax=ax).ax_ is ax


def test_empty_groups_and_wrong_names_are_refused(data):
    X, y = data
    with pytest.raises(DataError, match="none may be empty"):
        KaplanMeierDisplay.from_predictions(y, X["age"], thresholds=[200])
    with pytest.raises(DataError, match="3 names for 2 groups"):
        KaplanMeierDisplay.from_predictions(y, X["age"], labels=["a", "b", "c"])


def test_without_lifelines_the_extra_is_named(data, monkeypatch):
    X, y = data
    monkeypatch.setitem(sys.modules, "lifelines", None)
    with pytest.raises(MissingDependencyError, match=r"medfusion-sdk\[survival\]"):
        KaplanMeierDisplay.from_predictions(y, X["age"])


# -- calibration at a horizon


def test_predictions_of_kaplan_meier_itself_are_perfectly_calibrated(data):
    _, y = data
    curve = kaplan_meier(y)
    display = SurvivalCalibrationDisplay.from_predictions(
        y, np.full(len(y), curve(90)), horizon=90, n_groups=1
    )
    line = display.table.iloc[0]
    assert line["observed"] == pytest.approx(line["predicted"], abs=1e-12)
    assert line["low"] < line["observed"] < line["high"]


def test_groups_go_from_low_to_high_risk_and_are_of_equal_size(data, fitted):
    X, y = data
    display = SurvivalCalibrationDisplay.from_estimator(fitted, X[1::2], y[1::2], horizon=90)
    assert display.table["predicted"].is_monotonic_increasing
    assert np.ptp(display.table["patients"]) <= 1
    survival = [curve(90) for curve in fitted.predict_survival_function(X[1::2])]
    mean = np.average(display.table["predicted"], weights=display.table["patients"])
    assert mean == pytest.approx(1 - np.mean(survival))
    assert "by 90" in display.ax_.get_xlabel()


def test_group_that_nobody_was_followed_in_has_no_observation():
    y = survival_target([1, 0, 0, 0, 1, 0], [1, 2, 3, 8, 9, 10])
    survival = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]
    table = SurvivalCalibrationDisplay.from_predictions(y, survival, horizon=5, n_groups=2).table
    assert table["observed"].isna().to_list() == [False, True]


def test_what_cannot_be_observed_is_refused(data):
    _, y = data
    half = np.full(len(y), 0.5)
    with pytest.raises(DataError, match="follow-up ends at 285"):
        SurvivalCalibrationDisplay.from_predictions(y, half, horizon=300)
    with pytest.raises(DataError, match="between 0 and 1"):
        SurvivalCalibrationDisplay.from_predictions(y, half + 1, horizon=90)
    with pytest.raises(ParameterError, match="n_groups=0"):
        SurvivalCalibrationDisplay.from_predictions(y, half, horizon=90, n_groups=0)


def test_band_is_exact_before_the_first_event_and_after_the_last():
    y = survival_target([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0])
    curves = KaplanMeierDisplay.from_predictions(y, np.zeros(4), thresholds=[]).curves
    for time, at_risk in [(0, 4), (1, 4), (2, 3)]:
        line = curves[curves["time"] == time].iloc[0]
        exact = binomtest(at_risk, at_risk).proportion_ci(0.95)
        assert (line["low"], line["high"]) == (exact.low, 1.0)
    last = curves[curves["time"] == 4].iloc[0]
    assert (last["survival"], last["low"]) == (0.0, 0.0)
    assert 0.5 < last["high"] <= binomtest(0, 2).proportion_ci(0.95).high


@pytest.mark.parametrize("censored_before", [0, 12])
def test_group_without_events_has_the_exact_interval_of_those_followed(censored_before):
    event = np.r_[np.zeros(30, bool), np.ones(30, bool)]
    time = np.r_[np.full(30, 400.0), np.linspace(10, 390, 30)]
    time[:censored_before] = 100.0
    display = SurvivalCalibrationDisplay.from_predictions(
        survival_target(event, time), np.repeat([0.95, 0.3], 30), horizon=180, n_groups=2
    )
    exact = binomtest(0, 30 - censored_before).proportion_ci(0.95)
    assert display.table.loc[0, "low"] == 0
    assert display.table.loc[0, "high"] == pytest.approx(exact.high, abs=1e-12)


def test_numbers_at_risk_and_censored_are_counted_by_hand(data):
    y = survival_target([1, 0, 1, 0, 1], [2.0, 2.0, 4.0, 6.0, 8.0])
    display = KaplanMeierDisplay.from_predictions(y, np.zeros(5), thresholds=[], labels=["all"])
    curve = display.curves.set_index("time")
    assert curve["at_risk"].to_dict() == {0: 5, 2: 5, 4: 3, 6: 2, 8: 1}
    assert curve["censored"].to_dict() == {0: 0, 2: 1, 4: 0, 6: 1, 8: 0}
    marks = next(line for line in display.ax_.lines if line.get_marker() == "|")
    assert marks.get_xdata().tolist() == [2, 6]
    below = {text.xy[0]: text.get_text() for text in display.ax_.texts if text.get_ha() == "center"}
    assert {tick: below[tick] for tick in (0, 2, 4, 6, 8)} == {
        0: "5", 2: "5", 4: "3", 6: "2", 8: "1"
    }  # fmt: skip
