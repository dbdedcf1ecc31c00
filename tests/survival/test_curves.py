"""Kaplan-Meier and baseline hazards against scikit-survival and lifelines; step functions."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.nonparametric import CensoringDistributionEstimator

from medfusion_sdk.datasets import load_heart_failure
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.survival import BaselineHazard, StepFunction, SurvivalTimes, kaplan_meier
from medfusion_sdk.survival._curves import censoring_curve


@pytest.fixture(scope="module")
def y():
    return load_heart_failure(as_frame=False).target


def test_kaplan_meier_equals_lifelines(y):
    ours = kaplan_meier(y)
    theirs = KaplanMeierFitter().fit(y["time"], y["event"]).survival_function_.iloc[1:, 0]
    np.testing.assert_array_equal(ours.x, theirs.index)
    np.testing.assert_allclose(ours.y, theirs, rtol=1e-12)


def test_kaplan_meier_counts_a_row_of_weight_two_twice_and_of_zero_not(y):
    weight = np.arange(len(y)) % 3
    weighted, repeated = kaplan_meier(y, sample_weight=weight), kaplan_meier(np.repeat(y, weight))
    np.testing.assert_array_equal(weighted.x, repeated.x)
    np.testing.assert_allclose(weighted.y, repeated.y, rtol=1e-12)


def test_censoring_curve_equals_scikit_survivals(y):
    ours, theirs = censoring_curve(y), CensoringDistributionEstimator().fit(y)
    np.testing.assert_array_equal(ours.x, theirs.unique_time_[1:])
    np.testing.assert_allclose(ours.y, theirs.prob_[1:], rtol=1e-12)


def test_curves_from_a_baseline_hazard_equal_scikit_survivals(y):
    X = load_heart_failure().data
    X = (X - X.mean()) / X.std()
    cox = CoxPHSurvivalAnalysis().fit(X, y)
    risk = cox.predict(X)
    baseline = BaselineHazard.fit(risk, SurvivalTimes.of(y))
    np.testing.assert_array_equal(baseline.time, cox.unique_times_)
    survival = cox.predict_survival_function(X, return_array=True)
    np.testing.assert_allclose(baseline.survival(risk), survival, rtol=1e-10)
    hazard = cox.predict_cumulative_hazard_function(X, return_array=True)
    np.testing.assert_allclose(baseline.hazards(risk), hazard, rtol=1e-10)


def test_baseline_hazard_takes_weights_as_repeated_rows(y):
    risk, weight = np.linspace(-2, 2, len(y)), 1 + np.arange(len(y)) % 2
    weighted = BaselineHazard.fit(risk, SurvivalTimes.of(y), weight)
    repeated = BaselineHazard.fit(np.repeat(risk, weight), SurvivalTimes.of(np.repeat(y, weight)))
    np.testing.assert_allclose(weighted.cumulative, repeated.cumulative, rtol=1e-12)


def test_curves_of_extreme_risks_are_probabilities(y):
    baseline = BaselineHazard.fit(np.linspace(-2e3, 2e3, len(y)), SurvivalTimes.of(y))
    survival = baseline.survival(np.array([-1e5, 0.0, 1e5]))
    assert np.isfinite(survival).all()
    assert ((survival >= 0) & (survival <= 1)).all()
    assert (np.diff(survival, axis=1) <= 0).all()


def test_baseline_hazard_without_events_stays_zero():
    baseline = BaselineHazard.fit(np.zeros(3), SurvivalTimes.of([[0, 1.0], [0, 2.0], [0, 2.0]]))
    np.testing.assert_array_equal(baseline.survival(np.array([1.0])), [[1.0, 1.0]])


def test_step_function_is_right_continuous_and_starts_where_told():
    curve = StepFunction(np.array([1.0, 3.0]), np.array([0.5, 0.2]), start=1.0)
    np.testing.assert_array_equal(curve([0, 0.9, 1, 2.9, 3]), [1, 1, 0.5, 0.5, 0.2])
    assert curve(1.5) == 0.5
    assert curve.domain == (0.0, 3.0)


@pytest.mark.parametrize("time", [-0.1, 3.1, np.nan, [1.0, 4.0]])
def test_step_function_refuses_times_beyond_follow_up(time):
    curve = StepFunction(np.array([1.0, 3.0]), np.array([0.5, 0.2]), start=1.0)
    with pytest.raises(DataError, match="follow-up"):
        curve(time)
