"""Classes, labels and their probabilities."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

import numpy as np
from sklearn.utils import get_tags

from medfusion_sdk.testing._cohorts import assert_same, cohort, fit, needs, probabilities

__all__ = [
    "check_multilabel_probabilities",
    "check_probabilities_are_distributions",
    "check_string_labels_and_column_order",
]


def check_probabilities_are_distributions(estimator: Any) -> None:
    """Probabilities are finite, sum to one, and their largest is the prediction."""
    needs(estimator, method="predict_proba")
    X, y = cohort()
    fitted = fit(estimator, X, y)
    proba = probabilities(fitted, X)
    assert np.isfinite(proba).all(), "probabilities aren't finite"
    assert ((proba >= 0) & (proba <= 1)).all(), "probabilities lie outside [0, 1]"
    assert_same(proba.sum(axis=1), np.ones(len(X)), "probabilities don't sum to 1")
    predicted = fitted.classes_[proba.argmax(axis=1)]
    assert np.array_equal(fitted.predict(X), predicted), "predict isn't the most probable class"


def check_string_labels_and_column_order(estimator: Any) -> None:
    """Columns of probabilities follow ``classes_``, which are sorted, whatever came first in y."""
    needs(estimator, method="predict_proba")
    X, codes = cohort(60, n_classes=3)
    names = np.array(["AFIB", "MI", "NORM"])
    # Numbers in reverse: what comes first under one name comes last under the other.
    fitted = fit(estimator, X, names[codes])
    reversed_ = fit(estimator, X, names[::-1][codes])
    assert list(fitted.classes_) == list(names), f"classes_ is {fitted.classes_}, not sorted"
    by_number = probabilities(fit(estimator, X, codes), X)
    assert_same(probabilities(fitted, X), by_number, "string labels change the probabilities")
    predicted = names[probabilities(fitted, X).argmax(axis=1)]
    assert np.array_equal(fitted.predict(X), predicted), "predict doesn't follow classes_"
    agreement = (reversed_.predict(X) == names[::-1][by_number.argmax(axis=1)]).mean()
    assert agreement >= 0.7, f"renaming the classes changed {1 - agreement:.0%} of predictions"


def check_multilabel_probabilities(estimator: Any) -> None:
    """Where the tag promises multilabel: one independent probability per label."""
    tags = get_tags(estimator).classifier_tags
    if tags is None or not tags.multi_label:
        raise SkipTest(f"{type(estimator).__name__} isn't tagged multi_label")
    X, y = cohort(60, task="multilabel", n_classes=3, n_features=6)
    fitted = fit(estimator, X, y)
    proba, labels = fitted.predict_proba(X), fitted.predict(X)
    if isinstance(proba, list):  # scikit-learn's forests give one array per label
        proba = np.column_stack([label[:, -1] for label in proba])
    assert proba.shape == y.shape == labels.shape, f"shapes {proba.shape}, {labels.shape}"
    assert ((proba >= 0) & (proba <= 1)).all(), "probabilities lie outside [0, 1]"
    assert np.array_equal(labels, proba > 0.5), "predict isn't probability above one half"
    assert not np.allclose(proba.sum(axis=1), 1.0), "labels compete, as if they were classes"
