"""Simple models beside a fusion method, for numbers and for survival."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler
from sksurv.linear_model import CoxPHSurvivalAnalysis

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.metrics import SurvivalScorer
from medfusion_sdk.model_selection import compare, modality_baselines
from medfusion_sdk.survival import survival_target


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    columns = [f"{name}__{i}" for name in ("labs", "ecg") for i in range(3)]
    return pd.DataFrame(rng.normal(size=(150, 6)), columns=columns)


@pytest.fixture
def outcome(table):
    rng = np.random.default_rng(1)
    time = rng.exponential(np.exp(-table["labs__0"] - table["ecg__0"])) + 0.01
    return survival_target(rng.random(len(table)) < 0.7, time)


def test_baseline_of_survival_is_the_cox_model_of_scikit_survival(table, outcome):
    models = modality_baselines(["labs", "ecg"], task="survival")
    assert list(models) == ["labs alone", "ecg alone", "late vote", "concatenation"]
    found = models["concatenation"].fit(table, outcome)
    x = StandardScaler().fit_transform(table) / np.sqrt(6)
    expected = CoxPHSurvivalAnalysis(alpha=1 / 0.6, ties="efron").fit(x, outcome)
    np.testing.assert_allclose(found.predict(table), expected.predict(x), atol=2e-4)


def test_baselines_of_survival_are_compared_by_risks_and_by_curves(table, outcome):
    models = modality_baselines(["labs", "ecg"], task="survival")
    scores = compare(models, table, outcome, cv=3, n_resamples=20, random_state=0)["score"]
    assert scores["concatenation"] > scores["labs alone"] > 0.6
    assert scores["late vote"] > scores["labs alone"]
    del models["late vote"]  # curves aren't averaged
    brier = SurvivalScorer("neg_brier")
    table = compare(models, table, outcome, cv=3, n_resamples=20, scoring=brier, random_state=0)
    assert table["score"].between(-0.25, 0).all()


def test_baselines_of_numbers_are_ridge_and_boosting(table):
    y = table["labs__0"] + table["ecg__0"]
    models = modality_baselines(["labs", "ecg"], task="regression")
    assert list(models)[-1] == "gradient boosting"
    found = models["labs alone"].fit(table, y).predict(table)
    x = StandardScaler().fit_transform(table.filter(like="labs")) / np.sqrt(3)
    np.testing.assert_allclose(found, RidgeCV(np.logspace(-3, 3, 13)).fit(x, y).predict(x))
    scores = compare(models, table, y, cv=3, n_resamples=20, random_state=0)["score"]
    assert scores["concatenation"] > scores["gradient boosting"] > scores["ecg alone"]


def test_unknown_task_is_named():
    with pytest.raises(ParameterError, match="'ranking'"):
        modality_baselines(["labs"], task="ranking")
