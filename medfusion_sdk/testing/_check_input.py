"""Tables come in as users have them, and go back as they were."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

import joblib
import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from medfusion_sdk.testing._cohorts import (
    MODALITIES,
    SAME_PROBLEM,
    assert_same,
    block,
    cohort,
    fit,
    fit_in_place,
    labels,
    probabilities,
    seeded,
)

__all__ = [
    "check_block_order_is_irrelevant",
    "check_column_names_must_match",
    "check_float32_agrees_with_float64",
    "check_input_is_not_modified",
    "check_parameters_are_not_modified",
    "check_read_only_input_is_accepted",
]


def check_read_only_input_is_accepted(estimator: Any) -> None:
    """Memory-mapped data, which joblib hands to workers, can't be written to."""
    X, y = cohort()
    values = X.to_numpy().copy()
    for array in (values, y := y.copy()):
        array.flags.writeable = False
    frozen = pd.DataFrame(values, index=X.index, columns=X.columns, copy=False)
    expected = probabilities(fit(estimator, X, y), X)
    assert_same(probabilities(fit(estimator, frozen, y), frozen), expected, "read-only input")


def check_input_is_not_modified(estimator: Any) -> None:
    """Neither fit nor prediction writes into the caller's table or targets."""
    X, y = cohort()
    kept, kept_y = X.copy(deep=True), y.copy()
    fitted = fit(estimator, X, y)
    pd.testing.assert_frame_equal(X, kept, obj="X after fit")
    assert np.array_equal(y, kept_y), "fit changed y"
    probabilities(fitted, X)
    pd.testing.assert_frame_equal(X, kept, obj="X after predict_proba")


def check_parameters_are_not_modified(estimator: Any) -> None:
    """Fitting leaves the parameters, those of nested estimators too.

    Not asked of scikit-learn's pipelines, which fit their steps in place.
    """
    if isinstance(estimator, Pipeline):
        raise SkipTest("a Pipeline fits its steps in place")
    X, y = cohort()
    unfitted = seeded(estimator)
    before = joblib.hash(unfitted.get_params(deep=True))
    fit_in_place(unfitted, X, y)
    after = joblib.hash(unfitted.get_params(deep=True))
    assert before == after, "fit changed a parameter, or fitted a nested estimator in place"


def check_float32_agrees_with_float64(estimator: Any) -> None:
    """The same values in single and double precision give the same model."""
    X, y = cohort()
    single = X.astype(np.float32)
    fitted, expected = fit(estimator, single, y), fit(estimator, X, y)
    assert_same(
        probabilities(fitted, single), probabilities(expected, X), "float32 input", SAME_PROBLEM
    )
    assert_same(probabilities(expected, single), probabilities(expected, X), "float32 at predict")


def check_column_names_must_match(estimator: Any) -> None:
    """Other columns than in fit, or the same in another order, are a ``ValueError``."""
    X, y = cohort()
    fitted = fit(estimator, X, y)
    wrong = {
        "renamed": X.rename(columns={"labs__0000": "lab__0000"}),
        "reordered": X[X.columns[::-1]],
        "dropped": X.drop(columns=block(X, "labs")),
    }
    for what, table in wrong.items():
        try:
            probabilities(fitted, table)
        except ValueError:
            continue
        raise AssertionError(f"predict_proba took a table with {what} columns")


def check_block_order_is_irrelevant(estimator: Any) -> None:
    """Blocks are found by name: a table with its blocks in another order is the same table.

    With a parameter ``modalities`` the order of modalities is fixed through it, and predictions
    must agree. Without one, the same predictions must be found for most rows of an easy cohort.
    """
    X, y = cohort(
        private={"ecg": 0.0, "note": 0.0, "labs": 6.0}, shared=0.0, missing=0.0, noise=0.1
    )
    moved = X[[name for modality in reversed(MODALITIES) for name in block(X, modality)]]
    if "modalities" in estimator.get_params(deep=False):
        given = {"modalities": {modality: block(X, modality) for modality in MODALITIES}}
        assert_same(
            probabilities(fit(estimator, moved, y, **given), moved),
            probabilities(fit(estimator, X, y, **given), X),
            "the position of a block changed predictions",
            SAME_PROBLEM,
        )
    kept = labels(fit(estimator, X, y), X) == labels(fit(estimator, moved, y), moved)
    assert kept.mean() >= 0.8, f"blocks in another order changed {1 - kept.mean():.0%} of labels"
