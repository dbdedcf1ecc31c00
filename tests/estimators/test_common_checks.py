"""scikit-learn's own checks, none excused.

Few epochs, for time's sake; `benchmarks/bench_checks.py` runs them with the default parameters.
"""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from medfusion_sdk import AdaCoMedClassifier, SmallMultimodalClassifier


@parametrize_with_checks(
    [SmallMultimodalClassifier(max_epochs=10), AdaCoMedClassifier(max_epochs=10)]
)
def test_classifier_passes_scikit_learns_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", [SmallMultimodalClassifier, AdaCoMedClassifier])
def test_two_dimensional_input_stays_switched_on(kind):
    # With the tag off scikit-learn checks nothing, and a green run would prove nothing.
    assert kind().__sklearn_tags__().input_tags.two_d_array
