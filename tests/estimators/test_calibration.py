"""Calibration: temperatures that rows left out ask for, and what they are applied to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from medfusion_sdk import (
    AdaCoMedClassifier,
    AMFNClassifier,
    SmallMultimodalClassifier,
    TGMMClassifier,
    load_estimator,
    save_estimator,
)
from medfusion_sdk.datasets import load_mi_complications, make_multimodal_cohort
from medfusion_sdk.estimators._calibration import Calibration
from medfusion_sdk.exceptions import GroupsWarning

MODELS = [
    SmallMultimodalClassifier(random_state=0),
    AdaCoMedClassifier(max_epochs=40, hidden_dim=8, n_heads=2, random_state=0),
    TGMMClassifier(expert=False, d_model=16, random_state=0),
    AMFNClassifier(max_epochs=8, ensemble_size=2, d_model=8, learning_rate=1e-2, random_state=0),
]
NAMES = [type(model).__name__ for model in MODELS]


@pytest.fixture(scope="module")
def infarctions():
    X, y = load_mi_complications(target="death", return_X_y=True)
    rows = y.sample(400, random_state=0).index
    return X.loc[rows], y[rows]


@pytest.fixture(scope="module")
def cohort():
    made = make_multimodal_cohort(90, random_state=0)
    return made.data, made.target


@pytest.fixture(scope="module")
def scores():
    """Scores (n, 1, 3) that are three times too large, and shifted; classes; weights."""
    rng = np.random.default_rng(0)
    told = rng.normal(size=(400, 3))
    y = np.array([rng.choice(3, p=p) for p in softmax(told, axis=1)])
    return 3 * (told + np.array([0.5, 0, -1]))[:, None], y, rng.integers(1, 4, 400).astype(float)


def slope(p, y):
    return LogisticRegression(C=1e6).fit(logit(p)[:, None], y).coef_[0, 0]


# -- what is learnt


def test_temperature_and_shifts_are_those_that_another_optimiser_finds(scores):
    values, y, weight = scores

    def loss(at):
        logits = values[:, 0] / at[0] + at[1:]
        own = log_softmax(logits, axis=1)[np.arange(len(y)), y]
        return -weight @ own + np.log(at[0]) ** 2 / 2

    found = minimize(loss, [1.0, 0, 0, 0], method="Nelder-Mead", options={"maxiter": 9000}).x
    learnt = Calibration.fit(values, y, weight, np.ones(3, dtype=bool))
    np.testing.assert_allclose(learnt.temperature, found[0], rtol=1e-3)
    np.testing.assert_allclose(learnt.shift, found[1:] - found[1:].mean(), atol=2e-3)
    assert 2.5 < learnt.temperature < 4


def test_labels_share_a_temperature_and_have_a_shift_each(scores):
    values, y, weight = scores
    labels = (y[:, None] == [0, 1, 2]).astype(float)
    learnt = Calibration.fit(values, labels, weight, np.array([True, False, True]))
    # One logistic regression on both labels' rows, with an intercept for each.
    z = np.concatenate([values[:, 0, 0], values[:, 0, 2]])
    first = np.repeat([1.0, 0.0], len(y))
    plain = LogisticRegression(C=1e9, tol=1e-10, fit_intercept=False, max_iter=1000).fit(
        np.column_stack([z, first, 1 - first]),
        np.concatenate([labels[:, 0], labels[:, 2]]),
        sample_weight=np.tile(weight, 2),
    )
    np.testing.assert_allclose(1 / learnt.temperature[[0, 2]], plain.coef_[0, 0], rtol=0.03)
    np.testing.assert_allclose(learnt.shift[[0, 2]], plain.coef_[0, 1:], atol=0.03)
    assert (learnt.temperature[1], learnt.shift[1]) == (1.0, 0.0)


def test_probabilities_of_several_networks_are_averaged_before_they_are_judged(scores):
    values, y, weight = scores
    twice = np.concatenate([values, values], axis=1)
    known = np.ones(3, dtype=bool)
    one, two = (Calibration.fit(own, y, weight, known) for own in (values, twice))
    np.testing.assert_allclose(one.temperature, two.temperature, rtol=1e-6)
    mixed = np.concatenate([values, 0 * values], axis=1)  # one is sure, one isn't
    assert Calibration.fit(mixed, y, weight, known).temperature < 0.8 * one.temperature


def test_mean_probability_of_each_class_is_its_share(scores):
    values, y, weight = scores
    learnt = Calibration.fit(values, y, weight, np.ones(3, dtype=bool))
    told = softmax(learnt(values[:, 0]), axis=1)
    expected = np.bincount(y, weight) / weight.sum()
    np.testing.assert_allclose(np.average(told, axis=0, weights=weight), expected, atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_that_tell_all_or_mislead_get_a_finite_positive_temperature(sign):
    y = np.arange(60) % 2
    values = sign * np.stack([-(y - 0.5), y - 0.5], axis=1)[:, None]
    learnt = Calibration.fit(values, y, np.ones(60), np.ones(2, dtype=bool))
    assert 0 < learnt.temperature < 1000
    assert (learnt.temperature < 1) == (sign > 0)


def test_a_row_of_weight_two_is_two_rows(scores):
    values, y, weight = scores
    known, times = np.ones(3, dtype=bool), weight.astype(int)
    weighted = Calibration.fit(values, y, weight, known)
    repeated = Calibration.fit(
        np.repeat(values, times, axis=0), np.repeat(y, times), np.ones(times.sum()), known
    )
    np.testing.assert_allclose(weighted.temperature, repeated.temperature, rtol=1e-8)
    np.testing.assert_allclose(weighted.shift, repeated.shift, atol=1e-8)


# -- of real patients


def test_out_of_fold_slope_is_near_one_and_ranking_stays(infarctions):
    X, y = infarctions
    model = SmallMultimodalClassifier(random_state=0)
    found = {
        wanted: cross_val_predict(
            clone(model).set_params(calibrate=wanted), X, y, cv=3, method="predict_proba"
        )[:, 1]
        for wanted in (False, True)
    }
    assert slope(found[False], y) < 0.65
    assert 0.75 < slope(found[True], y) < 1.3
    assert abs(found[True].mean() - y.mean()) < 0.03
    aurocs = [roc_auc_score(y, p) for p in found.values()]
    assert abs(aurocs[0] - aurocs[1]) < 0.01


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_weights_and_ranking_are_those_without_calibration(model, cohort):
    X, y = cohort
    plain = clone(model).set_params(calibrate=False).fit(X, y)
    told = clone(model).fit(X, y)
    assert plain.calibration_ is None
    for name, own in plain.state_.items():
        np.testing.assert_array_equal(told.state_[name], own)
    temperature, shift = told.calibration_.temperature, told.calibration_.shift
    if not isinstance(model, AMFNClassifier):  # whose networks' probabilities are averaged
        expected = plain.decision_function(X) / temperature + (shift[1] - shift[0])
        np.testing.assert_allclose(told.decision_function(X), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        expit(told.decision_function(X)), told.predict_proba(X)[:, 1], rtol=1e-6
    )


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_noise_is_told_with_the_base_rate_even_where_each_row_comes_twice(model):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        rng.normal(size=(80, 8)), columns=[f"{m}__{i}" for m in "ab" for i in range(4)]
    )
    y = (rng.random(80) < 0.3).astype(int)
    twice = pd.concat([X, X], ignore_index=True)
    told = clone(model).fit(twice, np.concatenate([y, y])).predict_proba(twice)[:, 1]
    assert told.std() < 0.1
    assert abs(told.mean() - y.mean()) < 0.1


def test_rows_of_a_group_are_left_out_together():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 3)
    X = rng.normal(size=(40, 12))[patient] + 0.1 * rng.normal(size=(120, 12))
    X = pd.DataFrame(X, columns=[f"labs__{i}" for i in range(12)])
    y = rng.integers(0, 2, 40)[patient]  # nothing to learn but who it is
    model = SmallMultimodalClassifier(random_state=0)
    known = clone(model).fit(X, y, groups=patient).calibration_
    with pytest.warns(GroupsWarning):
        unknown = clone(model).fit(X, y).calibration_
    assert known.temperature > 2 > unknown.temperature


# -- what it is applied to


@pytest.mark.parametrize("n_classes", [2, 3])
def test_contributions_sum_to_calibrated_scores(n_classes):
    made = make_multimodal_cohort(120, random_state=0)
    X, y = made.data, made.target if n_classes == 2 else np.arange(120) % 3
    model = SmallMultimodalClassifier(random_state=0).fit(X, y)
    assert model.calibration_ is not None
    sums = model.explain(X).groupby(["row", "label"], sort=False)["contribution"].sum().unstack()
    np.testing.assert_allclose(softmax(sums, axis=1), model.predict_proba(X), atol=1e-10)


def test_paths_of_adacomed_are_calibrated_with_their_mean(cohort):
    X, y = cohort
    model = clone(MODELS[1]).fit(X, y)
    assert model.small_.calibration_ is None
    told = (
        model.explain(X).query("label == 1").pivot(index="row", columns="quantity", values="value")
    )
    weights = (
        model.explain(X)
        .query("label == ''")
        .pivot_table(index="row", columns="quantity", values="value")
    )
    large, small = (logit(told[f"probability_{path}"]) for path in ("large", "small"))
    mixed = weights["w_large"] * large + weights["w_small"] * small
    np.testing.assert_allclose(mixed, model.decision_function(X), rtol=1e-4, atol=1e-4)


def test_entropies_of_amfn_are_those_of_its_probabilities(cohort):
    X, y = cohort
    model = clone(MODELS[3]).fit(X, y)
    told = model.explain(X).set_index("quantity")["value"]
    p = model.predict_proba(X)
    np.testing.assert_allclose(told["entropy"], -(p * np.log(p)).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        told["entropy_data"].to_numpy() + told["entropy_model"].to_numpy(), told["entropy"]
    )


# -- where there is none


def test_nothing_is_learnt_of_a_class_that_not_every_fold_has():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)), np.zeros(40, dtype=int)
    y[:2] = 1
    assert SmallMultimodalClassifier(max_epochs=5).fit(X, y).calibration_ is None
    y[:3] = 1
    assert SmallMultimodalClassifier(max_epochs=5).fit(X, y).calibration_ is not None


def test_a_label_that_not_every_fold_has_keeps_its_scores():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)), rng.integers(0, 2, size=(40, 2))
    y[:, 1] = np.arange(40) < 2
    found = SmallMultimodalClassifier(max_epochs=20, random_state=0).fit(X, y).calibration_
    assert found.temperature[0] != 1
    assert (found.temperature[1], found.shift[1]) == (1.0, 0.0)


def test_experts_that_are_weighed_on_unseen_rows_need_none():
    made = make_multimodal_cohort(200, random_state=0)
    model = TGMMClassifier(max_epochs=5, random_state=0).fit(made.data, made.target)
    assert model.ridge_expert_ is not None
    assert model.calibration_ is None


def test_weights_that_go_on_from_an_earlier_fit_have_none(cohort):
    X, y = cohort
    model = SmallMultimodalClassifier(max_epochs=5, warm_start=True, random_state=0).fit(X, y)
    assert model.calibration_ is not None
    assert model.fit(X, y).calibration_ is None


def test_rows_held_out_serve_where_there_are_enough_of_them(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 3))
    y = (rng.random(1200) < expit(X[:, 0])).astype(int)
    model = SmallMultimodalClassifier(
        early_stopping=True, validation_fraction=0.5, max_epochs=5, random_state=0
    )
    fits = []
    fit = SmallMultimodalClassifier._fit_table
    monkeypatch.setattr(
        SmallMultimodalClassifier,
        "_fit_table",
        lambda own, table: (fits.append(1), fit(own, table)),
    )
    assert model.fit(X, y).calibration_ is not None
    assert len(fits) == 1
    clone(model).set_params(early_stopping=False).fit(X, y)
    assert len(fits) == 1 + 3  # two folds have 200 answers of each kind: no third one


# -- keeping


def test_calibration_is_saved_with_the_model(cohort, tmp_path):
    X, y = cohort
    model = SmallMultimodalClassifier(max_epochs=20, random_state=0).fit(X, y)
    save_estimator(model, tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    np.testing.assert_array_equal(loaded.calibration_.temperature, model.calibration_.temperature)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
