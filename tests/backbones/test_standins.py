"""A default with random weights says so, once a process."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from medfusion_sdk import ImageEncoder, TextEncoder, VolumeEncoder
from medfusion_sdk.backbones import standins
from medfusion_sdk.exceptions import MedFusionWarning, RandomWeightsWarning
from tests.estimators.brain_models import brain, volumes_and_reports

VOLUMES = [np.random.default_rng(i).random((8, 8, 8)) for i in range(2)]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(standins, "_said", set())


@pytest.fixture
def heard():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def random_weights(caught):
    return [one for one in caught if issubclass(one.category, RandomWeightsWarning)]


@pytest.mark.parametrize("call", ["fit", "transform", "fit_transform"])
def test_volume_encoder_of_default_warns_once_where_it_was_called(heard, call):
    encoder = VolumeEncoder()
    assert not heard
    for _ in range(2):
        getattr(encoder, call)(VOLUMES)
        VolumeEncoder().transform(VOLUMES)
    (found,) = random_weights(heard)
    assert "VolumeEncoder(backbone='standin-vit3d')" in str(found.message)
    assert "random weights" in str(found.message)
    assert "M3D-CLIP" in str(found.message)
    assert issubclass(RandomWeightsWarning, MedFusionWarning)
    if call != "fit_transform":  # which scikit-learn's mixin calls
        assert found.filename == __file__


def test_brain_adapter_of_default_warns_once(heard):
    X, y = volumes_and_reports()
    for _ in range(2):
        brain(max_epochs=1).fit(X, y).predict(X)
    (found,) = random_weights(heard)
    assert "BrainAdapterClassifier(vision_encoder='standin-vit3d')" in str(found.message)
    brain(max_epochs=1, inputs="text").fit(X, y)
    VolumeEncoder().transform(VOLUMES)  # another class says it by itself
    assert len(random_weights(heard)) == 2


def test_brain_adapter_without_volumes_is_silent(heard):
    X, y = volumes_and_reports()
    brain(max_epochs=1, inputs="text").fit(X, y)
    brain(vision_encoder=ImageEncoder("standin-image", slices=2), max_epochs=1).fit(X, y)
    assert not random_weights(heard)


def test_stand_ins_that_are_asked_for_by_name_are_silent(heard):
    TextEncoder("standin-text").fit_transform(["sinus rhythm"])
    ImageEncoder("standin-image").fit_transform([np.zeros((8, 8))])
    assert not random_weights(heard)


def test_warning_that_is_an_error_stays_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RandomWeightsWarning)
        for _ in range(2):
            with pytest.raises(RandomWeightsWarning):
                VolumeEncoder().fit(VOLUMES)
