"""Rows are independent of each other, and weights are counts of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.class_weight import compute_sample_weight

from medfusion_sdk.testing._cohorts import (
    SAME_PROBLEM,
    assert_same,
    cohort,
    fit,
    needs,
    needs_weights,
    probabilities,
)

__all__ = [
    "check_balanced_class_weight_is_sample_weight",
    "check_batch_size_at_predict_is_irrelevant",
    "check_integer_weights_are_repeated_rows",
    "check_one_row_equals_batch",
    "check_row_order_at_predict_is_irrelevant",
    "check_zero_weight_rows_are_removed_rows",
]


def check_one_row_equals_batch(estimator: Any) -> None:
    """A row predicted alone gets what it gets among others."""
    X, y = cohort()
    fitted = fit(estimator, X, y)
    alone = np.concatenate([probabilities(fitted, X.iloc[[i]]) for i in range(12)])
    assert_same(
        alone, probabilities(fitted, X)[:12], "a row alone differs from that row in a table"
    )


def check_batch_size_at_predict_is_irrelevant(estimator: Any) -> None:
    """A fitted model predicts the same with any ``batch_size``."""
    needs(estimator, parameter="batch_size")
    X, y = cohort()
    fitted = fit(estimator, X, y)
    expected = probabilities(fitted, X)
    for size in (1, 7, 1000):
        actual = probabilities(fitted.set_params(batch_size=size), X)
        assert_same(actual, expected, f"batch_size={size} changed predictions")


def check_row_order_at_predict_is_irrelevant(estimator: Any) -> None:
    """Shuffled rows get shuffled predictions."""
    X, y = cohort()
    fitted = fit(estimator, X, y)
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = probabilities(fitted, X.iloc[order])
    assert_same(shuffled, probabilities(fitted, X)[order], "predictions depend on the rows' order")


def check_zero_weight_rows_are_removed_rows(estimator: Any) -> None:
    """Rows of weight zero leave no trace, however wild: not even in a scaler."""
    needs_weights(estimator)
    X, y = cohort()
    wild, other = X.iloc[:10] * 1e3 + 50.0, 1 - y[:10]
    weight = np.repeat([1.0, 0.0], [len(X), 10])
    fitted = fit(estimator, pd.concat([X, wild]), np.concatenate([y, other]), weight)
    expected = probabilities(fit(estimator, X, y, np.ones(len(X))), X)
    assert_same(
        probabilities(fitted, X), expected, "rows of weight zero left a trace", SAME_PROBLEM
    )


def check_integer_weights_are_repeated_rows(estimator: Any) -> None:
    """A row of weight two counts as two rows."""
    needs_weights(estimator)
    X, y = cohort()
    counts = np.random.default_rng(0).integers(1, 4, len(X))
    weighted = fit(estimator, X, y, counts.astype(float))
    repeated = fit(estimator, X.loc[X.index.repeat(counts)], np.repeat(y, counts))
    assert_same(
        probabilities(weighted, X),
        probabilities(repeated, X),
        "a row of weight two isn't two rows",
        SAME_PROBLEM,
    )


def check_balanced_class_weight_is_sample_weight(estimator: Any) -> None:
    """``class_weight="balanced"`` is what scikit-learn's matching sample weights are."""
    needs(estimator, parameter="class_weight")
    needs_weights(estimator)
    X, y = cohort(prevalence=0.25)
    balanced = fit(estimator, X, y, class_weight="balanced")
    weighted = fit(estimator, X, y, compute_sample_weight("balanced", y), class_weight=None)
    assert_same(
        probabilities(balanced, X),
        probabilities(weighted, X),
        'class_weight="balanced" differs from the matching sample weights',
        SAME_PROBLEM,
    )
