"""Maps over slices: what is drawn, and what is refused."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from medfusion_sdk.exceptions import ModalityError, ParameterError
from medfusion_sdk.inspection import VolumeMapDisplay
from tests.estimators.brain_models import brain, volumes_and_reports


@pytest.fixture(autouse=True)
def no_window():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def test_slices_lie_side_by_side_and_weak_values_are_transparent():
    volume = np.arange(4 * 3 * 2.0).reshape(4, 3, 2)
    values = np.zeros((4, 3, 2))
    values[3, 0, 1], values[0, 0, 0] = -2.0, 0.01
    display = VolumeMapDisplay(volume, values, title="gradient").plot(n_slices=4)
    grey = display.ax_.images[0].get_array()
    np.testing.assert_array_equal(grey, np.hstack(list(volume)))
    over = display.image_
    assert over.get_array().shape == (3, 8)
    assert over.get_array()[0, 7] == -2.0
    assert (over.norm.vmin, over.norm.vmax) == (-2.0, 2.0)
    alpha = over.get_alpha()
    assert (alpha > 0).sum() == 1
    assert alpha[0, 7] == pytest.approx(0.85)
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == [
        f"slice {i}" for i in range(4)
    ]
    assert display.ax_.get_title() == "gradient (left and right unknown)"


@pytest.mark.parametrize(("orientation", "sides"), [("SPL", "RL"), ("SPR", "LR"), ("RSA", "PA")])
def test_sides_of_each_slice_are_marked_by_the_orientation(orientation, sides):
    volume = np.zeros((4, 3, 2))
    display = VolumeMapDisplay(volume, volume, title="map", orientation=orientation)
    ax = display.plot(n_slices=2).ax_
    marks = sorted((text.get_position()[0], text.get_text()) for text in ax.texts)
    assert "".join(text for _, text in marks) == 2 * sides
    assert ax.get_title() == "map"


def test_draws_one_row_of_a_fitted_model():
    X, y = volumes_and_reports(6)
    X = X.copy()
    X.at[1, "mri"] = None
    model = brain(max_epochs=1).fit(X, y)
    display = VolumeMapDisplay.from_estimator(model, X.iloc[[0]], kind="occlusion", n_slices=3)
    seen = np.asarray(X["mri"].iloc[0])
    np.testing.assert_allclose(display.volume, seen / seen.max(), atol=1e-3)
    np.testing.assert_array_equal(
        display.values, model.volume_maps(X.iloc[[0]], kind="occlusion")[0]
    )
    with pytest.raises(ParameterError, match="one row"):
        VolumeMapDisplay.from_estimator(model, X)
    with pytest.raises(ModalityError, match="no volume"):
        VolumeMapDisplay.from_estimator(model, X.iloc[[1]])
    with pytest.raises(ParameterError, match="the same"):
        VolumeMapDisplay(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
