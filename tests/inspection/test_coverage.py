"""The coverage display draws the table that it is made from."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from medfusion_sdk.inspection import CoverageDisplay
from medfusion_sdk.metrics import coverage_table


@pytest.fixture
def predicted():
    rng = np.random.default_rng(0)
    return rng.normal(size=100), np.zeros(100), np.ones(100)


def test_line_is_the_coverage_of_any_regressor_that_returns_deviations():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 1))
    y = X[:, 0] + rng.normal(size=120)
    model = GaussianProcessRegressor(RBF() + WhiteKernel(), optimizer=None).fit(X[:60], y[:60])
    display = CoverageDisplay.from_estimator(model, X[60:], y[60:], random_state=0)
    mean, std = model.predict(X[60:], return_std=True)
    table = coverage_table(y[60:], mean, std, random_state=0)
    pd.testing.assert_frame_equal(display.table, table)
    np.testing.assert_array_equal(display.line_.get_xydata(), table["coverage"].reset_index())
    assert display.line_.get_label() == "GaussianProcessRegressor"


def test_several_models_share_axes_and_one_diagonal(predicted):
    figure, ax = plt.subplots()
    y, mean, std = predicted
    for name, scale in (("sure", 0.5), ("right", 1.0)):
        display = CoverageDisplay.from_predictions(y, mean, scale * std, name=name, ax=ax)
        assert (display.ax_, display.figure_) == (ax, figure)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["as often as said", "sure", "right"]
