"""Macro AUROC against scikit-learn's, and where scikit-learn has none."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from medfusion_sdk.exceptions import DataError
from medfusion_sdk.metrics import macro_auroc, macro_auroc_scorer


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("decimals", [1, 12], ids=["with ties", "without ties"])
@pytest.mark.parametrize("n_labels", [1, 2, 5])
def test_multilabel_auroc_equals_scikit_learn(rng, n_labels, decimals):
    y = rng.integers(2, size=(200, n_labels))
    score = (y + rng.normal(size=y.shape)).round(decimals)
    weight = rng.random(200)
    assert macro_auroc(y, score) == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    assert macro_auroc(y, score, sample_weight=weight) == pytest.approx(
        roc_auc_score(y, score, sample_weight=weight), abs=1e-12
    )


def test_multiclass_auroc_equals_scikit_learn_one_versus_rest(rng):
    y = np.array(["cd", "mi", "norm"])[rng.integers(3, size=150)]
    score = rng.dirichlet(np.ones(3), size=150)
    expected = roc_auc_score(y, score, multi_class="ovr", average="macro")
    assert macro_auroc(y, score) == pytest.approx(expected, abs=1e-12)


def test_binary_auroc_takes_one_or_two_columns_and_names(rng):
    y = rng.integers(2, size=100)
    score = rng.random(100)
    expected = roc_auc_score(y, score)
    names = np.array(["no", "yes"])[y]
    for target in (y, y.astype(bool), names, y[:, None], pd.Series(y, index=range(5, 105))):
        for form in (score, score[:, None], np.column_stack([1 - score, score]), score.tolist()):
            assert macro_auroc(target, form) == pytest.approx(expected, abs=1e-12)


def test_label_without_both_outcomes_is_left_out_and_named(rng):
    y = pd.DataFrame(rng.integers(2, size=(50, 3)), columns=["MI", "CD", "HYP"]).assign(CD=0)
    score = rng.random((50, 3))
    with pytest.warns(UndefinedMetricWarning, match=r"left out of the mean: CD\.") as caught:
        value = macro_auroc(y, score)
    assert caught[0].filename == __file__
    assert value == pytest.approx(roc_auc_score(y[["MI", "HYP"]], score[:, [0, 2]]), abs=1e-12)


def test_auroc_without_any_defined_label_is_nan():
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(macro_auroc([0, 0, 0], [0.1, 0.2, 0.3]))


def test_class_missing_in_y_needs_labels(rng):
    y, score = np.array([0, 2] * 10), rng.random((20, 3))
    with pytest.raises(DataError, match="3 columns for 2 classes"):
        macro_auroc(y, score)
    with pytest.warns(UndefinedMetricWarning, match="left out of the mean: 1"):
        value = macro_auroc(y, score, labels=[0, 1, 2])
    expected = [roc_auc_score(y == label, score[:, label]) for label in (0, 2)]
    assert value == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("y", "score", "message"),
    [
        ([0, 1], [0.5, np.nan], "1 entries that aren't finite"),
        ([[0, 1], [1, 0]], [[0.5], [0.5]], "one score per row and label"),
        ([[0, 1], [1, 0]], np.zeros((2, 2, 2)), "stack their second columns"),
        ([[0, 2], [1, 0]], np.zeros((2, 2)), "0 and 1 only"),
    ],
)
def test_unusable_target_or_score_is_refused(y, score, message):
    with pytest.raises(DataError, match=message):
        macro_auroc(y, score)


def test_class_outside_labels_is_refused():
    with pytest.raises(DataError, match=r"labels lacks: \[3\]"):
        macro_auroc([0, 1, 3], [0.1, 0.2, 0.3], labels=[0, 1])


def test_scorer_equals_the_metric_on_forest_of_lists_and_on_decision_function():
    X, y = make_multilabel_classification(120, n_classes=3, random_state=0)
    forest = RandomForestClassifier(20, random_state=0).fit(X[:80], y[:80])
    stacked = np.column_stack([label[:, 1] for label in forest.predict_proba(X[80:])])
    assert macro_auroc_scorer(forest, X[80:], y[80:]) == macro_auroc(y[80:], stacked)
    X, y = make_classification(120, n_classes=3, n_informative=4, random_state=0)
    ridge = RidgeClassifier().fit(X[:80], y[:80])
    expected = macro_auroc(y[80:], ridge.decision_function(X[80:]))
    assert macro_auroc_scorer(ridge, X[80:], y[80:]) == expected


def test_scorer_scores_a_fold_that_lacks_a_class():
    X, y = make_classification(90, n_classes=3, n_informative=4, random_state=0)
    model = LogisticRegression(max_iter=500).fit(X, y)
    two = y != 1
    with pytest.warns(UndefinedMetricWarning, match="mean: 1"):
        assert 0.5 < macro_auroc_scorer(model, X[two], y[two]) <= 1


def test_scorer_serves_grid_search_and_cross_validation():
    X, y = make_classification(90, random_state=0)
    model = LogisticRegression()
    scores = cross_val_score(model, X, y, scoring=macro_auroc_scorer, cv=3)
    np.testing.assert_allclose(scores, cross_val_score(model, X, y, scoring="roc_auc", cv=3))
    search = GridSearchCV(model, {"C": [0.1, 1]}, scoring=macro_auroc_scorer, cv=3).fit(X, y)
    assert 0.5 < search.best_score_ <= 1


def test_auroc_leaves_its_inputs_alone(rng):
    y, score = rng.integers(2, size=(30, 2)), rng.random((30, 2))
    y.flags.writeable = score.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        macro_auroc(y, score)
