"""What BrainAdapterClassifier trains, keeps, and comes back with."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from medfusion_sdk import (
    TextEncoder,
    VolumeEncoder,
    load_estimator,
    save_estimator,
)
from medfusion_sdk.backbones import standin_vit3d
from medfusion_sdk.backbones.volume import borrow_volume_backbone
from medfusion_sdk.backbones.volume_source import find_volume_source
from medfusion_sdk.estimators import _brain_adapter
from medfusion_sdk.exceptions import (
    BackboneMismatchError,
)
from tests.estimators.brain_models import brain, volumes_and_reports
from tests.volume_checkpoints import write_m3d_clip


@pytest.fixture(scope="module")
def cohort():
    return volumes_and_reports()


@pytest.fixture(scope="module")
def fitted(cohort):
    return brain().fit(*cohort)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_m3d_clip(tmp_path_factory.mktemp("m3d"))


def test_equal_seeds_give_equal_bits_and_state_holds_what_is_trained(cohort, fitted):
    X, y = cohort
    again = brain().fit(X, y)
    assert all(np.array_equal(again.state_[k], v) for k, v in fitted.state_.items())
    assert not any(".vision." in name for name in fitted.state_)
    trained = sum(array.nbytes for array in fitted.state_.values())
    assert len(pickle.dumps(fitted)) < 1.3 * trained + 20_000
    d, width, text = 16, 48, 64
    depth = 16  # of volumes as of what the encoder reads
    adapter = 12 * depth**2 + 4 * depth
    formula = adapter + (width + 1) * d + (text + 1) * d + (2 * d + 1) * 2 + 1
    fixed = 2 * width  # scale and shift of the read-outs
    assert sum(array.size for array in fitted.state_.values()) == formula + fixed


@pytest.mark.parametrize("mode", ["tlp", "fpm", "full"])
def test_modes_train_what_they_say_and_leave_the_shared_encoder_alone(cohort, mode):
    X, y = cohort

    class User:
        pass

    user, source = User(), find_volume_source("standin-vit3d")
    shared = borrow_volume_backbone(user, source, torch.device("cpu"), torch.float32)
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    model = brain(train_mode=mode, max_epochs=1).fit(X, y)
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())
    start = brain(train_mode=mode, max_epochs=1, learning_rate=1e-12).fit(X, y)
    moved = {k for k, v in model.state_.items() if np.abs(v - start.state_[k]).max() > 1e-6}
    assert any(".projections." in name for name in moved) == (mode != "fpm")
    assert any(".vision." in name for name in moved) == (mode == "full")
    assert any(".adapter." in name for name in moved)


def test_fully_trained_model_needs_no_checkpoint_to_predict(cohort, checkpoint, tmp_path):
    X, y = cohort
    folder = write_m3d_clip(tmp_path / "there")
    model = brain(vision_encoder=folder, train_mode="full", max_epochs=1).fit(X, y)
    expected = model.predict_proba(X)
    save_estimator(model, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    np.testing.assert_allclose(
        load_estimator(tmp_path / "model").predict_proba(X), expected, atol=1e-6
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {"adapter": "conv3d"},
        {"adapter": "none", "contrastive": "decoupled", "image_pool": "mean"},
        {"train_mode": "fpm", "learnable_temperature": False},
        {"target_size": (16, 32, 40), "volume_size": (16, 32, 40), "standardize": False},
        {"early_stopping": True, "class_weight": "balanced", "gradient_checkpointing": True},
        {"text_encoder": TextEncoder("standin-text", pooling="cls"), "proj_dim": None},
    ],
    ids=str,
)
def test_variants_fit_and_come_back_from_disk(cohort, parameters, tmp_path):
    X, y = cohort
    model = brain(**parameters).fit(X, y)
    assert model.transform(X).shape == (12, model._n_features_out)
    save_estimator(model, tmp_path / "model")
    np.testing.assert_allclose(
        load_estimator(tmp_path / "model").predict_proba(X), model.predict_proba(X), atol=1e-6
    )


def test_adapter_is_refused_before_another_encoder(cohort, fitted, tmp_path, monkeypatch):
    copied = pickle.loads(pickle.dumps(fitted))
    save_estimator(fitted, tmp_path / "model")
    monkeypatch.setattr(standin_vit3d, "_SEED", 1)
    with pytest.raises(BackboneMismatchError, match="standin-vit3d"):
        copied.predict(cohort[0])
    with pytest.raises(BackboneMismatchError):
        load_estimator(tmp_path / "model").predict(cohort[0])


def test_both_towers_of_m3d_clip_bring_their_projections(cohort, checkpoint):
    X, y = cohort
    settings = {"vision_encoder": checkpoint, "text_encoder": checkpoint, "proj_dim": None}
    for mode in ("fpm", "tlp"):
        model = brain(**settings, train_mode=mode, max_epochs=1, learning_rate=1e-12).fit(X, y)
        vision = VolumeEncoder(checkpoint).transform(X["mri"])
        text = TextEncoder(checkpoint, pooling="cls", dtype="float32").transform(X["report"])
        tensors = _brain_adapter.read_projections(find_volume_source(checkpoint).files)
        found = model.transform_modalities(X)
        for name, vectors in (("image", vision), ("text", text)):
            maps = {part: value.numpy() for part, value in tensors[name].items()}
            z = vectors @ maps["weight"].T + maps["bias"]
            expected = z / np.linalg.norm(z, axis=1, keepdims=True)
            # Volumes are kept in half precision on their way to the adapter.
            np.testing.assert_allclose(found[name], expected, atol=2e-3)
    drawn = brain(**settings | {"proj_dim": 64}, max_epochs=1, learning_rate=1e-12).fit(X, y)
    assert np.abs(drawn.transform_modalities(X)["text"] - found["text"]).max() > 0.1
    assert drawn._n_features_out == model._n_features_out == 64


def test_wider_target_interpolates_positions_of_m3d_clip(cohort, checkpoint):
    X, y = cohort
    model = brain(vision_encoder=checkpoint, target_size=(16, 16, 16), max_epochs=1).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()


def test_frozen_encoder_in_bfloat16_trains_alike_and_predicts_in_float32(cohort):
    X, y = cohort
    exact, rounded = (brain(dtype=dtype).fit(X, y) for dtype in ("float32", "bfloat16"))
    assert {weight.dtype for weight in rounded.state_.values()} == {np.dtype("float32")}
    proba = rounded.predict_proba(X)
    np.testing.assert_allclose(proba, exact.predict_proba(X), atol=0.02)
    assert np.abs(proba - exact.predict_proba(X)).max() > 0
    np.testing.assert_allclose(rounded.predict_proba(X.iloc[[4]]), proba[[4]], atol=1e-6)


def test_warm_start_goes_on_and_parameters_set_after_fit_change_nothing(cohort, fitted):
    X, y = cohort
    whole = fitted.predict_proba(X)
    changed = pickle.loads(pickle.dumps(fitted))
    changed.set_params(volume_size=(64, 64, 64), inputs="text", adapter="none", proj_dim=3)
    np.testing.assert_array_equal(changed.predict_proba(X), whole)
    model = brain(warm_start=True).fit(X, y)
    first = {name: array.copy() for name, array in model.state_.items()}
    model.set_params(learning_rate=1e-12).fit(X, y)
    for name, array in model.state_.items():
        np.testing.assert_allclose(array, first[name], atol=1e-6, err_msg=name)
