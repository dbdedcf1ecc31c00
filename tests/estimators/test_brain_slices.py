"""BrainAdapterClassifier before a network for images, slice by slice."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from medfusion_sdk import ImageEncoder, load_estimator, save_estimator
from medfusion_sdk.backbones.vision import borrow_vision_backbone
from medfusion_sdk.backbones.vision_source import find_vision_source
from medfusion_sdk.exceptions import BackboneMismatchError, ParameterError
from tests.estimators.brain_models import brain, volumes_and_reports
from tests.vision_checkpoints import write_vision

STANDIN = "standin-image"


@pytest.fixture(scope="module")
def cohort():
    """Scans of ten thick slices, which aren't square."""
    return volumes_and_reports(size=(10, 40, 36))


def by_slices(slices=4, backbone=STANDIN, encoder=None, **parameters):
    options = {"slices": slices} | (encoder or {})
    return brain(vision_encoder=ImageEncoder(backbone, **options), **parameters)


@pytest.fixture(scope="module")
def fitted(cohort):
    return by_slices().fit(*cohort)


@pytest.mark.parametrize("slice_pooling", ["mean", "max"])
@pytest.mark.parametrize("kind", ["stand-in", "vit", "dinov2", "clip"])
def test_untrained_model_reads_what_the_encoder_makes_of_the_slices(tmp_path, kind, slice_pooling):
    backbone = STANDIN if kind == "stand-in" else write_vision(tmp_path / kind, kind)
    volumes = np.random.default_rng(0).integers(0, 256, size=(6, 5, 32, 32), dtype=np.uint8)
    volumes[:, 0, 0, 0], volumes[:, 0, 0, 1] = 0, 255
    if kind in ("dinov2", "clip"):
        # Their images are enlarged and cut; the adapter has the size of what is left.
        settings = tmp_path / kind / "preprocessor_config.json"
        settings.write_text(settings.read_text().replace("40", "32"))
    X, y = volumes_and_reports(6)
    X["mri"] = list(volumes)
    options = {"slice_pooling": slice_pooling}
    model = by_slices(5, backbone, options, inputs="image", max_epochs=1, learning_rate=1e-12)
    network = model.set_params(adapter="none").fit(X, y)._network().network
    with torch.no_grad():
        read = network.read_out(torch.from_numpy(volumes / np.float32(255))).numpy()
    expected = ImageEncoder(backbone, slices=5, dtype="float32", **options).transform(list(volumes))
    np.testing.assert_allclose(read, expected, atol=2e-5)


@pytest.mark.parametrize("adapter", ["slice2d", "conv3d"])
def test_adapter_learns_through_the_frozen_network_which_stays(cohort, adapter):
    X, y = cohort

    class User:
        pass

    user, device = User(), torch.device("cpu")
    source = find_vision_source(STANDIN)
    shared = borrow_vision_backbone(user, source, device, torch.float32)
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    model = by_slices(adapter=adapter, inputs="image").fit(X, y)
    start = by_slices(adapter=adapter, inputs="image", learning_rate=1e-12).fit(X, y)
    assert model._network().network.vision.backbone is shared
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())
    moved = {k for k, v in model.state_.items() if np.abs(v - start.state_[k]).max() > 1e-6}
    assert any(".adapter." in name for name in moved)
    assert not any(".vision." in name for name in model.state_)
    assert model.architecture_["network"]["target_size"] == (4, 32, 32)


def test_fit_repeats_and_comes_back_from_disk_and_pickle(cohort, fitted, tmp_path):
    X, y = cohort
    again = clone(fitted).fit(X, y)
    assert all(np.array_equal(again.state_[name], v) for name, v in fitted.state_.items())
    expected = fitted.predict_proba(X)
    save_estimator(fitted, tmp_path / "model")
    for model in (load_estimator(tmp_path / "model"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-6)
    trained = sum(array.nbytes for array in fitted.state_.values())
    assert len(pickle.dumps(fitted)) < 1.3 * trained + 20_000


def test_prediction_depends_on_no_other_row(cohort, fitted):
    X = cohort[0]
    single = np.vstack([fitted.predict_proba(X.iloc[[i]]) for i in range(len(X))])
    np.testing.assert_allclose(single, fitted.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize(
    "parameters",
    [
        {"train_mode": "fpm", "image_pool": "mean"},
        {"adapter": "none", "gradient_checkpointing": True},
        {"slices": 20},  # more than there are: volumes are resampled to it first
        {"slices": None, "target_size": (6, 32, 32)},
    ],
    ids=str,
)
def test_variants_fit_and_place_rows_in_the_common_space(cohort, parameters):
    X, y = cohort
    X = X.copy()
    X.iloc[0, 0] = X.iloc[1, 1] = None
    model = by_slices(**parameters).fit(X, y)
    np.testing.assert_allclose(np.linalg.norm(model.transform(X), axis=1), 1, atol=1e-5)


def test_checkpointing_changes_no_gradient(cohort, fitted):
    X, y = cohort
    again = by_slices(gradient_checkpointing=True).fit(X, y)
    for name, values in fitted.state_.items():
        np.testing.assert_allclose(again.state_[name], values, atol=1e-5)


def test_maps_have_the_volumes_size_and_attention_is_refused(cohort, fitted):
    X = cohort[0].iloc[:2]
    for kind in ("gradient", "occlusion", "adapter"):
        maps = fitted.volume_maps(X, kind=kind)
        assert maps.shape == (2, 10, 40, 36)
        assert np.abs(maps).max() > 0
    with pytest.raises(ParameterError, match=r"attention.*standin-image"):
        fitted.volume_maps(X, kind="attention")


def test_model_read_in_another_way_is_refused_after_the_fit(cohort, fitted):
    changed = pickle.loads(pickle.dumps(fitted))
    changed.set_params(vision_encoder__slice_pooling="max")
    with pytest.raises(BackboneMismatchError):
        changed.predict(cohort[0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"train_mode": "full"}, "'tlp' or 'fpm'"),
        ({"slices": None}, "slices= to a number"),
        ({"slices": "all"}, "slices= to a number"),
        ({"encoder": {"plane": "coronal"}}, "orientation='PIL'"),
        ({"target_size": (4, 32, 40)}, "reads 4 slices of"),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused(cohort, parameters, message):
    with pytest.raises(ParameterError, match=message):
        by_slices(**parameters).fit(*cohort)
