"""The small cohorts that checks run on, and what every check does with them."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from medfusion_sdk.datasets import make_multimodal_cohort
from medfusion_sdk.survival import survival_target

__all__ = [
    "MODALITIES",
    "assert_same",
    "block",
    "cohort",
    "fit",
    "fit_in_place",
    "labels",
    "needs",
    "needs_weights",
    "probabilities",
    "seeded",
]

MODALITIES = ("ecg", "note", "labs")
# Predictions of one fitted model in other company: rounding of a float32 network.
SAME_MODEL = 1e-5
# Two fits of the same problem: rounding that training may have amplified.
SAME_PROBLEM = 1e-4
# Times of an outcome of survival.
_EARLY, _LATE = 1.0, 2.0


def cohort(n_samples: int = 45, **options: Any) -> tuple[pd.DataFrame, np.ndarray]:
    """Block table with rows "p0", "p1", ..., missing modalities and holes; and its targets."""
    settings: dict[str, Any] = {
        "missing": {"ecg": 0.0, "note": 0.25, "labs": 0.2},
        "n_features": 4,
    } | options
    made = make_multimodal_cohort(n_samples, modalities=MODALITIES, random_state=0, **settings)
    X = made.data.astype(np.float64)
    X.index = pd.Index([f"p{i}" for i in range(n_samples)])
    # A present modality may lack single values; each keeps its first, so that it stays present.
    holes = np.random.default_rng(1).random(X.shape) < 0.05
    holes[:, [X.columns.get_loc(f"{name}__0000") for name in MODALITIES]] = False
    return X.mask(holes), made.target.to_numpy()


def block(X: pd.DataFrame, modality: str) -> list[str]:
    """Columns of a modality."""
    return [name for name in X.columns if name.startswith(f"{modality}__")]


def seeded(estimator: Any, **parameters: Any) -> Any:
    """Clone with every random state set."""
    copy = clone(estimator)
    seeds = {
        name: 0
        for name in copy.get_params(deep=True)
        if name == "random_state" or name.endswith("__random_state")
    }
    return copy.set_params(**seeds).set_params(**parameters)


def fit(estimator: Any, X: Any, y: Any, sample_weight: Any = None, **parameters: Any) -> Any:
    """Fit a seeded clone."""
    return fit_in_place(seeded(estimator, **parameters), X, y, sample_weight)


def fit_in_place(estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> Any:
    """Fit an estimator on classes; one of survival on who dies early and who late."""
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    return estimator.fit(X, _early_or_late(y) if _is_survival(estimator) else y, **weights)


def probabilities(fitted: Any, X: Any) -> np.ndarray:
    """Predicted probabilities as one array; of dying late or early for an estimator of survival."""
    if _is_survival(fitted):
        late = np.array([curve(_EARLY) for curve in fitted.predict_survival_function(X)])
        return np.column_stack([late, 1 - late])
    return np.asarray(fitted.predict_proba(X))


def labels(fitted: Any, X: Any) -> np.ndarray:
    """Predicted classes."""
    if _is_survival(fitted):
        return probabilities(fitted, X).argmax(axis=1)
    return fitted.predict(X)


def _is_survival(estimator: Any) -> bool:
    return get_tags(estimator).estimator_type == "survival"


def _early_or_late(y: np.ndarray) -> np.ndarray:
    """Classes as times: the second class dies first. Alike rows stay alike, so all are events."""
    return survival_target(np.ones(len(y)), np.where(np.asarray(y) > 0, _EARLY, _LATE))


def assert_same(
    actual: np.ndarray, expected: np.ndarray, what: str, tolerance: float = SAME_MODEL
) -> None:
    """Assert that probabilities agree."""
    assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=what)


def needs(estimator: Any, *, method: str = "", parameter: str = "") -> None:
    """Skip a check for an estimator that lacks what is checked."""
    if method and not hasattr(estimator, method):
        raise SkipTest(f"{type(estimator).__name__} has no {method}")
    if parameter and parameter not in estimator.get_params(deep=False):
        raise SkipTest(f"{type(estimator).__name__} has no parameter {parameter}")


def needs_weights(estimator: Any) -> None:
    """Skip a check for an estimator that takes no sample weights."""
    if not has_fit_parameter(estimator, "sample_weight"):
        raise SkipTest(f"{type(estimator).__name__}.fit takes no sample_weight")
