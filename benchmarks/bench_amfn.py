"""PhysioNet 2012, set-a, death in hospital: AMFN, its expert alone, and gradient boosting.

Stratified five-fold cross-validation on the table of ``load_physionet2012`` with all defaults.
Boosting reads the summaries of each channel (mean, least, largest, last, count) and the statics.
The threshold for min(sensitivity, precision) is chosen on a quarter of each training part, which
the model that it is for was fitted without.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline

from benchmarks.common import data_folder
from medfusion_sdk import AMFNClassifier
from medfusion_sdk.datasets import load_physionet2012

FOLDS = 5
AUROC, AUPRC, BALANCE = "AUROC", "AUPRC", "min(sensitivity, precision)"


class Summaries(TransformerMixin, BaseEstimator):
    """Mean, least, largest, last and count of each channel, and the numeric columns."""

    def fit(self, X: pd.DataFrame, y: object = None) -> Summaries:
        """Find out how many channels each series has."""
        self.channels_ = {
            name: len(next(cell for cell in X[name] if cell is not None))
            for name in X
            if X[name].map(lambda cell: cell is None or isinstance(cell, np.ndarray)).all()
        }
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Summarise."""
        parts = [X.drop(columns=list(self.channels_)).to_numpy(dtype=float)]
        for name, n_channels in self.channels_.items():
            empty = np.full((n_channels, 1), np.nan)
            cells = [empty if cell is None else cell for cell in X[name]]
            parts.append(np.array([[_summary(channel) for channel in cell] for cell in cells]))
        return np.hstack([part.reshape(len(X), -1) for part in parts])


def _summary(channel: np.ndarray) -> list[float]:
    seen = channel[~np.isnan(channel)]
    if not len(seen):
        return [np.nan, np.nan, np.nan, np.nan, 0.0]
    return [seen.mean(), seen.min(), seen.max(), seen[-1], len(seen)]


def balance(y: np.ndarray, score: np.ndarray, threshold: float) -> float:
    """The smaller one of sensitivity and precision."""
    called = score >= threshold
    hits = (called & (y == 1)).sum()
    return min(hits / max(y.sum(), 1), hits / max(called.sum(), 1))


def best_threshold(y: np.ndarray, score: np.ndarray) -> float:
    """Where the smaller one of sensitivity and precision is largest."""
    precision, sensitivity, thresholds = precision_recall_curve(y, score)
    return thresholds[np.minimum(precision, sensitivity)[:-1].argmax()]


def one_fold(model: object, X: pd.DataFrame, y: pd.Series, train: np.ndarray, test: np.ndarray):
    """Scores of a model on a fold, and seconds of its fit."""
    learn, choose = train_test_split(train, test_size=0.25, stratify=y.iloc[train], random_state=0)
    part = clone(model).fit(X.iloc[learn], y.iloc[learn])
    threshold = best_threshold(y.iloc[choose], part.predict_proba(X.iloc[choose])[:, 1])
    start = time.perf_counter()
    whole = clone(model).fit(X.iloc[train], y.iloc[train])
    seconds = time.perf_counter() - start
    score, truth = whole.predict_proba(X.iloc[test])[:, 1], y.iloc[test].to_numpy()
    return {
        AUROC: roc_auc_score(truth, score),
        AUPRC: average_precision_score(truth, score),
        BALANCE: balance(truth, score, threshold),
        "seconds": seconds,
    }


def main() -> int:
    """Print the table, fold by fold and in the mean."""
    X, y = load_physionet2012(data_folder("physionet2012"), sets="a", return_X_y=True)
    models = {
        "gradient boosting on summaries": make_pipeline(
            Summaries(),
            HistGradientBoostingClassifier(
                learning_rate=0.04, max_iter=200, max_leaf_nodes=8, random_state=0
            ),
        ),
        "AMFN without its expert": AMFNClassifier(expert=False, random_state=0),
        "AMFN": AMFNClassifier(random_state=0),
    }
    found = []
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for number, (train, test) in enumerate(folds.split(X, y)):
        for name, model in models.items():
            found.append({"model": name, "fold": number, **one_fold(model, X, y, train, test)})
            print(pd.Series(found[-1]).to_frame().T.to_string(header=False), flush=True)
    table = pd.DataFrame(found).drop(columns="fold").groupby("model", sort=False)
    print(table.agg(["mean", "std"]).round(4).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
