"""Cells at the edge of what the dual adapter reads, and memory at its edge."""

from __future__ import annotations

import numpy as np
import pytest

from medfusion_sdk import DualAdapterClassifier
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.exceptions import CellError, SignalError, TrainingWarning
from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask
from tests.text_checkpoints import edit_json, write_checkpoint


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
    np.testing.assert_array_equal(fitted.predict_proba(long), fitted.predict_proba(head))
    other = X.assign(report=" ".join(["other", *words]))
    assert np.abs(fitted.predict_proba(long) - fitted.predict_proba(other)).max() > 0


def test_tokenizer_that_pads_on_the_left_changes_nothing(records, tmp_path):
    X, y = records
    folders = [write_checkpoint(tmp_path / side, "gpt2") for side in ("left", "right")]
    for folder in folders:
        edit_json(folder / "tokenizer_config.json", padding_side=folder.name)
    left, right = (dual(folder, max_text_tokens=12).fit(X, y) for folder in folders)
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
