"""Models on the same folds: what their scores must equal, and what is refused."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    make_scorer,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB

from medfusion_sdk import TGMMClassifier, TGMMSurvival
from medfusion_sdk.datasets import load_heart_failure, make_multimodal_cohort
from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.metrics import (
    SurvivalScorer,
    bootstrap_interval,
    concordance_index,
    macro_auroc,
    paired_difference,
    score_table,
)
from medfusion_sdk.model_selection import compare, modality_baselines

QUICK = {"n_resamples": 30, "random_state": 0}


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def cohort():
    made = make_multimodal_cohort(
        90, n_groups=60, task="multilabel", n_classes=2, n_features=6, random_state=0
    )
    return made.data.astype(np.float64), made.target, made.groups


def within(folds, n_rows):
    """Macro AUROC of pairs of one fold, by its rows' places; a metric of y and (scores, fold)."""
    fold = np.empty(n_rows, dtype=int)
    for number, (_, test) in enumerate(folds):
        fold[test] = number

    def metric(y, score_and_fold):
        return macro_auroc(y, score_and_fold[:, :-1], strata=score_and_fold[:, -1])

    return fold, metric


def out_of_fold(model, X, y, cv, method="predict_proba", groups=None):
    return cross_val_predict(model, X, y, cv=cv, groups=groups, method=method)


# -- classes


def test_table_is_the_score_table_of_out_of_fold_probabilities(iris):
    models = {"prior": DummyClassifier(), "Bayes": GaussianNB()}
    cv = StratifiedKFold(4)
    table, predictions = compare(
        models, *iris, cv=cv, reference="prior", return_predictions=True, **QUICK
    )
    expected = {name: out_of_fold(model, *iris, cv) for name, model in models.items()}
    for name in models:
        np.testing.assert_array_equal(predictions[name], expected[name])
    fold, metric = within(cv.split(*iris), 150)
    scores = {name: np.column_stack([proba, fold]) for name, proba in expected.items()}
    pd.testing.assert_frame_equal(
        table, score_table(iris[1], scores, reference="prior", metric=metric, **QUICK)
    )


def test_multilabel_and_patients_go_the_same_way(cohort):
    X, y, groups = cohort
    model = OneVsRestClassifier(LogisticRegression())
    cv = GroupKFold(3)
    table = compare({"logistic": model}, X, y, cv=cv, groups=groups, **QUICK)
    proba = out_of_fold(model, X, y, cv, groups=groups)
    fold, metric = within(cv.split(X, y, groups), len(y))
    scores = np.column_stack([proba, fold])
    interval = bootstrap_interval(metric, np.asarray(y), scores, groups=groups, **QUICK)
    expected = [interval.estimate, interval.low, interval.high]
    np.testing.assert_allclose(table.loc["logistic"], expected, atol=1e-12)


def test_forests_lists_of_probabilities_become_one_column_per_label(cohort):
    X, y, _ = cohort
    forest = RandomForestClassifier(5, random_state=0)
    _, predictions = compare({"forest": forest}, X, y, return_predictions=True, **QUICK)
    assert predictions["forest"].shape == y.shape


@pytest.mark.parametrize(
    ("scoring", "method", "metric"),
    [
        ("accuracy", "predict", accuracy_score),
        ("neg_log_loss", "predict_proba", lambda y, p: -log_loss(y, p, labels=[0, 1, 2])),
    ],
    ids=["accuracy", "log loss"],
)
def test_any_scorer_scores_the_answers_of_all_folds_together(iris, scoring, method, metric):
    model = GaussianNB()
    cv = StratifiedKFold(5)
    table = compare({"Bayes": model}, *iris, scoring=scoring, cv=cv, **QUICK)
    answers = out_of_fold(model, *iris, cv, method)
    interval = bootstrap_interval(metric, iris[1], answers, **QUICK)
    np.testing.assert_allclose(
        table.loc["Bayes"], [interval.estimate, interval.low, interval.high], atol=1e-12
    )


def test_order_of_scikit_learns_scorers_is_scored_fold_by_fold(iris):
    scoring = make_scorer(roc_auc_score, response_method="predict_proba", multi_class="ovo")
    cv = StratifiedKFold(5)
    table = compare({"Bayes": GaussianNB()}, *iris, scoring=scoring, cv=cv, **QUICK)
    proba = out_of_fold(GaussianNB(), *iris, cv)
    own = [
        roc_auc_score(iris[1][test], proba[test], multi_class="ovo") for _, test in cv.split(*iris)
    ]
    assert table.loc["Bayes", "score"] == pytest.approx(np.mean(own), abs=1e-12)


def test_default_folds_are_the_same_for_all_models_and_stratified(iris):
    X, y = iris
    table = compare({"one": GaussianNB(), "again": GaussianNB()}, X, y, reference="one", **QUICK)
    assert table.loc["again", "difference"] == 0
    assert table.loc["again", ["difference_low", "difference_high"]].tolist() == [0, 0]


def test_sequence_of_estimators_is_named_by_class(iris):
    table = compare([DummyClassifier(), GaussianNB()], *iris, **QUICK)
    assert table.index.to_list() == ["DummyClassifier", "GaussianNB"]
    assert table.index.name == "model"
    with pytest.raises(ParameterError, match="two of the estimators are called GaussianNB"):
        compare([GaussianNB(), GaussianNB()], *iris)


def test_estimators_are_cloned_and_processes_change_nothing(iris):
    model = GaussianNB()
    alone = compare({"Bayes": model}, *iris, **QUICK)
    assert not hasattr(model, "classes_")
    pd.testing.assert_frame_equal(compare({"Bayes": model}, *iris, n_jobs=2, **QUICK), alone)


# -- late votes


def test_late_vote_is_the_mean_of_logits(cohort):
    X, y, _ = cohort
    models = {
        name: OneVsRestClassifier(LogisticRegression(C=C)) for name, C in (("a", 0.1), ("b", 10))
    }
    _, p = compare(models | {"vote": ["a", "b"]}, X, y, return_predictions=True, **QUICK)
    clipped = [logit(np.clip(p[name], 1e-6, 1 - 1e-6)) for name in "ab"]
    np.testing.assert_allclose(p["vote"], expit(np.mean(clipped, axis=0)))


def test_late_vote_on_classes_stays_a_distribution(iris):
    models = {"a": GaussianNB(), "b": DummyClassifier(), "vote": ("a", "b")}
    _, p = compare(models, *iris, return_predictions=True, **QUICK)
    np.testing.assert_allclose(p["vote"].sum(axis=1), 1)


def test_late_vote_on_numbers_is_their_mean():
    X, y = load_diabetes(return_X_y=True)
    models = {"ridge": Ridge(), "line": LinearRegression(), "vote": ["ridge", "line"]}
    _, p = compare(models, X, y, return_predictions=True, **QUICK)
    np.testing.assert_allclose(p["vote"], (p["ridge"] + p["line"]) / 2)


def test_late_vote_of_class_names_is_refused(iris):
    models = {"a": GaussianNB(), "b": DummyClassifier(), "vote": ["a", "b"]}
    with pytest.raises(ParameterError, match="scorer of probabilities"):
        compare(models, *iris, scoring="accuracy", **QUICK)


# -- numbers and survival


def test_numbers_are_scored_by_r2_or_as_asked():
    X, y = load_diabetes(return_X_y=True)
    values = out_of_fold(Ridge(), X, y, KFold(5), "predict")
    assert compare([Ridge()], X, y, **QUICK)["score"].item() == r2_score(y, values)
    absolute = compare([Ridge()], X, y, scoring="neg_mean_absolute_error", **QUICK)
    assert absolute["score"].item() == pytest.approx(-mean_absolute_error(y, values))


class ByAge(BaseEstimator):
    """Risk by a column alone, on another scale in each fold."""

    def fit(self, X, y):
        self.scale_ = float(len(X)) ** 6
        return self

    def predict(self, X):
        return X["age"].to_numpy() * self.scale_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "survival"
        return tags


def test_concordance_compares_risks_within_folds():
    X, y = load_heart_failure(return_X_y=True)
    # Folds of different size: scales that would drown age, were risks compared across folds.
    edges = np.array([0, 60, 140, 299])
    cv = [
        (np.setdiff1d(np.arange(299), test), test)
        for test in (np.arange(a, b) for a, b in pairwise(edges))
    ]
    fold = np.searchsorted(edges, np.arange(299), side="right")
    table = compare({"age": ByAge()}, X, y, cv=cv, **QUICK)
    assert table["score"].item() == concordance_index(y, X["age"], strata=fold)


def test_survival_estimators_and_scorers_compare():
    X, y = load_heart_failure(return_X_y=True)
    models = {"age": ByAge(), "TGMM": TGMMSurvival(max_epochs=2, random_state=0)}
    table = compare(models, X, y, cv=3, reference="age", **QUICK)
    assert table["score"].between(0.4, 1).all()
    curves = compare(
        {"TGMM": models["TGMM"]}, X, y, cv=3, scoring=SurvivalScorer("neg_brier"), **QUICK
    )
    assert -0.3 < curves["score"].item() < 0
    assert curves["low"].item() < curves["high"].item()


# -- ours among baselines


def test_baselines_of_a_block_table_read_their_modalities(cohort):
    X, y, groups = cohort
    models = modality_baselines(["ecg", "note"])
    assert list(models) == [
        "ecg alone",
        "note alone",
        "late vote",
        "concatenation",
        "gradient boosting",
    ]
    alone = models["ecg alone"].fit(X, y)
    changed = X.copy()
    changed[[name for name in X if not name.startswith("ecg__")]] = np.nan
    np.testing.assert_array_equal(alone.predict_proba(changed), alone.predict_proba(X))
    models["TGMM"] = TGMMClassifier(max_epochs=2, d_model=8, random_state=0)
    table = compare(models, X, y, cv=3, groups=groups, reference="concatenation", **QUICK)
    assert table["difference"].notna().sum() == 5


def test_baselines_bear_a_column_that_no_training_row_has(cohort):
    X, y, _ = cohort
    X = X.assign(ecg__never=np.nan)
    for model in modality_baselines(["ecg", "note"]).values():
        if not isinstance(model, list):
            assert np.isfinite(clone(model).fit(X, y).predict_proba(X)).all()


def test_baselines_take_other_estimators_and_need_a_modality(cohort):
    models = modality_baselines(["ecg"], linear=GaussianNB(), boosted=DummyClassifier())
    assert list(models) == ["ecg alone", "gradient boosting"]
    assert isinstance(models["ecg alone"][-1], GaussianNB)
    with pytest.raises(ValueError, match="no modality"):
        modality_baselines([])


# -- what is refused


class SkipsClass(ClassifierMixin, BaseEstimator):
    """Learns the classes of its training rows only."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


def test_fold_that_lacks_a_class_is_named(iris):
    # scikit-learn's own cross_val_predict fills in zeros.
    with pytest.raises(DataError, match="skips: not every fold"):
        compare({"skips": SkipsClass()}, *iris, cv=KFold(3), scoring=_by_probability, **QUICK)


def _by_probability(estimator, X, y):
    return float(estimator.predict_proba(X)[:, 0].mean())


def test_scorer_that_asks_for_nothing_is_refused(iris):
    with pytest.raises(ParameterError, match="asked the estimator for nothing"):
        compare([GaussianNB()], *iris, scoring=lambda estimator, X, y: 1.0, **QUICK)


def test_patient_on_both_sides_is_refused(iris):
    cv = list(KFold(5, shuffle=True, random_state=0).split(iris[0]))
    with pytest.raises(DataError, match="training and test set"):
        compare([GaussianNB()], *iris, groups=np.arange(150) // 2, cv=cv)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ({"a": GaussianNB()}, {"reference": "b"}, "reference='b'"),
        ({"a": GaussianNB(), "v": ["a", "b"]}, {}, "no estimators are"),
        ({"a": GaussianNB(), "v": ["a"], "w": ["v"]}, {}, "no estimators are"),
        ({"a": GaussianNB(), "v": []}, {}, "late vote"),
        ({"v": ["a"]}, {}, "no estimator to compare"),
        ({}, {}, "no estimator to compare"),
        ({"a": GaussianNB()}, {"cv": []}, "gives no split"),
    ],
)
def test_impossible_comparison_is_refused(iris, models, options, message):
    with pytest.raises(ParameterError, match=message):
        compare(models, *iris, **options)


def test_paired_difference_is_the_tables(iris):
    models = {"prior": DummyClassifier(), "Bayes": GaussianNB()}
    table, p = compare(models, *iris, reference="prior", return_predictions=True, **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fold, metric = within(StratifiedKFold(5).split(*iris), 150)
        scores = [np.column_stack([p[name], fold]) for name in ("Bayes", "prior")]
        expected = paired_difference(metric, iris[1], *scores, **QUICK)
    assert table.loc["Bayes", "difference_low"] == pytest.approx(expected.low, abs=1e-12)
