"""A linear classifier on a block table that keeps every promise, and one broken way per check."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted, validate_data

from medfusion_sdk.estimators._scaling import BlockScaling


class LinearToy(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Ridge regression on the classes' indicators, softmax of its scores."""

    def __init__(self, modalities="auto", class_weight=None, batch_size=8, random_state=None):
        self.modalities = modalities
        self.class_weight = class_weight
        self.batch_size = batch_size
        self.random_state = random_state

    # -- the parts that broken toys replace ---------------------------------------------------

    def read(self, X, reset):
        return validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")

    def weigh(self, y, sample_weight):
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
        factors = np.zeros_like(weight)
        seen = weight > 0
        if self.class_weight is None or y.ndim == 2:
            return weight
        factors[seen] = compute_sample_weight(self.class_weight, y[seen])
        return weight * factors

    def start(self, n_columns, n_outputs):
        rng = check_random_state(self.random_state)
        return rng.uniform(-0.1, 0.1, (n_columns, n_outputs))

    def learn_scaling(self, X, weight):
        names = getattr(self, "feature_names_in_", None)
        kept = weight > 0
        return BlockScaling.fit(
            X[kept],
            weight[kept],
            feature_names=names,
            modalities=self.modalities,
            scaling="feature",
        )

    def scale(self, X):
        x, present = self.scaling_.apply(X)
        return np.column_stack([x, present])

    def activate(self, scores):
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    # -- the estimator ------------------------------------------------------------------------

    def fit(self, X, y, sample_weight=None):
        X = self.read(X, True)
        y = np.asarray(y)
        weight = self.weigh(y, sample_weight)
        self.multilabel_ = y.ndim == 2
        self.classes_ = np.arange(y.shape[1]) if self.multilabel_ else self.label(y)
        target = y * 1.0 if self.multilabel_ else (y[:, None] == self.classes_) * 1.0
        self.scaling_ = self.learn_scaling(X, weight)
        inputs = self.inputs(X)
        start = self.start(inputs.shape[1], target.shape[1])
        gram = inputs.T @ (inputs * weight[:, None]) + np.eye(inputs.shape[1])
        pull = inputs.T @ (weight[:, None] * (4.0 * target - 2.0)) + start
        self.state_ = {"weight": np.linalg.solve(gram, pull)}
        return self

    def label(self, y):
        return np.unique(y)

    def inputs(self, X):
        return np.column_stack([self.scale(X), np.ones(len(X))])

    def scores(self, X):
        check_is_fitted(self)
        return self.inputs(self.read(X, False)) @ self.state_["weight"]

    def predict_proba(self, X):
        scores = self.scores(X)
        if self.multilabel_:
            return 1.0 / (1.0 + np.exp(-scores))
        return self.activate(scores)

    def predict(self, X):
        proba = self.predict_proba(X)
        if self.multilabel_:
            return (proba > 0.5).astype(int)
        return self.classes_[proba.argmax(axis=1)]

    def transform(self, X):
        return self.inputs(self.read(X, False))

    def get_feature_names_out(self, input_features=None):
        return np.array([f"lineartoy{i}" for i in range(len(self.state_["weight"]))])

    def explain(self, X):
        _, present = self.scaling_.apply(self.read(X, False))
        index = pd.MultiIndex.from_product([X.index, self.scaling_.names])
        table = index.to_frame(index=False, name=["row", "modality"])
        return table.assign(present=present.ravel().astype(float))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.classifier_tags.multi_label = True
        return tags


class FillsWithTableMean(LinearToy):
    def scale(self, X):
        mean = pd.DataFrame(X).mean().fillna(0.0).to_numpy()
        return np.where(np.isnan(X), mean, X)


class FillsWithZero(LinearToy):
    def scale(self, X):
        return np.nan_to_num(X)


class AcceptsEmptyRows(LinearToy):
    def scale(self, X):
        rows = np.isnan(X).all(axis=1)
        return super().scale(np.where(rows[:, None], 0.0, X))

    def learn_scaling(self, X, weight):
        return super().learn_scaling(X, weight * ~np.isnan(X).all(axis=1))


class CallsEveryEmptyRowTheFirst(LinearToy):
    def read(self, X, reset):
        X = super().read(X, reset)
        if np.isnan(X).all(axis=1).any():
            raise ValueError("row 0 is empty")
        return X


class KeepsSilentOnLostModality(LinearToy):
    def learn_scaling(self, X, weight):
        return super().learn_scaling(np.where(np.isnan(X).all(axis=0), 0.0, X), weight)


class DividesByPresentRows(LinearToy):
    def activate(self, scores):
        return super().activate(scores) * self.factor_

    def scale(self, X):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.factor_ = 1.0 / (~np.isnan(X)).any(axis=0).all()
        return super().scale(X)


class PassesHolesOn(LinearToy):
    def predict_proba(self, X):
        holes = np.isnan(self.read(X, False)).all(axis=0) | (np.isnan(X).mean(axis=0) > 0.45)
        return super().predict_proba(X) * np.where(holes.any(), np.nan, 1.0)


class NoNullableColumns(LinearToy):
    def read(self, X, reset):
        if any(isinstance(dtype, pd.Float64Dtype) for dtype in X.dtypes):
            X = X.fillna(0.0)
        return super().read(X, reset)


class BatchNorm(LinearToy):
    def scores(self, X):
        scores = super().scores(X)
        return scores - scores.mean(axis=0)


class NormalisesEachBatch(LinearToy):
    def scores(self, X):
        scores = super().scores(X)
        parts = np.split(scores, range(self.batch_size, len(scores), self.batch_size))
        return np.concatenate([part - part.mean(axis=0) for part in parts])


class SmoothsOverNeighbours(LinearToy):
    def scores(self, X):
        scores = super().scores(X)
        return scores + 0.1 * np.roll(scores, 1, axis=0)


class ScalesOnAllRows(LinearToy):
    def learn_scaling(self, X, weight):
        return super().learn_scaling(X, np.ones(len(X)))


class SquaresWeights(LinearToy):
    def weigh(self, y, sample_weight):
        return super().weigh(y, sample_weight) ** 2


class BalancesOtherwise(LinearToy):
    def weigh(self, y, sample_weight):
        return np.sqrt(super().weigh(y, None)) * (1.0 if sample_weight is None else sample_weight)


class DrawsGlobally(LinearToy):
    def start(self, n_columns, n_outputs):
        return torch.rand(n_columns, n_outputs, dtype=torch.float64).numpy()


class SeedsGlobally(LinearToy):
    def start(self, n_columns, n_outputs):
        random.seed(0)
        return super().start(n_columns, n_outputs)


class SetsThreads(LinearToy):
    def start(self, n_columns, n_outputs):
        torch.set_num_threads(torch.get_num_threads() % 2 + 1)
        return super().start(n_columns, n_outputs)


class WritesIntoArray(LinearToy):
    def read(self, X, reset):
        values = X.to_numpy()
        values *= 1.0
        return super().read(X, reset)


class FillsTheCallersTable(LinearToy):
    def read(self, X, reset):
        values = super().read(X, reset)
        X.iloc[0, 0] = 0.0
        return values


class ChangesItsParameters(LinearToy):
    def start(self, n_columns, n_outputs):
        self.modalities = dict(self.scaling_.blocks)
        return super().start(n_columns, n_outputs)


class RoundsSinglePrecision(LinearToy):
    def read(self, X, reset):
        single = (X.dtypes == np.float32).all()
        return super().read(X.round(1) if single else X, reset)


class IgnoresNames(LinearToy):
    def read(self, X, reset):
        values = np.asarray(X, dtype=float)
        if reset:
            self.n_features_in_ = values.shape[1]
        return values[:, : self.n_features_in_]

    def learn_scaling(self, X, weight):
        ranges = {str(start): list(range(start, start + 4)) for start in range(0, X.shape[1], 4)}
        return BlockScaling.fit(X, weight, feature_names=None, modalities=ranges, scaling="block")


class ReadsFirstBlockOnly(LinearToy):
    def scale(self, X):
        return super().scale(X)[:, -6:-3]


class Unnormalised(LinearToy):
    def activate(self, scores):
        return 0.9 * super().activate(scores)


class FirstSeenFirst(LinearToy):
    def label(self, y):
        return y[np.sort(np.unique(y, return_index=True)[1])]


class LabelsCompete(LinearToy):
    def predict_proba(self, X):
        return self.activate(self.scores(X))


class ForgetsOnPickling(LinearToy):
    def __getstate__(self):
        state = super().__getstate__()
        rounded = {"weight": state["state_"]["weight"].round(2)} if "state_" in state else {}
        return state | {"state_": rounded}


class KeepsItsModule(LinearToy):
    def start(self, n_columns, n_outputs):
        self.module_ = torch.nn.Linear(2, 2)
        return super().start(n_columns, n_outputs)


class KeepsTensors(LinearToy):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.state_["note"] = "a text"
        return self


class CountsItsClones(LinearToy):
    n_fits = 0

    def start(self, n_columns, n_outputs):
        CountsItsClones.n_fits += 1
        return super().start(n_columns, n_outputs) + CountsItsClones.n_fits


class Remembers(LinearToy):
    def start(self, n_columns, n_outputs):
        self.n_fits = getattr(self, "n_fits", 0) + 1
        return super().start(n_columns, n_outputs) * self.n_fits


class NamesTooFew(LinearToy):
    def get_feature_names_out(self, input_features=None):
        return super().get_feature_names_out()[1:]


class ExplainsPresentOnly(LinearToy):
    def explain(self, X):
        return super().explain(X).query("present > 0")


class TrainsItsSmallModel(LinearToy):
    """Wraps a small model and goes on training it."""

    def __init__(self, small=None, random_state=None):
        super().__init__(random_state=random_state)
        self.small = small

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.small_ = LinearToy(random_state=0).fit(np.asarray(X, dtype=float), y)
        self.small_.state_["weight"] += 0.01
        return self
