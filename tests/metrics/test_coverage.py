"""Coverage of predicted intervals, against the normal distribution itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.metrics import coverage_table


def test_true_deviations_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=20_000), rng.uniform(0.5, 3, size=20_000)
    table = coverage_table(rng.normal(mean, std), mean, std, n_resamples=50, random_state=0)
    np.testing.assert_allclose(table["coverage"], table.index, atol=0.012)
    assert ((table["low"] <= table["coverage"]) & (table["coverage"] <= table["high"])).all()


def test_half_the_deviation_covers_what_the_normal_distribution_says():
    y = np.random.default_rng(0).normal(size=20_000)
    table = coverage_table(y, np.zeros(20_000), np.full(20_000, 0.5), n_resamples=2)
    expected = 2 * norm.cdf(0.5 * norm.ppf((1 + table.index) / 2)) - 1
    np.testing.assert_allclose(table["coverage"], expected, atol=0.012)
    np.testing.assert_allclose(table["width"], norm.ppf((1 + table.index) / 2))


def test_intervals_are_those_of_hand():
    table = coverage_table([0.0, 1.0, 2.0, 30.0], [0.0] * 4, [1.0] * 4, levels=[0.6827, 0.9545])
    assert table["coverage"].to_list() == [0.5, 0.75]
    np.testing.assert_allclose(table["width"], [2.0, 4.0], atol=1e-3)


def test_several_targets_are_pooled():
    y = np.array([[0.0, 5.0], [0.0, 0.0]])
    table = coverage_table(y, np.zeros((2, 2)), np.ones((2, 2)), levels=[0.9])
    assert table["coverage"].to_list() == [0.75]


def test_rows_of_one_patient_are_drawn_together():
    y = np.repeat([0.0, 9.0], 50)
    options = {"levels": [0.9], "random_state": 0, "n_resamples": 200}
    single = coverage_table(y, np.zeros(100), np.ones(100), **options)
    patients = coverage_table(
        y, np.zeros(100), np.ones(100), groups=np.repeat([0, 1], 50), **options
    )
    assert (single["high"] - single["low"]).iloc[0] < 0.3
    assert (patients["high"] - patients["low"]).iloc[0] == 1.0


@pytest.mark.parametrize(
    ("arguments", "options", "error", "complaint"),
    [
        (([0.0], [0.0, 1.0], [1.0, 1.0]), {}, DataError, r"\(1,\), \(2,\)"),
        (([], [], []), {}, DataError, "one row at least"),
        (([0.0], [0.0], [-1.0]), {}, DataError, "below zero"),
        (([0.0], [0.0], [np.nan]), {}, DataError, "NaN"),
        (([0.0], [0.0], [1.0]), {"levels": [0.5, 95]}, ParameterError, "95"),
        (([0.0], [0.0], [1.0]), {"levels": []}, ParameterError, "between 0 and 1"),
    ],
)
def test_what_is_no_prediction_is_refused(arguments, options, error, complaint):
    with pytest.raises(error, match=complaint):
        coverage_table(*arguments, **options)


def test_full_and_no_coverage_have_exact_binomial_bounds_over_patients():
    y, patients = np.zeros(40), np.repeat(np.arange(20), 2)
    table = coverage_table(y, y, np.ones(40), levels=[0.5], groups=patients, random_state=0)
    exact = binomtest(20, 20).proportion_ci(0.95)
    assert table.loc[0.5, ["low", "high"]].to_list() == [exact.low, exact.high]
    table = coverage_table(y, y + 9, np.ones(40), levels=[0.5], random_state=0)
    exact = binomtest(0, 40).proportion_ci(0.95)
    assert table.loc[0.5, ["low", "high"]].to_list() == [exact.low, exact.high]
