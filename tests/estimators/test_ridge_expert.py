"""The ridge logistic models beside a diagnosis: what they are, when, and what they are worth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from medfusion_sdk import TGMMMultiTask
from medfusion_sdk.datasets import make_multimodal_cohort
from medfusion_sdk.estimators._content import content_codes
from medfusion_sdk.estimators._group_folds import group_folds
from medfusion_sdk.estimators._mixture import Mixture
from medfusion_sdk.estimators._ridge_expert import fit_ridge_expert
from tests.estimators.cohorts import MODALITIES, cohort, quantity, tgmm


@pytest.fixture(scope="module")
def data():
    return cohort(150)


@pytest.fixture(scope="module")
def fitted(data):
    return tgmm().fit(*data)


def rows_of(width, n=120, seed=0):
    """Rows of RMS norm one, and a class that they tell something about."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width)) / np.sqrt(width)
    return x, (3 * x[:, :3].sum(axis=1) * np.sqrt(width / 9) + rng.normal(size=n) > 0).astype(int)


def fit(x, y, dims, present=None, weight=None, **options):
    present = np.ones((len(x), len(dims)), bool) if present is None else present
    weight = np.ones(len(x)) if weight is None else weight
    return fit_ridge_expert(x, present, dims, y, weight, np.arange(len(x)), seed=0, **options)


# -- against scikit-learn


@pytest.mark.parametrize("width", [5, 300], ids=["narrow", "wide"])
def test_scores_of_one_modality_are_those_of_logistic_regression(width):
    x, y = rows_of(width)
    expert, scores = fit(x, y, [width])
    ridge = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
    fold, unseen = group_folds(np.arange(len(x)), y, seed=0), np.zeros(len(x))
    for number in range(5):
        out = fold == number
        unseen[out] = x[out] @ ridge.fit(x[~out], y[~out]).coef_[0]
    factor = expert.weights[0, 0] / unseen.std()
    offset = np.diff(expert.intercept)
    np.testing.assert_allclose(np.diff(scores)[:, 0], factor * unseen + offset, atol=1e-4)
    linear = np.diff(expert.scores(x))[:, 0]
    np.testing.assert_allclose(linear, factor * (x @ ridge.fit(x, y).coef_[0]) + offset, atol=1e-4)


def test_weights_and_intercept_are_a_logistic_regression_of_unseen_scores():
    one, y = rows_of(5)
    other, _ = rows_of(40, seed=1)
    x = np.hstack([one, other])
    expert, scores = fit(x, y, [5, 40])
    fold = group_folds(np.arange(len(x)), y, seed=0)
    voices = np.zeros((len(x), 2))
    for number in range(5):
        out = fold == number
        for m, part in enumerate([one, other]):
            ridge = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
            voices[out, m] = part[out] @ ridge.fit(part[~out], y[~out]).coef_[0]
    voices = voices / voices.std(axis=0)
    told = LogisticRegression(C=1.0, tol=1e-10).fit(voices, y)
    while (told.coef_ < 0).any():  # of two voices, one without a say is the bound that holds
        voices[:, told.coef_[0] < 0] = 0
        told = LogisticRegression(C=1.0, tol=1e-10).fit(voices, y)
    np.testing.assert_allclose(expert.weights[:, 0], told.coef_[0], atol=1e-3)
    np.testing.assert_allclose(np.diff(scores)[:, 0], told.decision_function(voices), atol=2e-3)


def test_three_classes_are_a_multinomial_regression():
    x, _ = rows_of(4, n=200)
    y = np.argmax(4 * x[:, :3] + np.random.default_rng(0).gumbel(size=(200, 3)), axis=1)
    expert, _ = fit(x, y, [4])
    ridge = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(x, y)
    factor = expert.coef / ridge.coef_.T
    np.testing.assert_allclose(factor, factor.mean(), rtol=1e-3)
    np.testing.assert_allclose(expert.scores(x).sum(axis=1), 0, atol=1e-9)


def test_a_label_is_told_as_if_it_were_alone():
    x, first = rows_of(6)
    second = (x[:, 4] > 0).astype(int)
    both = np.column_stack([first, second])
    expert, scores = fit(x, both.astype(float), [6])
    fold = group_folds(np.arange(len(x)), both, seed=0)
    ridge = LogisticRegression(C=1.0, tol=1e-10)
    unseen = np.zeros(both.shape)
    for number in range(5):
        out = fold == number
        for i, y in enumerate(both.T):
            unseen[out, i] = x[out] @ ridge.fit(x[~out], y[~out]).coef_[0]
    factors = expert.weights[0] / unseen.std(axis=0)
    np.testing.assert_allclose(scores, unseen * factors + expert.intercept, atol=1e-4)


def test_trees_are_a_voice_among_the_modalities():
    x, y = rows_of(5)
    noise = np.random.default_rng(1).normal(size=len(y))
    knowing = 2.0 * (2 * y - 1) + noise
    expert, scores = fit(x, y, [5], trees=np.column_stack([-knowing, knowing]) / 2)
    assert expert.weights.shape == (2, 1)
    assert expert.weights[1, 0] > expert.weights[0, 0]
    trees = np.column_stack([-knowing, knowing]) / 2
    without, told = expert.scores(x, 0 * trees), expert.scores(x, trees)
    np.testing.assert_allclose(told - without, trees * expert.tree_coef, atol=1e-12)
    assert np.corrcoef(np.diff(scores)[:, 0], knowing)[0, 1] > 0.8


# -- what it is made from


def test_expert_weighs_the_modalities_that_tell_something():
    one, y = rows_of(5, n=300)
    other, _ = rows_of(5, n=300, seed=1)
    expert, _ = fit(np.hstack([one, other]), y, [5, 5])
    telling, noise = expert.weights[:, 0]
    assert telling > 5 * noise
    assert noise >= 0


def test_order_of_rows_is_of_no_matter(data, fitted):
    X, y = data
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = tgmm().fit(X.iloc[order], y[order])
    np.testing.assert_allclose(shuffled.predict_proba(X), fitted.predict_proba(X), atol=1e-7)


@pytest.mark.parametrize("multilabel", [False, True])
def test_weighted_rows_are_rows_given_as_often(data, multilabel):
    X, y = data
    y = np.column_stack([y, X["ecg__0000"] > 0]).astype(int) if multilabel else y
    times = np.random.default_rng(0).integers(0, 3, size=len(X))
    several = np.repeat(np.arange(len(X)), times)
    weighted = tgmm(expert=True).fit(X, y, sample_weight=times)
    repeated = tgmm(expert=True).fit(X.iloc[several], y[several])
    assert weighted.ridge_expert_ is not None
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-7)


def test_absent_modality_has_no_part(data, fitted):
    X, _ = data
    absent = X.assign(**dict.fromkeys(X.filter(like="note__"), np.nan))
    x, _ = fitted._scaling.apply(X.to_numpy(float)[:, np.argsort(X.columns)])
    fitted_columns = fitted._scaling.apply(absent.to_numpy(float))[0]
    start = sum(fitted._scaling.dims[: fitted.modalities_.index("note")])
    own = slice(start, start + fitted._scaling.dims[fitted.modalities_.index("note")])
    assert x[:, own].any()
    assert not fitted_columns[:, own].any()
    with pytest.warns(UserWarning, match="note"):
        told = quantity(fitted.explain(absent), "probability_expert")
    rest = np.delete(fitted_columns, np.r_[own], axis=1) @ np.delete(
        fitted.ridge_expert_.coef, np.r_[own], axis=0
    )
    expected = np.diff(rest + fitted.ridge_expert_.intercept)[:, 0]
    np.testing.assert_allclose(logit(told[:, 1]), expected, atol=1e-9)


def test_nothing_is_learnt_from_rows_held_out(data):
    X, y = data
    model = tgmm(early_stopping=True).fit(X, y)
    held = model._held_out(np.arange(len(X)), y)
    changed = X.copy()
    changed.iloc[held] = -3 * changed.iloc[held]
    again = tgmm(early_stopping=True).fit(changed, y)
    np.testing.assert_array_equal(again.ridge_expert_.coef, model.ridge_expert_.coef)
    np.testing.assert_array_equal(again.ridge_expert_.intercept, model.ridge_expert_.intercept)


def test_multitask_learns_from_the_rows_with_a_diagnosis(data):
    X, target = data
    y = pd.DataFrame({"hf": target.astype(float)}, index=X.index)
    y.iloc[:30] = np.nan
    options = {"max_epochs": 2, "d_model": 8, "n_heads": 2, "random_state": 0}
    model = TGMMMultiTask(**options).fit(X, y)
    x, present = model._scaling.apply(X.to_numpy(float))
    dims, weight = model._scaling.dims, np.ones(120)
    rows = x[30:], present[30:], dims, target[30:], weight, content_codes(X.to_numpy(float))[30:]
    by_hand, _ = fit_ridge_expert(*rows, seed=model._seed)
    np.testing.assert_allclose(model.ridge_expert_.coef, by_hand.coef, atol=1e-12)


# -- when


def test_expert_waits_for_rows_of_each_class(data, fitted):
    X, y = data
    assert fitted.ridge_expert_ is not None
    assert tgmm().fit(X[:99], y[:99]).ridge_expert_ is None
    rare = y & (np.cumsum(y) < 10)
    assert tgmm().fit(X, rare).ridge_expert_ is None
    assert tgmm(expert=True).fit(X, rare).ridge_expert_ is not None
    assert tgmm(expert=False).fit(X, y).ridge_expert_ is None
    nobody = np.zeros(len(X), int)
    assert tgmm(expert=True).fit(X, nobody).ridge_expert_ is None


def test_wide_blocks_have_ridge_models_beside_the_trees_of_the_others():
    made = make_multimodal_cohort(
        500, modalities=["labs", "note"], n_features={"labs": 4, "note": 200}, random_state=0
    )
    model = tgmm(max_epochs=1, modality_dropout=0.0).fit(made.data, made.target)
    assert model.expert_ is not None
    assert model._plain(made.data.to_numpy()).shape == (500, 4)
    assert len(model.ridge_expert_.weights) == 3
    trees = model.expert_.scores(made.data.filter(like="labs__").to_numpy())
    x, _ = model._scaling.apply(made.data.to_numpy())
    told = quantity(model.explain(made.data), "probability_expert")
    expected = np.diff(model.ridge_expert_.scores(x, trees))[:, 0]
    np.testing.assert_allclose(logit(told[:, 1]), expected, atol=1e-4)


def test_class_without_a_row_gets_no_opinion():
    x, y = rows_of(5)
    expert, scores = fit(x, y, [5], n_classes=3)
    assert scores.shape == (len(x), 3)
    assert not expert.coef[:, 2].any()
    assert expert.intercept[2] < expert.intercept[:2].min()


# -- beside the network


def test_probability_is_the_sum_that_the_mixture_says(data, fitted):
    X, _ = data
    told = fitted.explain(X)
    network, expert, answer = (
        logit(quantity(told, f"probability{part}")[:, 1]) for part in ("_network", "_expert", "")
    )
    mixture = fitted._mixture
    expected = mixture.scale * (expert + mixture.share * network) + np.diff(mixture.origin)
    np.testing.assert_allclose(answer, expected, atol=1e-9)


def test_network_alone_is_what_it_is_without_an_expert(data, fitted):
    X, y = data
    alone = tgmm(expert=False).fit(X, y)
    told = quantity(fitted.explain(X), "probability_network")
    np.testing.assert_allclose(told, alone.predict_proba(X), atol=1e-12)


def test_mixture_has_mean_and_spread_of_the_expert_and_believes_a_far_network_less():
    rng = np.random.default_rng(0)
    expert, noise = rng.normal(size=(2, 400, 3))
    for factor, share in ((0.5, 1.0), (1.0, 1.0), (4.0, 1 / 16)):
        network = factor * (noise - noise.mean(0)) / noise.std(0) * expert.std(0)
        mixture = Mixture.fit(expert, network, np.ones(400), kind="labels")
        np.testing.assert_allclose(mixture.share, share)
        mixed = mixture(expert, network)
        np.testing.assert_allclose(mixed.mean(axis=0), expert.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(mixed.std(axis=0), expert.std(axis=0))


def test_expert_that_tells_nothing_leaves_the_networks_order():
    network = np.random.default_rng(0).normal(size=(50, 1)) * [-4, 4]
    silent = np.full((50, 2), [-0.3, 0.3])
    mixed = Mixture.fit(silent, network, np.ones(50), kind="classes")(silent, network)
    np.testing.assert_array_equal(np.argsort(mixed[:, 1]), np.argsort(network[:, 1]))
    assert np.diff(mixed).std() == pytest.approx(0.05 * np.diff(network).std())
    constant = Mixture.fit(silent, 0 * network, np.ones(50), kind="classes")(silent, 0 * network)
    np.testing.assert_allclose(constant, silent)


def test_few_rows_of_wide_blocks_are_calibrated_and_ranked_better_than_by_the_network():
    made = make_multimodal_cohort(
        1500, modalities=MODALITIES, n_features=300, noise=1.0, random_state=0
    )
    X, y = made.data, made.target.to_numpy()
    scores = {}
    for expert in ("auto", False):
        model = tgmm(max_epochs=40, d_model=16, expert=expert).fit(X[:150], y[:150])
        scores[expert] = model.predict_proba(X[150:])[:, 1]
    brier = {name: np.mean((p - y[150:]) ** 2) for name, p in scores.items()}
    assert brier["auto"] < y[150:].var() - 0.01
    assert brier["auto"] < brier[False] - 0.01
    slope = LogisticRegression(C=1e6).fit(logit(scores["auto"])[:, None], y[150:]).coef_[0, 0]
    assert 0.6 < slope < 1.6


def test_labels_and_three_classes_have_an_expert_and_sum_as_they_should():
    made = make_multimodal_cohort(150, n_classes=3, random_state=0)
    model = tgmm().fit(made.data, made.target)
    assert model.ridge_expert_.coef.shape[1] == 3
    np.testing.assert_allclose(model.predict_proba(made.data).sum(axis=1), 1)
    made = make_multimodal_cohort(150, task="multilabel", n_classes=3, random_state=0)
    model = tgmm().fit(made.data, made.target)
    assert model.ridge_expert_.weights.shape == (3, 3)
    assert model.predict_proba(made.data).shape == (150, 3)
