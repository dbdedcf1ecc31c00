"""The k-shot curve: what is drawn, what is learnt from, what is compared."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold
from sklearn.preprocessing import FunctionTransformer

from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.inspection import FewShotDisplay
from medfusion_sdk.metrics import macro_auroc
from medfusion_sdk.model_selection import few_shot_table
from medfusion_sdk.model_selection._few_shot import _draw, _mean_of_draws

RNG = np.random.default_rng(0)
Y = np.repeat([0, 1, 2], 40)
X = np.eye(3)[Y] + RNG.normal(size=(120, 3))
NOISE = FunctionTransformer(lambda x: np.sin(1e3 * x))
SAME = FunctionTransformer()


def test_draws_k_rows_of_each_label_and_counts_those_that_have_several():
    positive = np.zeros((60, 3), dtype=bool)
    positive[:4, 0] = positive[:30, 1] = positive[25:, 2] = True
    drawn = _draw(positive, 6, np.random.default_rng(0))
    counts = positive[drawn].sum(axis=0)
    assert counts[0] == 4  # all that there are
    assert counts[1] == 6  # the four of them among these
    assert counts[2] >= 6
    assert len(np.unique(drawn)) == len(drawn) <= 12


def test_all_rows_give_the_score_of_plain_cross_validation():
    table = few_shot_table({"x": SAME}, X, Y, shots=(1000,), n_draws=1, random_state=0)
    scores, fold = np.zeros((120, 3)), np.zeros(120)
    for number, (train, test) in enumerate(StratifiedKFold(5).split(X, Y)):
        fold[test] = number
        mean, sd = X[train].mean(axis=0), X[train].std(axis=0)
        z = (X - mean) / sd / np.sqrt(3)
        for label in range(3):
            model = LogisticRegression(C=10).fit(z[train], Y[train] == label)
            scores[test, label] = model.predict_proba(z[test])[:, 1]
    expected = macro_auroc(np.eye(3, dtype=int)[Y], scores, strata=fold)
    assert table.loc[(1000, "x"), "score"] == pytest.approx(expected)


def test_more_labels_score_better_and_noise_is_beyond_the_interval():
    table = few_shot_table(
        {"noise": NOISE, "x": SAME}, X, Y, shots=(2, 20), n_draws=4, reference="noise",
        n_resamples=200, random_state=0,
    )  # fmt: skip
    assert table.loc[(2, "x"), "score"] < table.loc[(20, "x"), "score"]
    assert table.loc[(20, "x"), "difference_low"] > 0
    assert table.loc[(20, "noise"), "score"] == pytest.approx(0.5, abs=0.15)
    again = few_shot_table(
        {"x": SAME}, X, Y, shots=(2, 20), n_draws=4, n_resamples=200, random_state=0
    )
    columns = ["score", "low", "high"]
    pd.testing.assert_frame_equal(again[columns], table.xs("x", level=1, drop_level=False)[columns])


class Remembers(TransformerMixin, BaseEstimator):
    seen: list = []  # noqa: RUF012

    def fit(self, X, y=None):
        Remembers.seen.append((len(X), None if y is None else sorted(set(y))))
        return self

    def transform(self, X):
        return np.asarray(X)


def test_representation_learns_from_training_rows_and_coarse_labels_alone():
    Remembers.seen.clear()
    coarse = np.where(Y == 0, "a", "b")
    few_shot_table({"r": Remembers()}, X, Y, y_fit=coarse, shots=(2,), n_draws=1, cv=3)
    assert Remembers.seen == [(80, ["a", "b"])] * 3
    few_shot_table({"r": Remembers()}, X, Y, shots=(2,), n_draws=1, cv=3)
    assert Remembers.seen[3:] == [(80, None)] * 3


def test_missing_entries_of_an_embedding_are_the_mean():
    holes = X.copy()
    holes[::10] = np.nan
    table = few_shot_table({"x": SAME}, holes, Y, shots=(20,), n_draws=2, random_state=0)
    assert table["score"].between(0.6, 0.95).all()


def test_number_of_folds_keeps_groups_together_and_a_leak_is_refused():
    patients = np.arange(120) // 2
    seen = []

    class Looks(Remembers):
        def fit(self, X, y=None):
            seen.append(set(patients[np.asarray(X)[:, 0].astype(int)]))
            return self

    rows = np.column_stack([np.arange(120), X])
    few_shot_table({"r": Looks()}, rows, Y, shots=(2,), n_draws=1, cv=4, groups=patients)
    assert [len(group) for group in seen] == [45] * 4
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, Y))
    with pytest.raises(DataError, match="in training and test"):
        few_shot_table({"x": SAME}, X, Y, shots=(2,), cv=folds, groups=patients)


def test_draws_are_resampled_the_same_way_for_each_model():
    draws = [np.full(500, value) for value in (0.0, 1.0)]
    values = _mean_of_draws(draws, 0)
    assert set(values) == {0.0, 0.5, 1.0}
    assert values.std() == pytest.approx(0.5 / np.sqrt(2), abs=0.03)
    np.testing.assert_array_equal(values, 1 - _mean_of_draws(draws[::-1], 0))


def test_wrong_requests_are_refused():
    with pytest.raises(ParameterError, match="60 rows"):
        few_shot_table({"x": SAME}, X, Y, cv=ShuffleSplit(1, test_size=60, random_state=0))
    with pytest.raises(ParameterError, match="shots"):
        few_shot_table({"x": SAME}, X, Y, shots=(0, 5))
    with pytest.raises(ParameterError, match="reference"):
        few_shot_table({"x": SAME}, X, Y, reference="y")
    with pytest.raises(DataError, match=r"fold 0.*\[0\]"):
        few_shot_table({"x": SAME}, X, Y, cv=KFold(3))


def test_display_draws_a_line_per_representation():
    plt.switch_backend("agg")
    table = few_shot_table({"a": SAME, "b": NOISE}, X, Y, shots=(2, 5), n_draws=1, random_state=0)
    display = FewShotDisplay(table).plot()
    drawn = {line.get_label(): line.get_ydata() for line in display.ax_.lines}
    np.testing.assert_allclose(drawn["a"], table.xs("a", level="model")["score"])
    assert set(drawn) == {"a", "b"}
    plt.close("all")
