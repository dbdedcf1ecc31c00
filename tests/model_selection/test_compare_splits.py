"""compare on any splits, by any number of scorers, within folds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import KFold, RepeatedKFold, ShuffleSplit, TimeSeriesSplit

from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold, compare

OPTIONS = {"n_resamples": 20, "random_state": 0}


class Shifting(ClassifierMixin, BaseEstimator):
    """Orders the rows of each fold alike, but on a scale that depends on its training rows."""

    def fit(self, X, y):
        self.classes_, self.shift_ = np.unique(y), float(np.sum(X[:, 1])) % 7
        return self

    def decision_function(self, X):
        return X[:, 0] + 10 * self.shift_


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=100)
    return np.column_stack([y + rng.normal(size=100), rng.normal(size=100)]), y


@pytest.mark.parametrize("scoring", [None, "roc_auc"])
def test_auroc_counts_the_order_within_folds(rows, scoring):
    X, y = rows
    folds = list(KFold(5).split(X))
    found = compare([Shifting()], X, y, cv=folds, scoring=scoring, **OPTIONS)["score"].iloc[0]
    own = [roc_auc_score(y[test], X[test, 0]) for _, test in folds]
    pairs = [y[test].sum() * (1 - y[test]).sum() for _, test in folds]
    weights = pairs if scoring is None else None
    assert found == pytest.approx(np.average(own, weights=weights), abs=1e-12)


def test_labels_are_dealt_out_evenly_without_groups(rows):
    X, y = rows
    labels = np.column_stack([np.arange(100) < 20, y])
    from sklearn.multiclass import OneVsRestClassifier

    model = OneVsRestClassifier(LogisticRegression())
    options = {"return_predictions": True, **OPTIONS}
    folds = list(MultilabelStratifiedGroupKFold(5).split(X, labels.astype(int)))
    assert [labels[test, 0].sum() for _, test in folds] == [4] * 5
    table, answers = compare({"m": model}, X, labels.astype(int), cv=5, **options)
    same, expected = compare({"m": model}, X, labels.astype(int), cv=folds, **options)
    np.testing.assert_array_equal(answers["m"], expected["m"])
    pd.testing.assert_frame_equal(table, same)


def test_several_scorers_make_a_table_each(rows):
    X, y = rows
    models = [LogisticRegression()]
    table = compare(models, X, y, scoring=["roc_auc", "accuracy", "neg_log_loss"], **OPTIONS)
    assert table.index.names == ["metric", "model"]
    for name in ("roc_auc", "accuracy", "neg_log_loss"):
        alone = compare(models, X, y, scoring=name, **OPTIONS)
        pd.testing.assert_frame_equal(table.loc[name], alone)
    named = compare(models, X, y, scoring={"area": "roc_auc"}, **OPTIONS)
    assert named.index.tolist() == [("area", "LogisticRegression")]


@pytest.mark.parametrize(
    "pair",
    [
        (np.arange(70), np.arange(70, 100)),
        (list(range(70)), list(range(70, 100))),
        (np.arange(100) < 70, np.arange(100) >= 70),
    ],
)
def test_pair_of_rows_is_one_split(rows, pair):
    X, y = rows
    table, answers = compare(
        {"m": LogisticRegression()}, X, y, cv=pair, return_predictions=True, **OPTIONS
    )
    proba = LogisticRegression().fit(X[:70], y[:70]).predict_proba(X[70:])
    assert table["score"].iloc[0] == pytest.approx(roc_auc_score(y[70:], proba[:, 1]), abs=1e-12)
    np.testing.assert_array_equal(answers["m"][70:], proba)
    assert np.isnan(answers["m"][:70]).all()


@pytest.mark.parametrize(
    "cv", [TimeSeriesSplit(4), RepeatedKFold(n_splits=4, n_repeats=3, random_state=0)]
)
def test_rows_tested_in_time_order_or_repeatedly_are_scored_as_often(rows, cv):
    X, _ = rows
    y = X[:, 0] * 2 + np.random.default_rng(1).normal(size=100)
    found = compare({"m": LinearRegression()}, X, y, cv=cv, **OPTIONS).loc["m"]
    truth, answer = [], []
    for train, test in cv.split(X):
        truth.append(y[test])
        answer.append(LinearRegression().fit(X[train], y[train]).predict(X[test]))
    expected = r2_score(np.concatenate(truth), np.concatenate(answer))
    assert found["score"] == pytest.approx(expected, abs=1e-12)
    assert found["low"] < found["score"] < found["high"]


def test_repeats_of_a_row_are_one_patient(rows):
    X, y = rows
    folds = list(KFold(4).split(X))
    models = {"m": LogisticRegression()}
    options = {"scoring": "neg_log_loss", "n_resamples": 200, "random_state": 0}
    once = compare(models, X, y, cv=folds, **options)
    thrice = compare(models, X, y, cv=folds * 3, **options)
    pd.testing.assert_frame_equal(once, thrice)


def test_split_with_a_row_on_both_sides_is_refused(rows):
    X, y = rows
    with pytest.raises(DataError, match="split 0: 1 rows are in training and test set"):
        compare([LogisticRegression()], X, y, cv=[(np.arange(71), np.arange(70, 100))])
    with pytest.raises(ParameterError, match="positions from 0 to 99"):
        compare([LogisticRegression()], X, y, cv=[(np.arange(50), np.arange(50, 101))])


def test_table_without_any_defined_score_is_an_error(rows):
    X, y = rows
    y = np.sort(y)
    test = np.flatnonzero(y == 1)[-20:]
    train = np.setdiff1d(np.arange(100), test)
    with (
        pytest.warns(UndefinedMetricWarning),
        pytest.raises(DataError, match="no score of"),
    ):
        compare([LogisticRegression()], X, y, cv=(train, test), **OPTIONS)


def test_shuffled_splits_do_not_test_all_rows(rows):
    X, y = rows
    cv = ShuffleSplit(3, test_size=0.3, random_state=0)
    assert compare([LogisticRegression()], X, y, cv=cv, **OPTIONS)["score"].between(0.5, 1).all()
