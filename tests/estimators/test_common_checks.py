"""scikit-learn's own checks, none excused.

Few epochs, for time's sake; `benchmarks/bench_checks.py` runs them with the default parameters.
"""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from medfusion_sdk import AdaCoMedClassifier, DualAdapterClassifier, SmallMultimodalClassifier

CLASSIFIERS = [
    SmallMultimodalClassifier(max_epochs=10),
    AdaCoMedClassifier(max_epochs=10),
    DualAdapterClassifier(backbone="standin-text"),
]


@parametrize_with_checks(CLASSIFIERS)
def test_classifier_passes_scikit_learns_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda made: type(made).__name__)
def test_two_dimensional_input_stays_switched_on(classifier):
    # With the tag off scikit-learn checks nothing, and a green run would prove nothing.
    assert classifier.__sklearn_tags__().input_tags.two_d_array
