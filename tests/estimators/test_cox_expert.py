"""The ridge Cox models beside the network: when, how weighed, whatever the order of rows."""

from __future__ import annotations

import numpy as np
import pytest

from medfusion_sdk.survival import survival_target
from tests.estimators.survivors import MODALITIES, cohort, quick


@pytest.fixture(scope="module")
def data():
    return cohort()


def test_expert_weighs_the_modalities_that_tell_something(data):
    model = quick(expert=True, max_epochs=1).fit(*cohort(300))
    ecg, labs, note = model.cox_expert_.weights
    assert min(ecg, labs) > 3 * note
    assert note >= 0


def test_expert_waits_for_rows_and_events(data):
    X, y = data
    assert quick().fit(X, y).cox_expert_ is not None
    assert quick().fit(X[:90], y[:90]).cox_expert_ is None
    rare = survival_target(y["event"] & (np.cumsum(y["event"]) < 15), y["time"])
    assert quick().fit(X, rare).cox_expert_ is None
    assert quick(expert=False).fit(X, y).cox_expert_ is None


def _curves(X, *fitted_on, **with_weights):
    model = quick(expert=True).fit(*fitted_on, **with_weights)
    return np.column_stack([model.predict(X), model.predict_survival_function(X, True)])


def test_order_of_rows_is_of_no_matter_to_the_expert(data):
    X, y = data
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = _curves(X, X.iloc[order], y[order])
    np.testing.assert_allclose(shuffled, _curves(X, X, y), atol=1e-9)


def test_weighted_rows_are_rows_given_as_often_to_the_expert(data):
    X, y = data
    times = np.random.default_rng(0).integers(0, 3, size=len(X))
    several = np.repeat(np.arange(len(X)), times)
    weighted = _curves(X, X, y, sample_weight=times)
    np.testing.assert_allclose(weighted, _curves(X, X.iloc[several], y[several]), atol=1e-9)


def test_absent_modality_counts_as_average_for_the_expert(data):
    X, _ = data
    fitted = quick(expert=True).fit(*data)
    x, present = fitted._scaling.apply(X.to_numpy(float))
    column = MODALITIES.index("note")
    start = sum(fitted._scaling.dims[:column])
    part = x[:, start : start + fitted._scaling.dims[column]]
    assert not part[~present[:, column]].any()
