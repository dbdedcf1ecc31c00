"""DualAdapterClassifier on cohort tables: roles, missing modalities, state, searches."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict

from medfusion_sdk import (
    DualAdapterClassifier,
    DualAdapterEmbedder,
    SignalEncoder,
    load_estimator,
    save_estimator,
)
from medfusion_sdk.backbones import precision, standin_text
from medfusion_sdk.estimators._probe import logistic_head, standardisation
from medfusion_sdk.estimators._targets import Targets
from medfusion_sdk.exceptions import (
    BackboneMismatchError,
    ModalityError,
    ModalityWarning,
    ParameterError,
    SignalError,
)
from tests.estimators.dual_models import dual


def test_finds_its_columns_and_says_what_it_leaves_unread(records):
    X, y = records
    model = dual().fit(X, y)
    assert (model.signal_column_, model.text_column_) == ("ecg", "report")
    with pytest.warns(ModalityWarning, match="'age'"):
        dual().fit(X.assign(age=50.0), y)


def test_asks_which_column_where_it_could_be_two(records):
    X, y = records
    two = X.assign(summary=X["report"])
    with pytest.raises(ModalityError, match="text='report'"):
        dual().fit(two, y)
    with pytest.raises(ModalityError, match="signal='ecg'"):
        dual().fit(X.assign(other=X["ecg"]), y)
    # Calibration's folds follow what a row holds, the column that isn't read included.
    chosen = dual(text="summary", calibrate=False).fit(two, y)
    expected = dual(calibrate=False).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(chosen.predict_proba(two), expected)
    with pytest.raises(ModalityError, match="no such column"):
        dual(text="note").fit(X, y)
    with pytest.raises(ModalityError, match="neither a signal nor a text"):
        dual().fit(X.assign(ecg=None, report=None), y)


def test_equal_seeds_give_equal_bits_and_state_holds_adapters_alone(records, fitted):
    X, y = records
    again = dual().fit(X, y)
    assert all(np.array_equal(again.state_[k], v) for k, v in fitted.state_.items())
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    trained = sum(array.nbytes for array in fitted.state_.values())
    assert not any("model." in name for name in fitted.state_)
    assert len(pickle.dumps(fitted)) < 1.3 * trained + 20_000


@pytest.mark.parametrize("kind", ["frozen", "published"])
def test_predictions_depend_on_the_row_alone(records, fitted, published, kind):
    model, X = (fitted, records[0]) if kind == "frozen" else published
    whole = model.predict_proba(X)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(model.predict_proba(X.iloc[order]), whole[order], atol=1e-5)
    one_by_one = [model.predict_proba(X.iloc[[i]])[0] for i in range(4)]
    np.testing.assert_allclose(one_by_one, whole[:4], atol=1e-5)
    small = clone(model).set_params(batch_size=7)
    for name, value in vars(model).items():
        if name.endswith("_") or name.startswith("_"):
            setattr(small, name, value)
    np.testing.assert_allclose(small.predict_proba(X), whole, atol=1e-5)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(model)).predict_proba(X), whole)


@pytest.mark.parametrize("kind", ["frozen", "published"])
def test_rows_may_lack_a_modality_but_not_both(records, fitted, published, kind):
    model, X = (fitted, records[0].copy()) if kind == "frozen" else (published[0], published[1])
    X = X.head(6).copy()
    whole = model.predict_proba(X)
    lacking = X.copy()
    lacking.iloc[0, 1] = None
    lacking.iloc[1, 0] = None
    lacking.iloc[2, 1] = ""
    found = model.predict_proba(lacking)
    assert np.isfinite(found).all()
    assert np.abs(found[:3] - whole[:3]).max() > 1e-4
    np.testing.assert_allclose(found[3:], whole[3:], atol=1e-5)
    lacking.iloc[0, 0] = None
    with pytest.raises(ModalityError, match="neither signal nor text"):
        model.predict_proba(lacking)
    assert np.isfinite(dual().fit(lacking.iloc[1:], [0, 1, 0, 1, 0]).predict_proba(X)).all()


def test_one_modality_alone_can_be_learnt_from(records):
    X, y = records
    for column in ("ecg", "report"):
        model = dual().fit(X[[column]], y)
        assert np.isfinite(model.predict_proba(X[[column]])).all()
    with pytest.raises(ModalityError, match="no signal"):
        dual(mode="ts_primary").fit(X.assign(ecg=[None, *X["ecg"].iloc[1:]]), y)


def test_flattened_signal_is_the_signal(records, published):
    model, X = published
    flat = np.stack([signal.ravel() for signal in X["ecg"]])
    names = [f"ecg__{i:04d}" for i in range(flat.shape[1])]
    block = pd.DataFrame(flat, columns=names, index=X.index).assign(report=X["report"])
    # Calibration's folds follow what the cells hold.
    model = clone(model).set_params(calibrate=False).fit(X, records[1])
    same = clone(model).set_params(signal="ecg", signal_shape=(12, 200)).fit(block, records[1])
    np.testing.assert_allclose(same.predict_proba(block), model.predict_proba(X), atol=1e-6)
    with pytest.raises(ParameterError, match="signal_shape"):
        clone(same).set_params(signal_shape=(12, 199)).fit(block, records[1])


def test_signals_of_other_lengths_are_refused_by_row(published):
    model, X = published
    X = X.copy()
    X.iat[3, 0] = X.iat[3, 0][:, :150]
    with pytest.raises(SignalError, match="12 of 150"):
        model.predict(X)


def test_patches_must_fit_signal_and_window(records):
    X, y = records
    with pytest.raises(ParameterError, match="patch_len=2000"):
        dual(signal_encoder="cnn", patch_len=2000).fit(X, y)
    with pytest.raises(ParameterError, match="500 patches"):
        dual(signal_encoder="cnn", patch_len=2).fit(X, y)
    with pytest.raises(ParameterError, match="adapter_layers=3"):
        dual(adapter_layers=3).fit(X, y)


@pytest.mark.parametrize("name", ["mode", "combine", "readout", "gate_activation"])
def test_unknown_choices_are_refused(records, name):
    with pytest.raises(ParameterError, match=name):
        dual(**{name: "other"}).fit(*records)


@pytest.mark.parametrize(
    "parameters",
    [
        {"combine": "gate"},
        {"combine": "concat"},
        {"combine": "cross_attention"},
        {"combine": "symmetric"},
        {"share_gates": False, "gate_activation": "identity", "norm_secondary": True},
        {"signal_encoder": SignalEncoder("standin-conv"), "readout": "cls", "lr_gamma": 0.5},
        {"early_stopping": True, "class_weight": "balanced", "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_variants_fit_and_come_back_from_disk(records, parameters, tmp_path):
    X, y = records
    model = dual(**parameters).fit(X, y)
    assert model.transform(X).shape == (30, model._n_features_out)
    save_estimator(model, tmp_path / "model")
    np.testing.assert_allclose(
        load_estimator(tmp_path / "model").predict_proba(X), model.predict_proba(X), atol=1e-6
    )


def test_saved_model_is_refused_on_another_backbone(fitted, tmp_path, monkeypatch):
    save_estimator(fitted, tmp_path / "model")
    other = dict(standin_text._CONFIG, intermediate_size=130)
    monkeypatch.setattr(standin_text, "_CONFIG", other)
    with pytest.raises(BackboneMismatchError, match="fingerprint"):
        load_estimator(tmp_path / "model")


def test_runs_in_a_grid_search_and_cross_validation(records):
    X, y = records
    search = GridSearchCV(dual(), {"adapter_len": [1, 5]}, cv=2, n_jobs=2).fit(X, y)
    assert search.cv_results_["mean_test_score"].shape == (2,)
    labels = np.column_stack([y, 1 - y, np.arange(30) % 2])
    proba = cross_val_predict(dual(), X, labels, cv=2, method="predict_proba")
    assert proba.shape == (30, 3)


def test_head_starts_as_logistic_regression():
    rng = np.random.default_rng(0)
    z, weight = rng.normal(size=(80, 5)) * [1, 2, 3, 4, 5] + 1, rng.uniform(0.5, 2, 80)
    y = (z[:, 0] + rng.normal(size=80) > 1).astype(int) + (z[:, 1] > 3)
    scale, shift = standardisation(z, weight)
    scaled = z * scale + shift
    np.testing.assert_allclose(np.average(scaled, axis=0, weights=weight), 0, atol=1e-12)
    np.testing.assert_allclose(np.average(scaled**2, axis=0, weights=weight), 1)
    for target in (y, (y > 0).astype(int), np.column_stack([y > 0, y > 1, y < 0]).astype(int)):
        coef, bias = logistic_head(scaled, Targets.encode(target), weight, C=0.3)
        scores = scaled @ coef.T + bias
        if target.ndim == 2:
            assert (coef[2] == 0).all()  # a label that no row has
            expected = LogisticRegression(C=0.3).fit(scaled, target[:, 0], weight)
            np.testing.assert_allclose(scores[:, 0], expected.decision_function(scaled))
            continue
        expected = LogisticRegression(C=0.3, max_iter=1000).fit(scaled, target, weight)
        exponential = np.exp(scores - scores.max(axis=1, keepdims=True))
        proba = exponential / exponential.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(proba, expected.predict_proba(scaled), atol=1e-8)


def test_adapters_are_refused_in_another_language_model(records, published):
    X, y = records
    model = dual().fit(X[["ecg"]], y)  # no text, and so no text encoder that would notice
    copied = pickle.loads(pickle.dumps(model)).set_params(backbone="minilm")
    with pytest.raises(BackboneMismatchError, match="minilm"):
        copied.predict(X[["ecg"]])


def test_parameters_set_after_fit_change_nothing(published):
    model, X = published
    whole = model.predict_proba(X)
    changed = pickle.loads(pickle.dumps(model))
    changed.set_params(signal_shape=(1, 7), duration=1.0, fs=50.0, patch_len=3, combine="gate")
    np.testing.assert_array_equal(changed.predict_proba(X), whole)


def test_warm_start_goes_on_from_the_last_fit(records):
    X, y = records
    model = dual(warm_start=True).fit(X, y)
    first = {name: array.copy() for name, array in model.state_.items()}
    model.set_params(learning_rate=1e-12).fit(X, y)
    for name, array in model.state_.items():
        np.testing.assert_allclose(array, first[name], atol=1e-6, err_msg=name)


def test_early_stopping_keeps_its_rows_from_the_probe(records):
    X, _ = records
    X = pd.DataFrame({"report": [f"word{i} other{i % 7} more{i % 11}" for i in range(120)]})
    y = np.random.default_rng(0).integers(0, 2, 120)
    model = dual(early_stopping=True, validation_fraction=0.5, alpha=0.1).fit(X, y)
    assert model.history_["valid_combined"].min() > 0.6


def test_tables_that_do_not_fit_the_fitted_one_are_refused(records, fitted):
    X, y = records
    with pytest.raises(ModalityError, match="DataFrame"):
        fitted.predict(np.zeros((2, 2)))
    with pytest.raises(ModalityError, match="no text in any row"):
        dual(text="report").fit(X.assign(report=None), y)
    block = np.random.default_rng(0).normal(size=(30, 5))
    by_array = dual().fit(block, y)
    with pytest.warns(UserWarning, match="feature names"):
        named = by_array.predict_proba(pd.DataFrame(block, columns=list("abcde")))
    np.testing.assert_array_equal(named, by_array.predict_proba(block))


def test_modality_that_no_predicted_row_has_is_told(records, fitted):
    X = records[0].head(5)
    for column in X.columns:
        with pytest.warns(ModalityWarning, match=column):
            fitted.predict(X.assign(**{column: None}))


def test_frozen_blocks_in_bfloat16_train_alike_and_predict_in_float32(records, tmp_path):
    X, y = records
    exact = dual(dtype="float32").fit(X, y)
    rounded = dual(dtype="bfloat16").fit(X, y)
    assert {weight.dtype for weight in rounded.state_.values()} == {np.dtype("float32")}
    proba = rounded.predict_proba(X)
    np.testing.assert_allclose(proba, exact.predict_proba(X), atol=0.02)
    assert np.abs(proba - exact.predict_proba(X)).max() > 0  # the blocks were rounded in training
    np.testing.assert_allclose(rounded.predict_proba(X.iloc[[4]]), proba[[4]], atol=1e-6)
    save_estimator(rounded, tmp_path / "model")
    np.testing.assert_array_equal(load_estimator(tmp_path / "model").predict_proba(X), proba)


@pytest.mark.parametrize(("fast", "expected"), [("bfloat16", "bfloat16"), ("float32", "float32")])
def test_default_dtype_takes_what_the_hardware_is_fast_in(records, monkeypatch, fast, expected):
    seen = []
    own = DualAdapterClassifier._language_model

    def language_model(self, dtype):
        seen.append(dtype)
        return own(self, dtype)

    monkeypatch.setattr(DualAdapterClassifier, "_language_model", language_model)
    monkeypatch.setattr(precision, "fast_dtype", lambda device: getattr(torch, fast))
    model = dual(max_epochs=1).fit(*records)
    model.predict(records[0])
    assert seen[0] == getattr(torch, expected)
    assert seen[-1] == torch.float32


def test_contrastive_start_is_the_embedders_training(records):
    X, y = records
    settings = {"backbone": "standin-text", "random_state": 0, "path_weight": 0.0, "alpha": 0.0}
    # A step too small to move anything but from where the embedder ended.
    embedder = DualAdapterEmbedder(
        "standin-text", max_epochs=3, batch_size=64, learning_rate=1e-3, random_state=0
    ).fit(X)
    model = DualAdapterClassifier(
        **settings, pretrain="contrastive", pretrain_epochs=3, max_epochs=1, weight_decay=0.01
    ).fit(X, y)
    plain = DualAdapterClassifier(**settings, max_epochs=1).fit(X, y)

    def distance(one, other):
        names = ["network.queries", "network.signal_token.weight"]
        return max(np.abs(one.state_[name] - other.state_[name]).max() for name in names)

    # One epoch of all rows is one step of Adam: at most the learning rate per weight.
    assert distance(model, embedder) <= 1.1e-3
    assert distance(plain, embedder) > 5e-3
    assert len(model.history_) == 1
