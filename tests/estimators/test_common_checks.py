"""scikit-learn's own checks, none excused.

Few epochs, for time's sake; `benchmarks/bench_checks.py` runs them with the default parameters.
"""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from medfusion_sdk import (
    AdaCoMedClassifier,
    AMFNClassifier,
    AMFNRegressor,
    BrainAdapterClassifier,
    DualAdapterClassifier,
    SmallMultimodalClassifier,
    TGMMClassifier,
    TGMMMultiTask,
    TGMMRetriever,
)

ESTIMATORS = [
    AMFNClassifier(max_epochs=15, ensemble_size=1, d_model=16, learning_rate=1e-2),
    AMFNRegressor(max_epochs=30, ensemble_size=1, d_model=16, learning_rate=1e-2),
    SmallMultimodalClassifier(max_epochs=10),
    AdaCoMedClassifier(max_epochs=10),
    DualAdapterClassifier(backbone="standin-text"),
    TGMMClassifier(max_epochs=10, d_model=16),
    TGMMMultiTask(max_epochs=10, d_model=16),
    BrainAdapterClassifier(text_encoder="standin-text", proj_dim=64, learning_rate=5e-3),
    TGMMRetriever(max_epochs=5, d_model=16),
]


# Bare arrays are one modality; one check has as many as 30 columns of them.
@pytest.mark.filterwarnings("ignore:30 columns without names")
# One check gives every row of a class weight zero, which is said.
@pytest.mark.filterwarnings("ignore:every row of the classes:UserWarning")
@parametrize_with_checks(ESTIMATORS)
def test_estimator_passes_scikit_learns_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda made: type(made).__name__)
def test_two_dimensional_input_stays_switched_on(estimator):
    # With the tag off scikit-learn checks nothing, and a green run would prove nothing.
    assert estimator.__sklearn_tags__().input_tags.two_d_array
