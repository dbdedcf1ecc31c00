"""A model is held to the backbones that it was trained on."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from medfusion_sdk import (
    ImageEncoder,
    SignalEncoder,
    TextEncoder,
    load_estimator,
    save_estimator,
)
from medfusion_sdk.backbones import text_source
from medfusion_sdk.exceptions import BackboneMismatchError, WeightsNotFoundError
from tests.st_mem_checkpoints import draw_weights, write_st_mem
from tests.text_checkpoints import write_checkpoint
from tests.vision_checkpoints import write_vision

NOTES = ["sinus rhythm", "st elevation in v2", "no change", "acute change"]


@pytest.fixture
def saved(tmp_path):
    backbone = write_checkpoint(tmp_path / "bert", "bert")
    model = make_pipeline(TextEncoder(backbone), LogisticRegression())
    save_estimator(model.fit(NOTES, [0, 1, 0, 1]), tmp_path / "model")
    np.save(tmp_path / "proba.npy", model.predict_proba(NOTES))
    return tmp_path


def test_other_weights_under_the_same_name_are_refused(saved):
    write_checkpoint(saved / "bert", "bert", seed=1)
    with pytest.raises(BackboneMismatchError, match=r"steps\.0\.1: TextEncoder.*Put the original"):
        load_estimator(saved / "model")


def test_absent_weights_are_asked_for_at_first_use(saved):
    (saved / "bert").rename(saved / "elsewhere")
    loaded = load_estimator(saved / "model")
    with pytest.raises(WeightsNotFoundError):
        loaded.predict(NOTES)


def test_absent_weights_are_checked_once_they_are_there(saved):
    (saved / "bert").rename(saved / "elsewhere")
    loaded = load_estimator(saved / "model")
    write_checkpoint(saved / "bert", "bert", seed=1)
    for _ in range(2):
        with pytest.raises(BackboneMismatchError):
            loaded.predict(NOTES)
    loaded.set_params(textencoder__backbone=saved / "elsewhere")
    np.testing.assert_array_equal(loaded.predict_proba(NOTES), np.load(saved / "proba.npy"))


def test_model_saved_again_without_its_weights_is_still_held_to_them(saved):
    (saved / "bert").rename(saved / "elsewhere")
    save_estimator(load_estimator(saved / "model"), saved / "again")
    write_checkpoint(saved / "bert", "bert", seed=1)
    with pytest.raises(BackboneMismatchError):
        load_estimator(saved / "again")


def test_clone_of_a_loaded_model_is_free_to_learn_on_other_weights(saved):
    (saved / "bert").rename(saved / "elsewhere")
    free = clone(load_estimator(saved / "model"))
    write_checkpoint(saved / "bert", "bert", seed=1)
    free.fit(NOTES, [0, 1, 0, 1])


def test_saving_and_loading_fetch_nothing(tmp_path, monkeypatch):
    asked = []

    def find(*arguments, **options):
        asked.append(options["allow_download"])
        raise WeightsNotFoundError("not here")

    monkeypatch.setattr("medfusion_sdk.encoders.text.find_text_source", find)
    save_estimator(TextEncoder("some/model", allow_download=True), tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    assert asked
    assert not any(asked)
    assert loaded.allow_download
    assert text_source.find_text_source is not find


def other_weights(kind, path):
    if kind == "image":
        return write_vision(path, "vit", seed=1)
    return write_st_mem(path, draw_weights(seed=1))


@pytest.mark.parametrize("kind", ["image", "signal"])
def test_encoders_of_images_and_signals_are_held_to_their_files(tmp_path, kind):
    rng = np.random.default_rng(0)
    if kind == "image":
        path = write_vision(tmp_path / "vit", "vit")
        encoder, cells = ImageEncoder(path), list(rng.random((4, 9, 9)))
    else:
        path = write_st_mem(tmp_path / "encoder.pth")
        encoder = SignalEncoder("st-mem", weights=path, leads=("II",))
        cells = list(rng.standard_normal((4, 1, 2250)))
    model = make_pipeline(encoder, LogisticRegression()).fit(cells, [0, 1, 0, 1])
    save_estimator(model, tmp_path / "model")
    proba = load_estimator(tmp_path / "model").predict_proba(cells)
    np.testing.assert_array_equal(proba, model.predict_proba(cells))
    other_weights(kind, path)
    with pytest.raises(BackboneMismatchError, match="Put the original"):
        load_estimator(tmp_path / "model")
