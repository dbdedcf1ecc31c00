"""Curves of a survival estimator behind a transformer, with and without scikit-survival."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import TGMMSurvival
from medfusion_sdk.inspection import SurvivalCalibrationDisplay
from medfusion_sdk.metrics import SurvivalScorer
from medfusion_sdk.model_selection import compare
from medfusion_sdk.survival import survival_target


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.normal(size=80), "ef": rng.normal(size=80)})
    y = survival_target(rng.random(80) < 0.6, rng.exponential(np.exp(-X["age"])) * 100)
    scale = StandardScaler().set_output(transform="pandas")
    model = make_pipeline(scale, TGMMSurvival(max_epochs=2, random_state=0))
    return model.fit(X, y), X, y


def test_pipeline_predicts_the_curves_of_its_last_step(fitted):
    model, X, _ = fitted
    own = model[-1].predict_survival_function(model[:-1].transform(X), return_array=True)
    np.testing.assert_array_equal(model.predict_survival_function(X, return_array=True), own)
    np.testing.assert_array_equal(model.unique_times_, model[-1].unique_times_)
    hazard = model.predict_cumulative_hazard_function(X, return_array=True)
    np.testing.assert_allclose(np.exp(-hazard), own, atol=1e-12)


def test_scorers_displays_and_compare_look_into_pipelines_and_searches(fitted):
    model, X, y = fitted
    search = GridSearchCV(model, {"tgmmsurvival__alpha": [100.0]}, cv=2).fit(X, y)
    scorer = SurvivalScorer("neg_brier")
    assert scorer(search, X, y) == pytest.approx(scorer(model, X, y), abs=1e-12)
    assert -0.5 < scorer(model, X, y) < 0
    shown = SurvivalCalibrationDisplay.from_estimator(search, X, y, horizon=20, n_groups=2).table
    plain = SurvivalCalibrationDisplay.from_estimator(model, X, y, horizon=20, n_groups=2).table
    pd.testing.assert_frame_equal(shown, plain)
    table = compare({"model": model, "search": search}, X, y, cv=2, scoring=scorer, n_resamples=5)
    assert table["score"].nunique() == 1


def test_pipeline_of_another_estimator_has_no_curves():
    model = make_pipeline(StandardScaler(), LinearRegression())
    assert not hasattr(model, "predict_survival_function")
    assert not hasattr(model, "unique_times_")


ORDERS = {
    "without scikit-survival": "import medfusion_sdk.estimators.tgmm_survival",
    "scikit-survival first": "import sksurv, medfusion_sdk.estimators.tgmm_survival",
    "scikit-survival last": "import medfusion_sdk.estimators.tgmm_survival, sksurv",
}
PROGRAM = """
{order}
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

class Curves(BaseEstimator):
    def fit(self, X, y=None):
        self.unique_times_ = np.array([1.0])
        return self
    def predict_survival_function(self, X, return_array=False):
        return X.sum(axis=1), return_array

X = np.arange(8.0).reshape(4, 2)
model = make_pipeline(StandardScaler(), Curves()).fit(X)
found, option = model.predict_survival_function(X, return_array=True)
assert np.array_equal(found, StandardScaler().fit_transform(X).sum(axis=1)) and option
assert model.unique_times_ == 1.0
assert not hasattr(model, "predict_cumulative_hazard_function")
assert not hasattr(make_pipeline(StandardScaler()), "predict_survival_function")
"""


@pytest.mark.parametrize("order", ORDERS)
def test_curves_of_pipelines_do_not_depend_on_scikit_survival(order):
    program = PROGRAM.format(order=ORDERS[order])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
