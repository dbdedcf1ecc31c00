"""Classes whose rows weigh nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk import TGMMMultiTask
from medfusion_sdk.exceptions import TrainingWarning
from tests.estimators.brain_models import brain
from tests.estimators.cohorts import adacomed, small, tgmm
from tests.estimators.dual_models import dual
from tests.estimators.held_out import numbers
from tests.estimators.test_held_out import amfn

CLASSIFIERS = {
    "small": small,
    "adacomed": adacomed,
    "tgmm": tgmm,
    "amfn": amfn,
    "dual": dual,
    "brain": lambda **o: brain(inputs="text", **o),
}


@pytest.mark.parametrize("how", ["sample_weight", "class_weight"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_class_whose_rows_weigh_nothing_is_named_and_as_good_as_removed(name, how):
    X, _ = numbers()
    y = np.array(["a", "b", "c"])[np.arange(len(X)) % 3]
    kept = y != "b"
    given = {"class_weight": {"b": 0.0}} if how == "class_weight" else {}
    weights = {"sample_weight": kept.astype(float)} if how == "sample_weight" else {}
    with pytest.warns(TrainingWarning, match=r"classes \['b'\] has weight zero"):
        fitted = CLASSIFIERS[name](**given).fit(X, y, **weights)
    alone = CLASSIFIERS[name]().fit(X[kept], y[kept])
    assert fitted.classes_.tolist() == ["a", "c"]
    np.testing.assert_allclose(fitted.predict_proba(X), alone.predict_proba(X), atol=1e-6)


def test_class_of_which_a_row_is_left_is_not_named():
    X, y = numbers()
    small().fit(X, y, sample_weight=np.r_[np.zeros(10), np.ones(len(y) - 10)])


def test_diagnosis_beside_a_prognosis_is_named_too():
    X, _ = numbers()
    n = len(X)
    diagnosis = np.array(["a", "b", "c"])[np.arange(n) % 3].astype(object)
    diagnosis[:2] = None
    y = pd.DataFrame(
        {"diagnosis": diagnosis, "event": np.arange(n) % 2, "time": 1.0 + np.arange(n)}
    )
    model = TGMMMultiTask(max_epochs=1, random_state=0)
    with pytest.warns(TrainingWarning, match=r"classes \['b'\] has weight zero"):
        model.fit(X, y, sample_weight=(diagnosis != "b").astype(float))
    assert model.classes_.tolist() == ["a", "c"]
