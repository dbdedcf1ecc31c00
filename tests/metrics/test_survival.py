"""Survival scores against scikit-survival's, and values by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sksurv import metrics as theirs
from sksurv.linear_model import CoxPHSurvivalAnalysis

from medfusion_sdk.datasets import load_heart_failure
from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.metrics import (
    SurvivalScorer,
    bootstrap_interval,
    brier_score,
    concordance_index,
    concordance_index_ipcw,
    cumulative_dynamic_auc,
    integrated_brier_score,
)
from medfusion_sdk.survival import StepFunction, survival_target

EXACT = {"rtol": 0, "atol": 1e-8}


def patients(seed, *, tied, n_rows=150):
    """Training and test outcome, and risks; with ties in times and risks where asked."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n_rows)
    time = rng.exponential(np.exp(-risk)) + 0.01
    event = rng.random(n_rows) < 0.6
    if tied:
        time, risk = np.ceil(np.minimum(time, 4) * 4), risk.round(1)
    # The longest follow-up ends without the event in training, so that test times are covered.
    train = survival_target(np.append(event, False), np.append(time, time.max() + 1))
    return train, survival_target(event, time), risk + rng.normal(size=n_rows).round(1)


@pytest.fixture(params=[(0, False), (1, False), (2, True), (3, True)], ids=str)
def cohort(request):
    seed, tied = request.param
    return patients(seed, tied=tied)


def inner_times(y):
    return np.percentile(np.unique(y["time"]), [15, 30, 50, 60, 75])


def test_concordance_equals_scikit_survivals(cohort):
    _, y, risk = cohort
    expected = theirs.concordance_index_censored(y["event"], y["time"], risk)[0]
    np.testing.assert_allclose(concordance_index(y, risk), expected, **EXACT)


@pytest.mark.parametrize("quantile", [None, 0.7])
def test_ipcw_concordance_equals_scikit_survivals(cohort, quantile):
    train, y, risk = cohort
    tau = None if quantile is None else float(np.quantile(y["time"], quantile))
    expected = theirs.concordance_index_ipcw(train, y, risk, tau=tau)[0]
    np.testing.assert_allclose(concordance_index_ipcw(train, y, risk, tau=tau), expected, **EXACT)


def test_dynamic_auc_equals_scikit_survivals(cohort):
    train, y, risk = cohort
    times = inner_times(y)
    auc, mean = cumulative_dynamic_auc(train, y, risk, times)
    expected, expected_mean = theirs.cumulative_dynamic_auc(train, y, risk, times)
    np.testing.assert_allclose(auc, expected, **EXACT)
    np.testing.assert_allclose(mean, expected_mean, **EXACT)


def test_dynamic_auc_of_risks_that_change_equals_scikit_survivals(cohort):
    train, y, risk = cohort
    times = inner_times(y)
    changing = risk[:, None] + np.random.default_rng(0).normal(size=(len(y), len(times)))
    ours = cumulative_dynamic_auc(train, y, changing, times)[0]
    expected = theirs.cumulative_dynamic_auc(train, y, changing, times)[0]
    np.testing.assert_allclose(ours, expected, **EXACT)


def test_brier_scores_equal_scikit_survivals(cohort):
    train, y, risk = cohort
    times = inner_times(y)
    survival = np.exp(-np.exp(risk)[:, None] * times / times.max())
    ours = brier_score(train, y, survival, times)
    np.testing.assert_allclose(ours, theirs.brier_score(train, y, survival, times)[1], **EXACT)
    integrated = integrated_brier_score(train, y, survival, times)
    expected = theirs.integrated_brier_score(train, y, survival, times)
    np.testing.assert_allclose(integrated, expected, **EXACT)


def test_concordance_by_hand():
    y = survival_target([1, 0, 1, 1], [1, 2, 3, 3])
    # Comparable: the first with all others; the second is censored; the last two tie.
    assert concordance_index(y, [2.0, 1.0, 2.0, 3.0]) == pytest.approx(1.5 / 3)


def test_concordance_of_minus_risk_is_one_minus_concordance():
    _, y, risk = patients(0, tied=False)
    risk += 1e-3 * np.random.default_rng(0).normal(size=len(risk))
    assert concordance_index(y, -risk) == pytest.approx(1 - concordance_index(y, risk), abs=1e-12)


def test_concordance_within_strata_ignores_their_offsets():
    _, y, risk = patients(0, tied=False)
    fold = np.arange(len(y)) % 3
    within = concordance_index(y, risk, strata=fold)
    assert concordance_index(y, risk + 100 * fold, strata=fold) == within
    pairs = [concordance_index(y[fold == k], risk[fold == k]) for k in range(3)]
    assert min(pairs) < within < max(pairs)


def test_concordance_without_comparable_pairs_is_nan():
    with pytest.warns(UndefinedMetricWarning, match="no pair of rows is comparable"):
        assert np.isnan(concordance_index(survival_target([0, 0], [1, 2]), [1.0, 2.0]))


def test_concordance_is_a_metric_for_bootstrap_intervals():
    X, y = load_heart_failure(return_X_y=True)
    interval = bootstrap_interval(
        concordance_index, y, X["serum_creatinine"], n_resamples=50, random_state=0
    )
    assert interval.low < interval.estimate < interval.high


def test_dynamic_auc_before_the_first_event_is_nan_and_left_out_of_the_mean():
    y = survival_target([0, 1, 1, 0], [1, 2, 3, 9])
    auc, mean = cumulative_dynamic_auc(y, y, [0, 3, 2, 1], [1.5, 2.5])
    assert np.isnan(auc[0])
    assert auc[1] == mean == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: concordance_index(y, [1.0, np.nan, 2.0]), "finite"),
        (lambda y: concordance_index(y, np.ones((3, 2))), "one finite number per row"),
        (lambda y: cumulative_dynamic_auc(y, y, np.ones(3), [3.0, 2.0]), "ascending"),
        (lambda y: cumulative_dynamic_auc(y, y, np.ones(3), [9.0]), "follow-up"),
        (lambda y: brier_score(y, y, np.ones((3, 2)), [2.5]), r"\(3, 1\) is needed"),
        (lambda y: integrated_brier_score(y, y, np.ones((3, 1)), [2.5]), "two times"),
        (lambda y: concordance_index_ipcw(y[:2], y, np.ones(3)), "nobody in y_train"),
    ],
)
def test_scores_of_what_does_not_fit_raise_and_say_why(call, message):
    with pytest.raises(DataError, match=message):
        call(survival_target([1, 0, 1], [1.0, 2.0, 4.0]))


@pytest.mark.parametrize("metric", ["concordance", "ipcw", "auc", "neg_brier"])
def test_scorer_scores_the_folds_of_a_grid_search(metric):
    X, y = load_heart_failure().data, load_heart_failure(as_frame=False).target
    X = (X - X.mean()) / X.std()
    scorer = pickle.loads(pickle.dumps(SurvivalScorer(metric, y_train=y)))
    folds = KFold(3, shuffle=True, random_state=0)
    grid = {"alpha": [1.0, 100.0]}
    search = GridSearchCV(CoxPHSurvivalAnalysis(), grid, scoring=scorer, cv=folds).fit(X, y)
    for alpha, score in zip(grid["alpha"], search.cv_results_["mean_test_score"], strict=True):
        expected = [
            scorer(CoxPHSurvivalAnalysis(alpha).fit(X.iloc[a], y[a]), X.iloc[b], y[b])
            for a, b in folds.split(X)
        ]
        assert score == pytest.approx(np.mean(expected))


def test_scorers_equal_the_metrics_they_stand_for():
    X, y = load_heart_failure(return_X_y=True)
    X = (X - X.mean()) / X.std()
    model = CoxPHSurvivalAnalysis().fit(X, load_heart_failure(as_frame=False).target)
    risk, times = model.predict(X), np.array([30.0, 90.0, 200.0])
    survival = np.stack([curve(times) for curve in model.predict_survival_function(X)])
    assert SurvivalScorer("concordance")(model, X, y) == concordance_index(y, risk)
    assert SurvivalScorer(tau=100)(model, X, y) == concordance_index_ipcw(y, y, risk, tau=100)
    auc = cumulative_dynamic_auc(y, y, risk, times)[1]
    assert SurvivalScorer("auc", times=times)(model, X, y) == auc
    brier = integrated_brier_score(y, y, survival, times)
    assert SurvivalScorer("neg_brier", times=times)(model, X, y) == -brier


def test_several_scorers_score_at_once():
    y = load_heart_failure(as_frame=False).target
    X = pd.DataFrame({"creatinine": load_heart_failure().data["serum_creatinine"]})
    scoring = {name: SurvivalScorer(name) for name in ("ipcw", "auc", "neg_brier")}
    folds = KFold(3, shuffle=True, random_state=0)
    found = cross_validate(CoxPHSurvivalAnalysis(), X, y, scoring=scoring, cv=folds)
    assert all(np.isfinite(found[f"test_{name}"]).all() for name in scoring)


SHORT = {
    "no event": ([0, 0, 0, 0], [1.0, 2.0, 3.0, 4.0]),
    "events at one time": ([1, 1, 1, 0], [2.0, 2.0, 2.0, 3.0]),
    "event at the last time": ([0, 0, 0, 1], [1.0, 2.0, 3.0, 4.0]),
    "longer than in training": ([1, 1, 0, 0], [2.0, 9.0, 9.5, 10.0]),
}


class _Constant:
    """Half of everyone lives beyond each time up to 5."""

    def predict(self, X):
        return X[:, 0]

    def predict_survival_function(self, X):
        curves = np.empty(len(X), dtype=object)
        curves[:] = [StepFunction(np.array([0.5, 5.0]), np.array([0.5, 0.5]), 1.0)] * len(X)
        return curves


@pytest.mark.parametrize("case", SHORT)
def test_scorer_without_times_of_its_own_finds_some_in_small_folds(case):
    y, X = survival_target(*SHORT[case]), np.arange(4.0)[:, None]
    assert SurvivalScorer("neg_brier")(_Constant(), X, y) == pytest.approx(-0.25, abs=0.03)
    auc = SurvivalScorer("auc")(_Constant(), X, y)
    expected = {"events at one time": 0.0, "longer than in training": 0.0}
    # The first rows have the events, and the lowest risks.
    np.testing.assert_equal(auc, expected.get(case, np.nan))


@pytest.mark.parametrize("metric", ["auc", "neg_brier"])
def test_scorer_is_nan_where_all_are_followed_equally_long(metric):
    y, X = survival_target([1, 0, 0, 1], [3.0] * 4), np.arange(4.0)[:, None]
    assert np.isnan(SurvivalScorer(metric)(_Constant(), X, y))


def test_scorer_of_unknown_name_raises():
    with pytest.raises(ParameterError, match="neg_brier"):
        SurvivalScorer("brier")
