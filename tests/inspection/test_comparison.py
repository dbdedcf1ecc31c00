"""The comparison's picture shows the table's numbers."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.inspection import ComparisonDisplay
from medfusion_sdk.model_selection import compare

mpl.use("agg")
MODELS = {"prior": DummyClassifier(), "Bayes": GaussianNB()}


@pytest.fixture(scope="module")
def table():
    X, y = load_iris(return_X_y=True)
    return compare(MODELS, X, y, reference="prior", n_resamples=50, random_state=0)


@pytest.fixture(autouse=True)
def close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def drawn(display):
    """Points and ends of the bars."""
    container = display.ax_.containers[0]
    points = container.lines[0].get_xdata()
    bars = [segment[:, 0] for segment in container.lines[2][0].get_segments()]
    return points, np.array(bars)


def test_scores_and_intervals_are_drawn_top_down(table):
    display = ComparisonDisplay(table).plot()
    points, bars = drawn(display)
    np.testing.assert_allclose(points, table["score"])
    np.testing.assert_allclose(bars[:, 0], np.minimum(table["low"], table["score"]))
    np.testing.assert_allclose(bars[:, 1], np.maximum(table["high"], table["score"]))
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["prior", "Bayes"]
    assert display.ax_.yaxis_inverted()


def test_differences_are_drawn_around_zero(table):
    points, _ = drawn(ComparisonDisplay(table).plot(difference=True))
    np.testing.assert_allclose(points, [0, table.loc["Bayes", "difference"]])
    with pytest.raises(ParameterError, match="reference"):
        ComparisonDisplay(table[["score", "low", "high"]]).plot(difference=True)


def test_display_compares_by_itself_on_given_axes(table):
    import matplotlib.pyplot as plt

    ax = plt.subplots()[1]
    X, y = load_iris(return_X_y=True)
    options = {"reference": "prior", "n_resamples": 50, "random_state": 0}
    display = ComparisonDisplay.from_estimators(MODELS, X, y, ax=ax, **options)
    assert display.ax_ is ax
    assert display.table.equals(table)
