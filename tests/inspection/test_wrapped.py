"""Displays look into pipelines, searches and calibrations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from medfusion_sdk import AMFNClassifier
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.inspection import ModalityWeightsDisplay, RouterDisplay
from medfusion_sdk.inspection._wrapped import explained


def doubled(X):
    return X * 2


@pytest.fixture(scope="module")
def piped(blocks, adacomed):
    """A fitted pipeline whose first step matters, and what its last step reads."""
    model = make_pipeline(FunctionTransformer(doubled), FrozenEstimator(adacomed))
    return model.fit(*blocks), doubled(blocks[0])


def weights(display):
    return (
        display.weights if isinstance(display.weights, pd.DataFrame) else display.weights["60 rows"]
    )


@pytest.mark.parametrize("wrap", ["pipeline", "search", "calibrated", "pipeline of a search"])
def test_display_of_a_wrapped_estimator_is_that_of_the_inner_one(blocks, adacomed, piped, wrap):
    model, seen = piped
    X, y = blocks
    if wrap == "search":
        model = GridSearchCV(model, {"functiontransformer__func": [doubled]}, cv=2).fit(X, y)
    if wrap == "calibrated":
        model = CalibratedClassifierCV(FrozenEstimator(model)).fit(X, y)
    if wrap == "pipeline of a search":
        inner = GridSearchCV(model[-1:], {"frozenestimator": [model[-1]]}, cv=2)
        model = make_pipeline(FunctionTransformer(doubled), inner).fit(X, y)
    router = RouterDisplay.from_estimator(model, X)
    np.testing.assert_array_equal(
        router.weights, RouterDisplay.from_estimator(adacomed, seen).weights
    )
    options = {"quantity": "responsibility"}
    shown = weights(ModalityWeightsDisplay.from_estimator(model, X, **options))
    own = weights(ModalityWeightsDisplay.from_estimator(adacomed, seen, **options))
    np.testing.assert_array_equal(shown, own)
    plain = RouterDisplay.from_estimator(adacomed, X).weights
    assert np.abs(router.weights - plain).to_numpy().max() > 1e-4  # the first step was run


def test_explanation_of_a_calibration_is_the_mean_of_its_fits(blocks):
    X, y = blocks
    model = AMFNClassifier(max_epochs=1, ensemble_size=1, calibrate=False, random_state=0)
    model = CalibratedClassifierCV(model, cv=2).fit(X, y)
    each = [fit.estimator.explain(X)["value"] for fit in model.calibrated_classifiers_]
    np.testing.assert_allclose(explained(model, X)["value"], np.mean(each, axis=0), atol=1e-12)


def test_estimator_that_explains_nothing_is_refused_by_name(blocks):
    X = np.zeros((4, 1))
    model = LogisticRegression().fit(X, [0, 1, 0, 1])
    with pytest.raises(ParameterError, match="LogisticRegression has no explain"):
        RouterDisplay.from_estimator(model, X)
