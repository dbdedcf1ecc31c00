"""Cells at the edge of what the dual adapter reads, and memory at its edge."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel

from medfusion_sdk import DualAdapterClassifier, DualAdapterEmbedder, TextEncoder
from medfusion_sdk.backbones import precision
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.estimators._probe import logistic_head
from medfusion_sdk.estimators._targets import Targets
from medfusion_sdk.exceptions import (
    CellError,
    EncoderWarning,
    ModalityError,
    ParameterError,
    SignalError,
    TrainingWarning,
)
from medfusion_sdk.nn.dual_adapter import DualAdapterNetwork
from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask
from tests.text_checkpoints import KINDS, edit_json, write_checkpoint


def dual(backbone="standin-text", **parameters):
    quick = {"max_epochs": 1, "random_state": 0, "signal_encoder": "cnn", "duration": 1.0}
    return DualAdapterClassifier(backbone, **quick | {"adapter_layers": 1} | parameters)


@pytest.fixture(scope="module")
def records():
    X, y = load_ptbxl(return_X_y=True)
    return X[["ecg", "report"]].head(20), y["NORM"].head(20).to_numpy()


@pytest.fixture(scope="module")
def fitted(records):
    return dual().fit(*records)


def test_empty_text_is_a_text_and_not_a_missing_one(records, fitted):
    X = records[0].head(2).copy()
    X.iloc[0, 1], X.iloc[1, 1] = "", None
    told = fitted.explain(X)
    paths = told[told["quantity"] == "probability_textual"]["row"].unique()
    assert paths.tolist() == [X.index[0]]
    assert np.isfinite(fitted.predict_proba(X)).all()


def test_flat_channels_and_flat_signals_are_learnt_from(records):
    X, y = records
    flat = X["ecg"].tolist()
    flat[0] = np.zeros_like(flat[0])
    flat[1] = np.where(np.arange(12)[:, None] == 3, 1.5, flat[1])
    model = dual().fit(X.assign(ecg=flat), y)
    assert np.isfinite(model.predict_proba(X.assign(ecg=flat))).all()


def test_text_beyond_the_limit_counts_by_its_head(records, fitted):
    X = records[0].head(1)
    words = [f"word{i}" for i in range(5000)]
    long, head = (X.assign(report=" ".join(text)) for text in (words, words[:400]))
    other = X.assign(report=" ".join(["other", *words]))
    with pytest.warns(EncoderWarning, match="1 of 1 texts of column 'report'") as caught:
        cut = fitted.predict_proba(long)
    assert len(caught) == 1  # token states and vector have the same head
    with pytest.warns(EncoderWarning):
        np.testing.assert_array_equal(cut, fitted.predict_proba(head))
    with pytest.warns(EncoderWarning):
        assert np.abs(cut - fitted.predict_proba(other)).max() > 0


def test_secondary_text_encoder_that_cuts_elsewhere_tells_for_itself(records):
    X, y = records
    model = dual(secondary_text_encoder=TextEncoder("standin-text", max_length=5)).fit
    with pytest.warns(EncoderWarning, match="5 tokens") as caught:
        model(X, y)
    assert len(caught) == 1


@pytest.mark.parametrize("combine", ["mean", "cross_attention"])
def test_windows_of_a_long_text_all_have_a_say(records, combine):
    X, y = records
    model = dual(long_text="chunks", combine=combine, max_text_tokens=8).fit(X, y)
    long = X.head(1).assign(report="sinus rhythm " * 30 + "normal")
    other = X.head(1).assign(report="sinus rhythm " * 30 + "infarction")
    assert np.abs(model.predict_proba(long) - model.predict_proba(other)).max() > 1e-7
    together = model.predict_proba(pd.concat([X.head(3), long]))
    np.testing.assert_allclose(together[3], model.predict_proba(long)[0], atol=1e-6)
    told = model.explain(long)
    words = told[(told["quantity"] == "attribution") & (told["modality"] == "text")]["part"]
    assert list(words).count("sinus") == 30
    assert list(words).count("[CLS]") == 11  # 61 words, 6 beside the special tokens
    model_of_short_texts = dual(long_text="chunks", combine=combine).fit(X, y)
    cut = dual(combine=combine).fit(X, y)
    np.testing.assert_allclose(
        model_of_short_texts.predict_proba(X), cut.predict_proba(X), atol=1e-6
    )


def test_one_sequence_of_both_modalities_has_no_windows(records):
    with pytest.raises(ParameterError, match="symmetric"):
        dual(combine="symmetric", long_text="chunks").fit(*records)


def test_tokenizer_that_pads_on_the_left_changes_nothing(records, tmp_path):
    X, y = records
    folders = [write_checkpoint(tmp_path / side, "gpt2") for side in ("left", "right")]
    for folder in folders:
        edit_json(folder / "tokenizer_config.json", padding_side=folder.name)
    left, right = (
        dual(folder, max_text_tokens=12, long_text="chunks").fit(X, y) for folder in folders
    )
    np.testing.assert_array_equal(left.predict_proba(X), right.predict_proba(X))


@pytest.mark.parametrize("encoder", ["cnn", "auto"])
def test_hole_in_a_signal_is_an_error_that_names_its_row(records, encoder):
    X, y = records
    holes = X["ecg"].tolist()
    holes[4] = holes[4].astype(float).copy()
    holes[4][2, 10:90] = np.nan
    with pytest.raises(CellError, match=rf"row {X.index[4]}\b.*'ecg'"):
        dual(signal_encoder=encoder).fit(X.assign(ecg=holes), y)


def test_one_sample_is_no_series(records):
    X, y = records
    points = [signal[:1, :1] for signal in X["ecg"]]
    with pytest.raises(SignalError, match="single sample"):
        dual(patch_len=1, duration=None).fit(X.assign(ecg=points), y)


def test_one_row_can_be_trained_on_alone(records):
    X, y = records
    model = dual(batch_size=1).fit(X.head(2), y[:2] ^ [0, 1])
    assert np.isfinite(model.predict_proba(X)).all()


def test_batches_are_halved_where_memory_runs_out_as_if_asked_for(records, monkeypatch):
    X, y = records
    own = SupervisedTask.loss

    def loss(task, batch, weight):
        if len(batch["signal"]) > 10:
            raise MemoryError("out of memory")
        return own(task, batch, weight)

    small = dual(batch_size=10).fit(X, y)
    monkeypatch.setattr(SupervisedTask, "loss", loss)
    with pytest.warns(TrainingWarning, match="10 rows"):
        halved = dual().fit(X, y)
    for name, weight in small.state_.items():
        np.testing.assert_array_equal(halved.state_[name], weight)


def test_missing_texts_do_not_hinder_the_start_of_the_head(records, monkeypatch):
    X, y = records
    X = pd.concat([X] * 6, ignore_index=True)
    X["report"] = [None if i % 7 == 0 else " ".join(["word"] * 60) for i in range(len(X))]
    read = []
    own = DualAdapterNetwork.frozen_readouts

    def frozen_readouts(network, tokens):
        read.append(tokens.lengths.tolist())
        return own(network, tokens)

    monkeypatch.setattr(DualAdapterNetwork, "frozen_readouts", frozen_readouts)
    model = dual().fit(X, np.tile(y, 6))
    assert len(read[0]) == X["report"].notna().sum()
    assert min(read[0]) > 0
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize("n_classes", [3, 4])
def test_class_without_a_text_starts_at_zero(n_classes):
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(n_classes), 20)[20:]  # nothing of the first class
    z = rng.normal(size=(len(codes), 5)) + codes[:, None]
    targets = Targets(np.arange(n_classes), codes, np.arange(n_classes))
    coef, bias = logistic_head(z, targets, np.ones(len(codes)), C=1.0)
    assert coef.shape == (n_classes, 5)
    assert not coef[0].any()
    assert bias[0] == 0
    seen = z @ coef[1:].T + bias[1:]
    assert np.mean(seen.argmax(axis=1) + 1 == codes) > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_fit_leaves_the_language_model_as_it_was(records, tmp_path, kind):
    folder = write_checkpoint(tmp_path / kind, kind)
    X, y = records
    model = dual(folder, max_text_tokens=12, long_text="chunks", learning_rate=0.1).fit(X, y)
    published = AutoModel.from_pretrained(folder).state_dict()
    after = model._network().network.lm.backbone.model.state_dict()
    assert len(after) > 10
    assert all(torch.equal(published[name], weight) for name, weight in after.items())


def test_learning_without_labels_needs_a_signal(records):
    X, y = records
    with pytest.raises(ModalityError, match="signal="):
        DualAdapterEmbedder("standin-text").fit(X[["report"]])
    with pytest.raises(ModalityError, match="signal="):
        DualAdapterClassifier("standin-text", pretrain="contrastive").fit(X[["report"]], y)


def test_explanations_find_their_row_under_any_index(records, fitted):
    X = records[0].head(3)
    plain = fitted.explain(X.reset_index(drop=True))
    fractions = fitted.explain(X.set_axis([0.5, 2.0, 1.0]))
    pd.testing.assert_frame_equal(plain.drop(columns="row"), fractions.drop(columns="row"))


def test_equal_weights_of_two_are_doubled_rows(records):
    X, y = records
    settings = {"dtype": "float64", "batch_size": 100, "probe": False}
    heavy = dual(**settings).fit(X, y, sample_weight=np.full(len(X), 2.0))
    doubled = dual(**settings).fit(pd.concat([X, X]), np.tile(y, 2))
    for name, weight in doubled.state_.items():
        if "tracked" not in name:
            np.testing.assert_allclose(heavy.state_[name], weight, atol=1e-9)


def test_text_vector_is_in_full_precision_also_where_bfloat16_is_fast(records, monkeypatch):
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.bfloat16)
    X, y = records
    model = dual(dtype="float32").fit(X, y)
    assert model.text_encoder_.dtype == "float32"
    assert model._network().network.lm.dtype == torch.float32
