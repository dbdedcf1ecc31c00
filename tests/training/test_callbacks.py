from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import make_classification
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from medfusion_sdk.training import (
    CallbackSupportMixin,
    FitCallbacks,
    TrainingConfig,
    callbacks,
    load_state,
    predict_batches,
    train,
    with_callbacks,
)

EPOCHS = 6


class Logits(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.layer = nn.Linear(n_features, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, batch):
        return self.layer(batch["x"])[:, 0]

    def loss(self, batch, sample_weight):
        return nn.functional.binary_cross_entropy_with_logits(
            self(batch), batch["y"], sample_weight
        )


class Classifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """The least that an estimator on the engine needs."""

    def __init__(self, max_epochs=EPOCHS):
        self.max_epochs = max_epochs

    @with_callbacks
    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        data = {"x": tensor(X), "y": tensor(y == self.classes_[1])}
        config = TrainingConfig(max_epochs=self.max_epochs, lr=0.05)
        weight = None if sample_weight is None else tensor(sample_weight)
        module = Logits(X.shape[1])
        self.result_ = train(
            module,
            data,
            config=config,
            seed=0,
            sample_weight=weight,
            callbacks=FitCallbacks(self, X, y, sample_weight=sample_weight),
        )
        self.state_ = callbacks._state_alone(module)["state_"]
        return self

    def predict(self, X):
        module = Logits(X.shape[1])
        load_state(module, self.state_)
        return self.classes_[(predict_batches(module, {"x": tensor(X)}) > 0).astype(int)]


class Recorder:
    """A callback that notes each hook, and may ask to stop at an epoch."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.calls = []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, metadata=None):
        self.calls.append(f"end {context.task_name} {context.task_id}")
        self.fitted, self.metadata = fitted_estimator, metadata
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_at

    def teardown(self, estimator, context):
        self.calls.append("teardown")


def tensor(array):
    return torch.as_tensor(np.array(array, dtype=np.float32))


@pytest.fixture(scope="module")
def data():
    return make_classification(120, 6, class_sep=0.8, random_state=0)


def test_scoring_monitor_gets_a_row_per_epoch_of_a_model_that_learns(data):
    monitor = ScoringMonitor(scoring="accuracy")
    model = Classifier().set_callbacks(monitor).fit(*data)
    log = monitor.get_logs().data_as_pandas
    epochs = log[log["task_name"] == "epoch"]
    assert epochs["task_id"].tolist() == list(range(EPOCHS))
    assert epochs["accuracy"].iloc[0] < epochs["accuracy"].iloc[-1] == model.score(*data)
    assert log.loc[log["task_name"] == "fit", "accuracy"].item() == model.score(*data)


def test_scoring_monitor_is_told_of_every_fold(data):
    monitor = ScoringMonitor(scoring="accuracy")
    cross_validate(Classifier(max_epochs=2).set_callbacks(monitor), *data, cv=2)
    assert len(monitor.get_logs(select="all")) == 2


def test_progress_bar_follows_epochs_through_a_pipeline(data, capsys):
    make_pipeline(StandardScaler(), Classifier()).set_callbacks(ProgressBar()).fit(*data)
    shown = capsys.readouterr().out
    assert "Classifier - fit" in shown
    assert "100%" in shown


def test_hooks_are_called_in_order_and_torn_down(data):
    recorder = Recorder()
    Classifier(max_epochs=2).set_callbacks(recorder).fit(*data)
    epochs = [f"{what} epoch {epoch}" for epoch in range(2) for what in ("begin", "end")]
    assert recorder.calls == ["setup", "begin fit 0", *epochs, "end fit 0", "teardown"]


def test_stop_request_ends_the_training_at_that_epoch(data):
    recorder = Recorder(stop_at=3)
    model = Classifier().set_callbacks(recorder).fit(*data)
    assert model.result_.n_epochs == len(model.result_.history) == 3
    assert recorder.calls[-3:] == ["end epoch 2", "end fit 0", "teardown"]


def test_snapshot_handed_to_callbacks_predicts_as_the_final_model(data):
    recorder, weight = Recorder(), np.linspace(0.5, 1.5, 120)
    model = Classifier().set_callbacks(recorder).fit(*data, sample_weight=weight)
    np.testing.assert_array_equal(recorder.fitted.predict(data[0]), model.predict(data[0]))
    assert recorder.metadata == {"sample_weight": weight}


def test_callbacks_are_torn_down_after_an_error(data):
    class Angry(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise OSError("disk full")

    recorder = Angry()
    with pytest.raises(OSError, match="disk full"):
        Classifier().set_callbacks(recorder).fit(*data)
    assert recorder.calls[-1] == "teardown"


def test_callbacks_change_nothing_of_the_fit(data):
    watched = Classifier().set_callbacks(Recorder(), ScoringMonitor(scoring="accuracy"))
    plain = clone(Classifier()).fit(*data)
    watched.fit(*data)
    for name, array in plain.state_.items():
        np.testing.assert_array_equal(array, watched.state_[name])


def test_scikit_learn_without_callbacks_trains_all_the_same(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    spec = importlib.util.spec_from_file_location("callbacks_before_1_9", callbacks.__file__)
    older = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(older)

    class Older(older.CallbackSupportMixin, BaseEstimator):
        @older.with_callbacks
        def fit(self, X, y):
            module = Logits(X.shape[1])
            rows = {"x": tensor(X), "y": tensor(y)}
            config = TrainingConfig(max_epochs=2)
            return train(
                module, rows, config=config, seed=0, callbacks=older.FitCallbacks(self, X, y)
            )

    assert Older().fit(*data).n_epochs == 2
