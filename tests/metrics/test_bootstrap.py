"""Bootstrap over patients: what it must equal, and what it must notice."""

from __future__ import annotations

import time
from dataclasses import FrozenInstanceError
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    roc_auc_score,
)

from medfusion_sdk.exceptions import DataError, MedFusionWarning, ParameterError
from medfusion_sdk.metrics import (
    Interval,
    bootstrap_interval,
    macro_auroc,
    paired_difference,
    score_table,
)


def by_scikit_learn(y_true, y_score):
    return roc_auc_score(y_true, y_score)


@pytest.fixture
def scored():
    """Two labels, two models of which the second is worse, patients of one or two rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=(150, 2))
    hard = rng.normal(size=y.shape)
    scores = {"good": y + hard, "worse": y + hard + rng.normal(size=y.shape)}
    return y, scores, rng.integers(120, size=150)


# -- the fast way equals the plain one


def test_interval_of_macro_auroc_equals_the_one_by_scikit_learn_on_drawn_rows(scored):
    y, scores, groups = scored
    options = {"groups": groups, "n_resamples": 60, "random_state": 3}
    fast = bootstrap_interval(macro_auroc, y, scores["good"], **options)
    plain = bootstrap_interval(by_scikit_learn, y, scores["good"], **options)
    for field in ("estimate", "low", "high", "standard_error"):
        assert getattr(fast, field) == pytest.approx(getattr(plain, field), abs=1e-12)


def test_interval_does_not_depend_on_how_many_resamples_are_held_at_once(scored, monkeypatch):
    y, scores, groups = scored
    whole = bootstrap_interval(macro_auroc, y, scores["good"], groups=groups, random_state=0)
    monkeypatch.setattr("medfusion_sdk.metrics._resampling._CHUNK", 1000)
    assert whole == bootstrap_interval(
        macro_auroc, y, scores["good"], groups=groups, random_state=0
    )


def test_table_of_eight_models_and_thousand_resamples_takes_seconds():
    rng = np.random.default_rng(0)
    y = (rng.random((353, 5)) < 0.3).astype(int)
    scores = {f"model {number}": y + rng.normal(size=y.shape) for number in range(8)}
    start = time.process_time()
    score_table(y, scores, reference="model 0", random_state=0)
    # 0.4 s where this was written; a call of the metric per resample and model takes a minute.
    assert time.process_time() - start < 6


# -- patients


def test_rows_repeated_within_a_patient_leave_the_interval_as_it_was(scored):
    y, scores, _ = scored
    once = bootstrap_interval(macro_auroc, y, scores["good"], random_state=0)
    patient = np.tile(np.arange(150), 3)
    thrice = (np.tile(y, (3, 1)), np.tile(scores["good"], (3, 1)))
    grouped = bootstrap_interval(macro_auroc, *thrice, groups=patient, random_state=0)
    for field in ("estimate", "low", "high", "standard_error"):
        assert getattr(grouped, field) == pytest.approx(getattr(once, field), abs=1e-12)
    # Three copies of a row aren't three patients.
    by_row = bootstrap_interval(macro_auroc, *thrice, random_state=0)
    assert by_row.standard_error < 0.7 * grouped.standard_error


def test_standard_error_agrees_with_theory_for_normal_scores():
    # Hanley and McNeil (1982), with the exact Q1 and Q2 of two normal distributions.
    rng = np.random.default_rng(1)
    n = 400
    y = np.repeat([0, 1], n)
    result = bootstrap_interval(macro_auroc, y, y + rng.normal(size=2 * n), random_state=0)
    area = norm.cdf(1 / np.sqrt(2))
    draws = norm.rvs(size=200_000, random_state=2)
    q1 = np.mean(norm.cdf(draws + 1) ** 2)
    variance = (area * (1 - area) + 2 * (n - 1) * (q1 - area**2)) / n**2
    assert result.standard_error == pytest.approx(np.sqrt(variance), rel=0.1)


def test_interval_covers_the_true_value_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = norm.cdf(1 / np.sqrt(2))
    covered = []
    for _ in range(200):
        y = np.repeat([0, 1], 60)
        score = y + rng.normal(size=120)
        interval = bootstrap_interval(
            macro_auroc, y, score, n_resamples=200, confidence_level=0.9, random_state=rng
        )
        covered.append(not interval.excludes(truth))
    # Binomial standard error 0.02.
    assert 0.83 < np.mean(covered) < 0.96


# -- differences


def test_paired_difference_is_known_better_than_two_separate_intervals_say(scored):
    y, scores, groups = scored
    options = {"groups": groups, "random_state": 0}
    difference = paired_difference(macro_auroc, y, scores["good"], scores["worse"], **options)
    good, worse = (bootstrap_interval(macro_auroc, y, scores[m], **options) for m in scores)
    assert difference.estimate == pytest.approx(good.estimate - worse.estimate, abs=1e-12)
    assert difference.standard_error < np.hypot(good.standard_error, worse.standard_error) * 0.8
    assert difference.excludes(0)


def test_difference_of_a_model_to_itself_is_nothing(scored):
    y, scores, _ = scored
    same = paired_difference(macro_auroc, y, scores["good"], 5 * scores["good"] + 1)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    assert not same.excludes(0)


def test_table_holds_what_the_single_functions_give(scored):
    y, scores, groups = scored
    options = {"groups": groups, "random_state": 0, "confidence_level": 0.9}
    table = score_table(y, scores, reference="good", **options)
    interval = bootstrap_interval(macro_auroc, y, scores["worse"], **options)
    difference = paired_difference(macro_auroc, y, scores["worse"], scores["good"], **options)
    assert table.loc["worse"].to_list() == [
        *(interval.estimate, interval.low, interval.high),
        *(difference.estimate, difference.low, difference.high),
    ]
    assert table.loc["good"].isna().to_list() == [False] * 3 + [True] * 3
    assert table.index.to_list() == ["good", "worse"]


def test_table_without_reference_has_scores_only(scored):
    y, scores, _ = scored
    table = score_table(y, scores, random_state=0)
    assert table.columns.to_list() == ["score", "low", "high"]


def test_reference_that_is_no_model_is_refused(scored):
    y, scores, _ = scored
    with pytest.raises(ParameterError, match="reference='best'"):
        score_table(y, scores, reference="best")


# -- other metrics, odd data


def test_any_metric_gets_frames_of_the_drawn_rows(scored):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"event": rng.random(80) < 0.5, "time": rng.random(80)})
    seen = []

    def mean_time(y_true, y_score):
        assert y_true.index.equals(y_score.index)
        seen.append(len(y_true))
        return float(y_true.loc[y_true["event"], "time"].mean())

    groups = np.repeat(np.arange(40), 2)
    result = bootstrap_interval(mean_time, frame, frame["time"], groups=groups, n_resamples=30)
    assert result.low < result.estimate < result.high
    # Once for the estimate, once to see what all rows say, then on each resample.
    assert seen == [80] * 32


def test_resample_without_both_outcomes_is_left_out_and_counted():
    y = np.array([1] + [0] * 9)
    score = np.linspace(0, 1, 10)
    options = {"n_resamples": 300, "random_state": 0}
    with pytest.warns(MedFusionWarning, match="of 300 resamples lack what the score needs"):
        fast = bootstrap_interval(macro_auroc, y, score, **options)
    # (9/10)^10 of the resamples lack the only positive.
    assert fast.n_resamples == pytest.approx(300 * (1 - 0.9**10), abs=30)
    with pytest.warns(MedFusionWarning, match="don't count"):
        plain = bootstrap_interval(by_scikit_learn, y, score, **options)
    assert plain.n_resamples == fast.n_resamples
    assert plain.low == pytest.approx(fast.low, abs=1e-12)


@pytest.fixture
def rare():
    """A common label told well, and one of a single patient in hundred told badly."""
    rng = np.random.default_rng(0)
    common, single = rng.integers(2, size=100), np.zeros(100, dtype=int)
    single[7] = 1
    score = np.column_stack([common + 0.4 * rng.normal(size=100), np.linspace(0, 1, 100)])
    score[7, 1] = 0.25
    return np.column_stack([common, single]), score


def test_resamples_that_lack_a_label_do_not_score_the_others_in_its_place(rare):
    y, score = rare
    with pytest.warns(MedFusionWarning, match="of 1000 resamples lack"):
        found = bootstrap_interval(macro_auroc, y, score, random_state=0)
    rng, values = np.random.default_rng(1), []
    while len(values) < 1000:
        rows = rng.integers(100, size=100)
        if y[rows, 1].any():
            values.append(roc_auc_score(y[rows], score[rows]))
    assert found.n_resamples == pytest.approx(1000 * (1 - 0.99**100), abs=50)
    np.testing.assert_allclose(
        [found.low, found.high], np.quantile(values, [0.025, 0.975]), atol=0.02
    )
    assert found.high <= max(values) + 0.01


@pytest.mark.parametrize(
    "metric", [balanced_accuracy_score, partial(f1_score, average="macro"), log_loss]
)
def test_resamples_that_lack_a_class_do_not_count_for_any_metric_that_needs_it(metric):
    y = np.r_[np.zeros(50, int), np.ones(50, int), 2]
    answer = np.r_[np.zeros(40, int), np.ones(61, int)]
    if metric is log_loss:
        answer = np.eye(3)[answer] * 0.8 + 0.2 / 3
    with pytest.warns(MedFusionWarning, match="don't count"):
        found = bootstrap_interval(metric, y, answer, n_resamples=300, random_state=0)
    assert found.n_resamples == pytest.approx(300 * (1 - (1 - 1 / 101) ** 101), abs=30)


def test_metric_that_is_not_defined_on_all_rows_counts_every_resample():
    y, never = np.r_[np.zeros(60, int), np.ones(40, int)], np.zeros(100, int)
    with pytest.warns(UndefinedMetricWarning):
        found = bootstrap_interval(precision_score, y, never, n_resamples=50, random_state=0)
    assert (found.n_resamples, found.estimate, found.high) == (50, 0, 0)


def test_ordinary_outcomes_draw_no_warning(recwarn):
    y = np.r_[np.zeros(95, int), np.ones(5, int)]
    found = bootstrap_interval(macro_auroc, y, np.arange(100.0), random_state=0)
    assert found.n_resamples < 1000
    assert not recwarn.list


def test_table_in_which_no_score_is_defined_is_an_error():
    with (
        pytest.warns(UndefinedMetricWarning),
        pytest.raises(DataError, match="no score of \\['a'\\] is defined"),
    ):
        score_table(np.zeros(9, int), {"a": np.arange(9.0)}, random_state=0)


def test_macro_auroc_within_strata_compares_no_pair_across():
    rng = np.random.default_rng(0)
    y, fold = rng.integers(2, size=90), np.repeat([0, 1, 2], 30)
    score = y + rng.normal(size=90)
    won = compared = 0.0
    for i in np.flatnonzero(y == 1):
        for j in np.flatnonzero((y == 0) & (fold == fold[i])):
            won += score[i] > score[j]
            compared += 1
    assert macro_auroc(y, score, strata=fold) == pytest.approx(won / compared, abs=1e-12)
    shifted = score + 10 * fold
    assert macro_auroc(y, shifted, strata=fold) == macro_auroc(y, score, strata=fold)


def test_average_precision_serves_as_a_metric(scored):
    y, scores, _ = scored
    table = score_table(y, scores, metric=average_precision_score, n_resamples=50, random_state=0)
    assert table.loc["good", "score"] == average_precision_score(y, scores["good"])
    assert (table["low"] < table["high"]).all()


def test_interval_prints_and_tabulates():
    first = Interval(0.9, 0.8, 0.95, 0.03, confidence_level=0.95, n_resamples=1000)
    assert str(first) == "0.900 [0.800, 0.950]"
    assert pd.DataFrame([first, first])["low"].to_list() == [0.8, 0.8]
    assert [value for value in (0.79, 0.8, 0.95, 0.96) if first.excludes(value)] == [0.79, 0.96]
    with pytest.raises(FrozenInstanceError):
        first.low = 0.0


def test_same_seed_gives_the_same_interval_and_global_state_is_untouched(scored):
    y, scores, _ = scored
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = (
        bootstrap_interval(macro_auroc, y, scores["good"], random_state=seed) for seed in (0, 0, 1)
    )
    assert first == second
    assert first.low != other.low
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"confidence_level": 95}, ParameterError, "confidence_level=95"),
        ({"n_resamples": 1}, ParameterError, "n_resamples=1"),
        ({"groups": [1, 2]}, DataError, "groups has 2 entries for 150 rows"),
        ({"groups": [None] + [1] * 149}, DataError, "missing in 1 rows"),
    ],
)
def test_impossible_options_are_refused(scored, options, error, message):
    y, scores, _ = scored
    with pytest.raises(error, match=message):
        bootstrap_interval(macro_auroc, y, scores["good"], **options)
