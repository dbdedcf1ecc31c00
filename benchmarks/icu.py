"""What the scripts on PhysioNet 2012 share: the table, the folds and the simple baselines."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import data_folder
from medfusion_sdk.datasets import load_physionet2012

FOLDS = 5
_BOOSTING = {"learning_rate": 0.04, "max_iter": 200, "max_leaf_nodes": 8, "random_state": 0}


class Summaries(TransformerMixin, BaseEstimator):
    """Mean, least, largest, last and count of each channel, and the numeric columns.

    ``windows=True`` adds mean, least, largest and count of each half and of the last quarter.
    """

    def __init__(self, windows: bool = False) -> None:
        self.windows = windows

    def fit(self, X: pd.DataFrame, y: object = None) -> Summaries:
        """Find out how many channels each series has."""
        self.channels_ = {
            name: len(next(cell for cell in X[name] if cell is not None))
            for name in X
            if X[name].map(lambda cell: cell is None or isinstance(cell, np.ndarray)).all()
        }
        self.n_numbers_ = X.shape[1] - len(self.channels_)
        return self

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Number the columns, so that a block of them has names."""
        each = 17 if self.windows else 5
        n_features = self.n_numbers_ + each * sum(self.channels_.values())
        return np.array([f"{i:04d}" for i in range(n_features)], dtype=object)

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Summarise."""
        parts = [X.drop(columns=list(self.channels_)).to_numpy(dtype=float)]
        for name, n_channels in self.channels_.items():
            empty = np.full((n_channels, 1), np.nan)
            cells = [empty if cell is None else cell for cell in X[name]]
            parts.append(np.array([[self._summary(channel) for channel in cell] for cell in cells]))
        return np.hstack([part.reshape(len(X), -1) for part in parts])

    def _summary(self, channel: np.ndarray) -> list[float]:
        found = [*_levels(channel), _last(channel)]
        if self.windows:
            n = len(channel)
            for part in (channel[: n // 2], channel[n // 2 :], channel[-(n // 4) :]):
                found += _levels(part)
        return found


def _levels(channel: np.ndarray) -> list[float]:
    seen = channel[~np.isnan(channel)]
    if not len(seen):
        return [np.nan, np.nan, np.nan, 0.0]
    return [seen.mean(), seen.min(), seen.max(), len(seen)]


def _last(channel: np.ndarray) -> float:
    seen = channel[~np.isnan(channel)]
    return seen[-1] if len(seen) else np.nan


def load_stays(target: str = "in_hospital_death") -> tuple[pd.DataFrame, pd.Series]:
    """Stays of set-a; ends the script where the set is absent."""
    home = data_folder("physionet2012")
    return load_physionet2012(home, sets="a", target=target, return_X_y=True)


def boosting(*, windows: bool = False) -> Pipeline:
    """Histogram gradient boosting on summaries."""
    return make_pipeline(Summaries(windows), HistGradientBoostingClassifier(**_BOOSTING))


def boosting_of_numbers() -> Pipeline:
    """The same for a number."""
    return make_pipeline(Summaries(), HistGradientBoostingRegressor(**_BOOSTING))


def logistic() -> Pipeline:
    """Logistic regression on imputed summaries."""
    return make_pipeline(
        Summaries(),
        SimpleImputer(add_indicator=True),
        StandardScaler(),
        LogisticRegression(C=0.003, max_iter=2000),
    )


def folds(y: pd.Series, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Five folds, stratified where y holds classes."""
    splitter = StratifiedKFold if y.nunique() == 2 else KFold
    return list(splitter(FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(y)), y))


def out_of_fold(
    model: object, X: pd.DataFrame, y: pd.Series, method: str = "predict_proba", seed: int = 0
) -> np.ndarray:
    """Answers of models that were fitted without the row; of two classes the second's."""
    found = np.empty(len(y))
    for train, test in folds(y, seed):
        answer = getattr(clone(model).fit(X.iloc[train], y.iloc[train]), method)(X.iloc[test])
        found[test] = answer[:, 1] if answer.ndim == 2 else answer
    return found


def mean_of_folds(metric: object, y: pd.Series, score: np.ndarray, seed: int = 0) -> list[float]:
    """Score of each fold apart: out-of-fold scores of several models aren't on one scale."""
    return [metric(y.iloc[test], score[test]) for _, test in folds(y, seed)]


def calibration_line(y: np.ndarray, proba: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the outcome's log-odds on the predicted ones; ideal are 1 and 0."""
    x = logit(np.clip(proba, 1e-6, 1 - 1e-6))[:, None]
    line = LogisticRegression(C=np.inf).fit(x, y)
    return float(line.coef_[0, 0]), float(line.intercept_[0])
