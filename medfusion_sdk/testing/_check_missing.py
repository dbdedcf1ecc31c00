"""What a missing modality may and may not do."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from medfusion_sdk.testing._cohorts import (
    MODALITIES,
    SAME_PROBLEM,
    assert_same,
    block,
    cohort,
    fit,
    probabilities,
)

__all__ = [
    "check_absent_block_ignores_its_zero_point",
    "check_absent_block_ignores_other_rows",
    "check_missing_markers_agree",
    "check_modality_absent_at_predict",
    "check_modality_missing_in_training_is_told",
    "check_row_without_modality_raises",
    "check_single_missing_values_are_handled",
]

_OFFSET = 64.0


def check_missing_markers_agree(estimator: Any) -> None:
    """A missing modality is missing, be it a NaN or a ``pandas.NA`` in a nullable column."""
    X, y = cohort()
    nullable = X.astype("Float64")
    expected = probabilities(fit(estimator, X, y), X)
    fitted = fit(estimator, nullable, y)
    assert_same(probabilities(fitted, nullable), expected, "pandas.NA isn't read as NaN is")


def check_absent_block_ignores_other_rows(estimator: Any) -> None:
    """A row without a modality isn't filled from the other rows that are predicted with it."""
    X, y = cohort()
    fitted = fit(estimator, X, y)
    absent = X["note__0000"].isna().to_numpy()
    changed = X.copy()
    changed[block(X, "note")] *= 100.0
    assert_same(
        probabilities(fitted, changed)[absent],
        probabilities(fitted, X)[absent],
        "rows without a note changed with the notes of other rows",
    )


def check_absent_block_ignores_its_zero_point(estimator: Any) -> None:
    """Absence isn't a number on the modality's scale, which other units would give other meaning.

    Adding a constant to all values of a modality leaves the predictions for rows that lack it.
    """
    X, y = cohort()
    absent = X["labs__0000"].isna().to_numpy()
    moved = X.copy()
    moved[block(X, "labs")] += _OFFSET
    assert_same(
        probabilities(fit(estimator, moved, y), moved)[absent],
        probabilities(fit(estimator, X, y), X)[absent],
        "rows without labs changed when the zero point of labs was moved",
        SAME_PROBLEM,
    )


def check_row_without_modality_raises(estimator: Any) -> None:
    """A row that lacks everything is a ``ValueError`` naming the row, in fit and in prediction."""
    X, y = cohort()
    fitted = fit(estimator, X, y)
    empty = X.copy()
    empty.iloc[7] = np.nan
    for what, call in (
        ("fit", lambda: fit(estimator, empty, y)),
        ("predict_proba", lambda: probabilities(fitted, empty)),
    ):
        message = _message_of_value_error(call)
        assert message is not None, f"{what} took a row of which everything is missing"
        assert re.search(r"(?<!\d)7(?!\d)", message), f"{what} doesn't name row 7: {message}"


def check_modality_missing_in_training_is_told(estimator: Any) -> None:
    """A modality that no training row has is an error or a warning that names it."""
    X, y = cohort()
    X[block(X, "labs")] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        message = _message_of_value_error(lambda: fit(estimator, X, y))
    told = [message or "", *(str(warning.message) for warning in caught)]
    assert any("labs" in text for text in told), (
        "no training row has labs, and neither an error nor a warning says so"
    )


def check_modality_absent_at_predict(estimator: Any) -> None:
    """A modality that no predicted row has gives probabilities, or an error that names it.

    A warning that names it is welcome.
    """
    X, y = cohort()
    fitted = fit(estimator, X, y)
    for modality in MODALITIES:
        others = X.copy()
        others[block(X, modality)] = np.nan
        others = others[others.notna().any(axis=1)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            message = _message_of_value_error(lambda table=others: probabilities(fitted, table))
            if message is None:
                _assert_distributions(probabilities(fitted, others), f"without {modality}")
        if message is None:
            continue
        assert modality in message, f"the error doesn't name {modality}: {message}"


def check_single_missing_values_are_handled(estimator: Any) -> None:
    """Values missing within a present modality, in columns complete in training too."""
    X, y = cohort()
    fitted = fit(estimator, X, y)
    holes = X.copy()
    holes.iloc[::2, ::2] = np.nan
    _assert_distributions(probabilities(fitted, holes), "with single missing values")


def _message_of_value_error(call: Any) -> str | None:
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


def _assert_distributions(proba: np.ndarray, when: str) -> None:
    assert np.isfinite(proba).all(), f"probabilities aren't finite {when}"
    assert_same(proba.sum(axis=1), np.ones(len(proba)), f"probabilities don't sum to 1 {when}")
