"""Labels of pure noise on repeated visits: what is said of patients left out is as good as a coin.

Copies without groups, and visits with noise of a tenth with groups; each expert by what it says of
rows left out, each estimator by what it says of other patients.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medfusion_sdk import (
    AdaCoMedClassifier,
    AMFNClassifier,
    SmallMultimodalClassifier,
    TGMMClassifier,
    TGMMMultiTask,
    TGMMSurvival,
)
from medfusion_sdk.estimators._content import content_codes
from medfusion_sdk.estimators._cox_expert import fit_cox_expert
from medfusion_sdk.estimators._expert import fit_expert
from medfusion_sdk.estimators._ridge_expert import fit_ridge_expert
from medfusion_sdk.metrics import concordance_index
from medfusion_sdk.survival import SurvivalTimes, survival_target

KINDS = ["copies", "visits"]
# Of 100 patients for and against: three standard errors of an AUROC of one half.
CHANCE = 0.13


def cohort(kind, n=200, width=20, seed=0):
    """Three rows of each patient, labels by patient; and the groups that a fit is given."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n), 3)
    x = rng.normal(size=(n, width))[patient]
    if kind == "visits":
        x = x + 0.1 * rng.normal(size=x.shape)
    label = rng.permutation(np.arange(n) % 2)
    return x, label[patient], patient


def codes(kind, x, patient):
    return content_codes(x) if kind == "copies" else patient


@pytest.mark.parametrize("kind", KINDS)
def test_trees_know_nothing_of_patients_left_out(kind):
    x, y, patient = cohort(kind)

    def auroc(groups):
        _, scores = fit_expert(x, y, np.ones(len(x)), groups, kind="classes", seed=0)
        return roc_auc_score(y, scores[:, 1])

    assert abs(auroc(codes(kind, x, patient)) - 0.5) < CHANCE
    assert auroc(np.arange(len(x))) > 0.9  # where each row is taken for a patient


@pytest.mark.parametrize("kind", KINDS)
def test_trees_of_numbers_know_nothing_of_patients_left_out(kind):
    x, _, patient = cohort(kind)
    number = np.random.default_rng(1).normal(size=(200, 1))[patient]

    def correlation(groups):
        _, scores = fit_expert(x, number, np.ones(len(x)), groups, kind="numbers", seed=0)
        return np.corrcoef(scores[:, 0], number[:, 0])[0, 1]

    assert abs(correlation(codes(kind, x, patient))) < 0.22
    assert correlation(np.arange(len(x))) > 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_ridge_models_know_nothing_of_patients_left_out(kind):
    x, y, patient = cohort(kind, width=300)
    x = x / np.sqrt(300)
    there = np.ones((len(x), 1), dtype=bool)

    def told(groups):
        expert, scores = fit_ridge_expert(x, there, [300], y, np.ones(len(x)), groups, seed=0)
        return expert.weights[0, 0], roc_auc_score(y, scores[:, 1])

    weight, auroc = told(codes(kind, x, patient))
    assert weight < 0.5
    assert auroc < 0.5 + CHANCE
    weight, auroc = told(np.arange(len(x)))
    assert weight > 2
    assert auroc > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_cox_models_know_nothing_of_patients_left_out(kind):
    x, y, patient = cohort(kind, width=300)
    x = x / np.sqrt(300)
    time = np.random.default_rng(1).exponential(size=200)[patient]
    outcome, there = SurvivalTimes(y.astype(bool), time), np.ones((len(x), 1), dtype=bool)

    def told(groups):
        options = {"ties": "efron", "seed": 0}
        weight = np.ones(len(x))
        expert, risk = fit_cox_expert(x, there, [300], outcome, weight, groups, **options)
        return expert.weights[0], concordance_index(outcome.original, risk)

    weight, concordance = told(codes(kind, x, patient))
    assert weight < 0.4
    assert concordance < 0.5 + CHANCE
    weight, concordance = told(np.arange(len(x)))
    assert weight > 1.0
    assert concordance > 0.7


# -- whole estimators, on the other half of the patients


def table(kind, n=200):
    x, y, patient = cohort(kind, n, width=40)
    names = [f"{'ab'[i // 20]}__{i:02d}" for i in range(40)]
    X = pd.DataFrame(x, columns=names)
    train = patient < n // 2
    groups = {"groups": patient[train]} if kind == "visits" else {}
    return X[train], y[train], X[~train], groups, patient


def quick(made, **more):
    return made(random_state=0, max_epochs=20, **more)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [200, 400], ids=["ridge", "trees"])
def test_tgmm_is_not_sure_of_other_patients(kind, n):
    X, y, other, groups, _ = table(kind, n)
    model = quick(TGMMClassifier).fit(X, y, **groups)
    assert (model.expert_ is not None) == (n == 400)
    assert (model.ridge_expert_ is not None) == (n == 200)
    assert np.abs(model.predict_proba(other)[:, 1] - 0.5).mean() < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_multitask_is_not_sure_of_other_patients(kind):
    X, y, other, groups, patient = table(kind)
    time = np.random.default_rng(1).exponential(size=200)[patient][: len(y)]
    both = pd.DataFrame({"ill": y, "event": y == 1, "time": time}, index=X.index)
    model = quick(TGMMMultiTask).fit(X, both, **groups)
    assert np.abs(model.predict_proba(other)[:, 1] - 0.5).mean() < 0.1
    assert model.predict_risk(other).std() < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_survival_is_not_sure_of_other_patients(kind):
    X, y, other, groups, patient = table(kind)
    time = np.random.default_rng(1).exponential(size=200)[patient][: len(y)]
    model = quick(TGMMSurvival).fit(X, survival_target(y == 1, time), **groups)
    assert model.predict(other).std() < 0.3


CLASSIFIERS = {
    "small": lambda: quick(SmallMultimodalClassifier),
    "adacomed": lambda: quick(AdaCoMedClassifier),
    "tgmm": lambda: quick(TGMMClassifier, expert=False),
    "amfn": lambda: quick(AMFNClassifier, expert=False),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_are_not_sure_of_other_patients(kind, name):
    X, y, other, groups, patient = table(kind)
    answer = CLASSIFIERS[name]().fit(X, y, **groups).predict_proba(other)[:, 1]
    truth = cohort(kind, 200, width=40)[1][patient >= 100]
    assert abs(roc_auc_score(truth, answer) - 0.5) < 3 * 0.058  # standard errors of chance
    assert np.abs(answer - 0.5).mean() < 0.12
