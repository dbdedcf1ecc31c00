"""DualAdapterEmbedder: representations learnt without labels, on the classifier's machinery."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from medfusion_sdk import DualAdapterEmbedder, load_estimator, save_estimator
from medfusion_sdk.datasets import load_ptbxl


def embedder(**parameters):
    quick = {"backbone": "standin-text", "max_epochs": 2, "random_state": 0}
    return DualAdapterEmbedder(**quick | parameters)


@pytest.fixture(scope="module")
def records():
    ptbxl = load_ptbxl()
    return ptbxl.data[["ecg", "report"]].head(30), ptbxl.target["NORM"].head(30)


@parametrize_with_checks([DualAdapterEmbedder(backbone="standin-text")])
def test_embedder_passes_scikit_learns_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("signal_encoder", ["auto", "cnn"])
def test_learns_without_labels_and_embeds_each_row_alone(records, signal_encoder, tmp_path):
    X, y = records
    X = X.assign(ecg=[signal[:, :200] for signal in X["ecg"]])
    model = embedder(signal_encoder=signal_encoder).fit(X)
    whole = model.transform(X)
    again = embedder(signal_encoder=signal_encoder).fit(X, y).transform(X)
    np.testing.assert_array_equal(again, whole)
    one_by_one = np.concatenate([model.transform(X.iloc[[i]]) for i in range(3)])
    np.testing.assert_allclose(one_by_one, whole[:3], atol=1e-5)
    lacking = X.copy()
    lacking.iloc[0, 1], lacking.iloc[1, 0] = None, None
    np.testing.assert_allclose(np.linalg.norm(model.transform(lacking)[:2], axis=1), 1, atol=1e-5)
    save_estimator(model, tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    np.testing.assert_allclose(loaded.transform(X), whole, atol=1e-6)


def test_objective_falls_and_has_its_parts(records):
    history = embedder(max_epochs=8, contrastive_start=0.5).fit(records[0]).history_
    parts = ["train_temporal", "train_textual", "train_between"]
    assert np.isfinite(history[parts]).all().all()
    assert history["train_loss"].iloc[3] < history["train_loss"].iloc[0]
    views = history["train_temporal"] + history["train_textual"]
    counted = (history["train_loss"] - views) > 1e-3  # the terms between the paths
    assert counted.tolist() == [False] * 4 + [True] * 4


def test_stands_before_any_classifier(records):
    X, y = records
    probe = make_pipeline(embedder(), LogisticRegression()).fit(X, y)
    assert probe.predict_proba(X).shape == (30, 2)
