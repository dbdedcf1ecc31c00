"""Tables whose labels say that their rows are in different orders are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from medfusion_sdk import SmallMultimodalClassifier, TGMMSurvival, make_windows
from medfusion_sdk._alignment import check_aligned, check_same_columns
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.inspection import KaplanMeierDisplay
from medfusion_sdk.metrics import (
    bootstrap_interval,
    concordance_index,
    macro_auroc,
    macro_auroc_scorer,
    score_table,
)
from medfusion_sdk.model_selection import (
    EventStratifiedKFold,
    MultilabelStratifiedGroupKFold,
    compare,
    few_shot_table,
)
from medfusion_sdk.survival import survival_target

PATIENTS = [f"p{number}" for number in range(60)]


def series(labels):
    return pd.Series(range(len(labels)), index=labels)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["a", "b", "c"], ["a", "b", "c"]),
        (["a", "b", "c"], pd.RangeIndex(3)),
        ([7, 3, 5], pd.RangeIndex(3)),
        ([2, 7, 1], pd.RangeIndex(3)),
        (["a", "b", "c"], ["x", "y", "z"]),
        ([1, 2, 3], ["1", "2", "3"]),
        ([1, 2, 3], [1.0, 2.0, 3.0]),
        (["a", "a", "b"], pd.CategoricalIndex(["a", "a", "b"])),
        (pd.MultiIndex.from_tuples([("a", 0), ("a", 9), ("b", 0)]), ["a", "a", "b"]),
        (["a", None, "b"], ["a", None, "b"]),
    ],
)
def test_labels_of_one_order_or_that_say_nothing_pass(first, second):
    check_aligned(X=series(first), y=series(second))
    check_aligned(X=series(second), y=series(first), groups=None, weight=np.ones(3))


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        (["a", "b", "c"], ["a", "c", "b"], 1),
        (pd.RangeIndex(3), [1, 0, 2], 0),
        (["a", "b", "c"], ["b", "c", "d"], 0),
        (["a", "a", "b"], ["a", "b", "a"], 1),
        (["a", "a", "b"], ["a", "b", "b"], 1),
        ([1, 2, 3], ["1", "3", "2"], 1),
        (pd.MultiIndex.from_tuples([("a", 0), ("a", 9), ("b", 0)]), ["a", "b", "a"], 1),
        (pd.date_range("2020", periods=3), pd.date_range("2020", periods=3)[::-1], 0),
    ],
)
def test_labels_of_another_order_are_refused_with_the_first_row_that_differs(first, second, place):
    for one, other in ((first, second), (second, first)):
        with pytest.raises(DataError, match=f"labels.* than X: row {place} is"):
            check_aligned(X=series(one), y=series(other))


def test_columns_of_another_order_are_refused():
    y = pd.DataFrame({"a": [0, 1], "b": [1, 0]})
    with pytest.raises(DataError, match="bring them into one order"):
        check_same_columns(y_true=y, y_score=y[["b", "a"]])
    with pytest.raises(DataError, match="bring them into one order"):
        macro_auroc(y, y[["b", "a"]])
    assert macro_auroc(y, y) == 1.0


@pytest.fixture
def cohort():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a__x": rng.normal(size=60), "b__x": rng.normal(size=60)}, index=PATIENTS)
    return X, (X["a__x"] > 0).astype(int)


def shuffled(table):
    return table.sample(frac=1, random_state=0)


def outcome(X):
    return pd.DataFrame({"event": np.arange(60) % 2, "time": np.arange(60) + 1.0}, index=X.index)


CALLS = {
    "compare": lambda X, y: compare([LogisticRegression()], X, shuffled(y), cv=2),
    "compare's groups": lambda X, y: compare(
        [LogisticRegression()], X.to_numpy(), y, groups=shuffled(y), cv=2
    ),
    "few_shot_table": lambda X, y: few_shot_table({"X": LogisticRegression()}, X, shuffled(y)),
    "fit": lambda X, y: SmallMultimodalClassifier(max_epochs=1).fit(X, shuffled(y)),
    "fit's weights": lambda X, y: SmallMultimodalClassifier(max_epochs=1).fit(
        X, y, sample_weight=shuffled(y) + 1.0
    ),
    "survival fit": lambda X, y: TGMMSurvival(max_epochs=1).fit(X, shuffled(outcome(X))),
    "macro_auroc": lambda X, y: macro_auroc(y, shuffled(X["a__x"])),
    "scorer": lambda X, y: macro_auroc_scorer(LogisticRegression().fit(X, y), X, shuffled(y)),
    "interval": lambda X, y: bootstrap_interval(macro_auroc, y, X["a__x"], groups=shuffled(y)),
    "table": lambda X, y: score_table(y, {"a": shuffled(X["a__x"])}),
    "concordance": lambda X, y: concordance_index(outcome(X), shuffled(X["a__x"])),
    "survival_target": lambda X, y: survival_target(y, shuffled(X["a__x"].abs())),
    "Kaplan-Meier": lambda X, y: KaplanMeierDisplay.from_predictions(
        outcome(X), shuffled(X["a__x"])
    ),
    "folds": lambda X, y: list(
        MultilabelStratifiedGroupKFold(2).split(X, y, shuffled(pd.Series(PATIENTS, X.index)))
    ),
    "event folds": lambda X, y: list(EventStratifiedKFold(2).split(X, shuffled(outcome(X)))),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_way_in_refuses_rows_in_another_order(call, cohort):
    with pytest.raises(DataError, match="the same labels in another order"):
        CALLS[call](*cohort)


def test_targets_of_windows_by_the_labels_of_their_rows_pass():
    table = pd.DataFrame({"ecg": [np.zeros((2, 9)), np.zeros((2, 6))]}, index=["a", "b"])
    windows, groups = make_windows(table, window=3, stride=3)
    y = pd.Series({"b": 1, "a": 0}).loc[groups]
    check_aligned(X=windows, y=y, groups=groups)
    with pytest.raises(DataError, match="another order"):
        check_aligned(X=windows, y=y[::-1])
