"""Recall@k and LRAP: by hand, against scikit-learn, and their intervals."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

from medfusion_sdk.exceptions import DataError, MedFusionWarning, ParameterError
from medfusion_sdk.metrics import bootstrap_interval, lrap, paired_difference, recall_at_k


@pytest.fixture
def searched():
    """Relevance and scores of 40 queries among 25 items, with ties."""
    rng = np.random.default_rng(0)
    relevant = rng.random((40, 25)) < 0.15
    relevant[:, 0] |= ~relevant.any(axis=1)
    return relevant, (relevant + rng.normal(size=relevant.shape)).round(1)


# -- recall


def test_recall_counts_queries_whose_right_answer_is_among_the_best():
    own = np.eye(3)
    score = [[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]]
    assert [recall_at_k(own, score, k=k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])


def test_recall_without_ties_is_scikit_learns_top_k_accuracy():
    score = np.random.default_rng(0).normal(size=(30, 30)) + np.eye(30)
    for k in (1, 5, 10, 29):
        expected = top_k_accuracy_score(np.arange(30), score, k=k)
        assert recall_at_k(np.eye(30), score, k=k) == pytest.approx(expected)


def test_recall_with_ties_is_the_mean_over_all_orders_of_the_tied():
    relevant = np.array([True, False, True, False, False])
    score = np.array([0.5, 0.5, 0.5, 0.5, 0.9])
    for k in range(1, 6):
        hits = []
        for order in permutations(range(5)):
            ranked = sorted(order, key=lambda i: -score[i])  # stable: keeps the order of the tied
            hits.append(relevant[ranked[:k]].any())
        assert recall_at_k([relevant], [score], k=k) == pytest.approx(np.mean(hits))


def test_recall_among_as_many_as_the_gallery_has_is_one(searched):
    relevant, score = searched
    assert recall_at_k(relevant, score, k=25) == 1.0
    assert recall_at_k(relevant, np.zeros_like(score), k=1000) == 1.0
    assert recall_at_k(relevant, score, k=24) <= 1.0


def test_recall_grows_with_k(searched):
    values = [recall_at_k(*searched, k=k) for k in range(1, 26)]
    assert (np.diff(values) >= 0).all()
    assert values[0] < values[10]


def test_constant_scores_have_the_recall_of_chance():
    assert recall_at_k(np.eye(20), np.zeros((20, 20)), k=5) == pytest.approx(5 / 20)


# -- label ranking average precision


def test_lrap_by_hand():
    # Ranks of the relevant: 1 and 3, precisions 1/1 and 2/3; then rank 2 alone, 1/2.
    score = [[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]]
    assert lrap([[1, 0, 1], [0, 1, 0]], score) == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_lrap_equals_scikit_learn_with_ties_too(searched):
    relevant, score = searched
    expected = label_ranking_average_precision_score(relevant, score)
    assert lrap(relevant, score) == pytest.approx(expected, abs=1e-12)
    assert 0 < lrap(relevant, -score) < lrap(relevant, score) <= 1


def test_lrap_is_one_where_all_that_is_relevant_comes_first(searched):
    relevant, _ = searched
    assert lrap(relevant, relevant.astype(float)) == 1.0


# -- candidates


@pytest.mark.parametrize("metric", [lrap, partial(recall_at_k, k=3)])
def test_item_that_is_no_candidate_is_as_good_as_not_there(searched, metric):
    relevant, score = searched
    rng = np.random.default_rng(1)
    with_others = np.hstack([score, np.full((40, 5), np.nan)])
    order = rng.permutation(30)
    padded = np.hstack([relevant, rng.random((40, 5)) < 0.5])
    expected = metric(relevant, score)
    assert metric(padded[:, order], with_others[:, order]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", [lrap, recall_at_k])
def test_query_without_relevant_candidate_is_left_out_and_counted(searched, metric):
    relevant, score = searched
    without = relevant.copy()
    without[0] = False
    hidden = score.copy()
    hidden[1, relevant[1]] = np.nan
    with pytest.warns(UndefinedMetricWarning, match="2 of 40 queries") as caught:
        value = metric(without, hidden)
    assert caught[0].filename == __file__
    assert value == pytest.approx(metric(relevant[2:], score[2:]))
    with pytest.warns(UndefinedMetricWarning, match="40 of 40"):
        assert np.isnan(metric(np.zeros_like(relevant), score))


@pytest.mark.parametrize(
    ("relevant", "score", "k", "error", "message"),
    [
        ([[1, 0]], [[0.5, 0.1, 0.2]], 1, DataError, r"shape \(1, 2\) and y_score \(1, 3\)"),
        ([1, 0], [0.5, 0.1], 1, DataError, "one row per query"),
        ([[2, 0]], [[0.5, 0.1]], 1, DataError, "0 and 1"),
        ([[1, 0]], [[0.5, np.inf]], 1, DataError, "infinite"),
        ([[1, 0]], [[0.5, 0.1]], 0, ParameterError, "k=0"),
        ([[1, 0]], [[0.5, 0.1]], 2.0, ParameterError, r"k=2\.0"),
    ],
)
def test_impossible_input_is_refused(relevant, score, k, error, message):
    with pytest.raises(error, match=message):
        recall_at_k(relevant, score, k=k)


# -- intervals


@pytest.mark.parametrize("metric", [lrap, recall_at_k, partial(recall_at_k, k=2)])
def test_interval_equals_the_one_by_calling_the_metric_on_each_resample(searched, metric):
    relevant, score = searched
    relevant[3] = False  # undefined in every resample that draws it
    groups = np.repeat(np.arange(20), 2)
    options = {"groups": groups, "n_resamples": 50, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        fast = bootstrap_interval(metric, relevant, score, **options)
        plain = bootstrap_interval(lambda *drawn: metric(*drawn), relevant, score, **options)
    for field in ("estimate", "low", "high", "standard_error"):
        assert getattr(fast, field) == pytest.approx(getattr(plain, field), abs=1e-12)
    assert fast.low < fast.estimate < fast.high


def test_resamples_without_any_defined_query_are_left_out():
    relevant = np.zeros((6, 4), dtype=bool)
    relevant[0, 0] = True
    score = np.arange(24.0).reshape(6, 4)
    with (
        pytest.warns(UndefinedMetricWarning),
        pytest.warns(MedFusionWarning, match="of 400 resamples lack"),
    ):
        interval = bootstrap_interval(lrap, relevant, score, n_resamples=400, random_state=0)
    assert interval.n_resamples == pytest.approx(400 * (1 - (5 / 6) ** 6), abs=40)
    assert interval.low == interval.high == interval.estimate == 0.25


def test_better_ranking_is_better_beyond_chance(searched):
    relevant, score = searched
    worse = score + np.random.default_rng(1).normal(size=score.shape)
    difference = paired_difference(lrap, relevant, score, worse, random_state=0)
    assert difference.estimate == pytest.approx(lrap(relevant, score) - lrap(relevant, worse))
    assert difference.excludes(0)


def test_recall_of_one_in_every_query_has_the_exact_binomial_interval():
    relevant = np.eye(30, dtype=bool)
    found = bootstrap_interval(recall_at_k, relevant, relevant + 0.0, random_state=0)
    exact = binomtest(30, 30).proportion_ci(0.95)
    assert (found.estimate, found.low, found.high) == (1, exact.low, exact.high)
