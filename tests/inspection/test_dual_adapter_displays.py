"""Displays of the dual adapter show what explain tells."""

from __future__ import annotations

import numpy as np
import pytest

from medfusion_sdk import DualAdapterClassifier
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.exceptions import ModalityError, ParameterError
from medfusion_sdk.inspection import GateDisplay, SignalAttributionDisplay


@pytest.fixture(scope="module")
def records():
    X, y = load_ptbxl(return_X_y=True)
    return X[["ecg", "report"]].head(24), y["NORM"].head(24)


def dual(**parameters):
    return DualAdapterClassifier("standin-text", max_epochs=1, random_state=0, **parameters)


@pytest.fixture(scope="module")
def fitted(records):
    return dual(share_gates=False).fit(*records)


def test_gate_map_holds_the_gates_of_the_path_that_is_asked_for(records, fitted):
    display = GateDisplay.from_estimator(fitted, path="textual")
    gates = np.tanh(fitted.state_["network.gates"][1])
    np.testing.assert_allclose(display.gates, gates, atol=1e-6)
    np.testing.assert_allclose(display.image_.get_array(), gates, atol=1e-6)
    assert display.image_.get_clim() == (-1, 1)  # one scale for all models
    with pytest.raises(ParameterError, match=r"\['temporal', 'textual'\]"):
        GateDisplay.from_estimator(fitted)


@pytest.mark.parametrize("signal_encoder", ["auto", "cnn"])
def test_attribution_is_drawn_over_what_the_model_sees(records, fitted, signal_encoder):
    X, y = records
    model = fitted
    if signal_encoder == "cnn":
        model = dual(signal_encoder="cnn", adapter_layers=1, duration=2.0, stride=20).fit(X, y)
    one = X.iloc[[3]]
    display = SignalAttributionDisplay.from_estimator(model, one)
    told = model.explain(one)
    told = told[(told["quantity"] == "attribution") & (told["modality"] == "signal")]
    assert display.attribution.sum() == pytest.approx(told["value"].sum(), rel=1e-5)
    assert len(display.ax_.lines) == len(display.signal) == 12
    seen = one["ecg"].iloc[0][:, :200]
    if signal_encoder == "auto":
        seen = model.signal_encoder_.view_signals(one["ecg"])[0][0]
    np.testing.assert_allclose(display.signal, seen, rtol=1e-5)
    assert display.bounds[-1] == seen.shape[1]
    # Lines have seconds below them, and the colours the same ones.
    assert display.ax_.lines[0].get_xdata()[-1] == pytest.approx((seen.shape[1] - 1) / 100)
    assert display.ax_.collections[0].get_array().size == display.attribution.size


def test_attribution_display_refuses_what_it_cannot_draw(records, fitted):
    X, y = records
    with pytest.raises(ParameterError, match="X has 24"):
        SignalAttributionDisplay.from_estimator(fitted, X)
    with pytest.raises(ModalityError, match="no signal"):
        SignalAttributionDisplay.from_estimator(fitted, X.iloc[[0]].assign(ecg=None))
    numbers = np.random.default_rng(0).normal(size=(24, 6))
    with pytest.raises(ModalityError, match="embeddings"):
        SignalAttributionDisplay.from_estimator(dual().fit(numbers, y), numbers[:1])
    with pytest.raises(ParameterError, match="2 columns"):
        SignalAttributionDisplay(np.zeros((1, 4)), np.zeros((1, 3)), np.array([0, 2, 4]))
    with pytest.raises(ParameterError, match="2 names for 1"):
        SignalAttributionDisplay(
            np.zeros((1, 4)), np.zeros((1, 2)), np.array([0, 2, 4]), channel_names=["I", "II"]
        )
