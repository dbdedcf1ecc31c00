"""Complications of myocardial infarction: TGMM, its network alone, and gradient boosting.

AUROC of chronic heart failure and of death from what is known at admission, on the bundled 1,143
patients with all defaults: stratified five-fold cross-validation, mean of three partitions, none of
which the defaults were chosen on. Intervals and paired differences are bootstrapped over patients.
Then the same fit on tables of which a share of the modalities was hidden at random, in training and
in test, and no patient lacks all.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import SmallMultimodalClassifier, TGMMClassifier
from medfusion_sdk.datasets import load_mi_complications
from medfusion_sdk.metrics import score_table

PARTITIONS = 3
MODALITIES = ["history", "ecg", "labs"]
BOOSTING, TGMM, NETWORK = "gradient boosting", "TGMM", "TGMM's network alone"
TARGETS = {"ZSN": "heart failure", "death": "death"}


def logistic() -> Pipeline:
    """Imputed, flagged and scaled, with the penalty that did best of 0.001, 0.01, ..., 1."""
    return make_pipeline(
        SimpleImputer(add_indicator=True),
        StandardScaler(),
        LogisticRegression(C=0.01, max_iter=2000),
    )


def models() -> dict[str, tuple[object, list[str]]]:
    """Name -> estimator and the modalities that it reads."""
    slow = {"learning_rate": 0.04, "max_iter": 200, "max_leaf_nodes": 8, "random_state": 0}
    return {
        **{f"logistic regression, {name}": (logistic(), [name]) for name in MODALITIES},
        "logistic regression, all": (logistic(), MODALITIES),
        "small model": (SmallMultimodalClassifier(random_state=0), MODALITIES),
        BOOSTING: (HistGradientBoostingClassifier(random_state=0), MODALITIES),
        "gradient boosting, slower": (HistGradientBoostingClassifier(**slow), MODALITIES),
        TGMM: (TGMMClassifier(random_state=0), MODALITIES),
    }


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Logarithm of the odds, finite."""
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def predict(
    model: object, X: pd.DataFrame, y: pd.Series, test: np.ndarray
) -> dict[str, np.ndarray]:
    """Log-odds of a fold by a model that is fitted on the others; TGMM's parts, too."""
    train = np.delete(np.arange(len(X)), test)
    X = X.loc[:, X.iloc[train].nunique() > 1]  # boosting takes no column without a value
    fitted = clone(model).fit(X.iloc[train], y.iloc[train])  # type: ignore[attr-defined]
    found = {"": log_odds(fitted.predict_proba(X.iloc[test])[:, 1])}
    if isinstance(model, TGMMClassifier):
        told = fitted.explain(X.iloc[test])
        own = told[(told["quantity"] == "probability_network") & (told["label"] == 1)]
        found[NETWORK] = log_odds(own["value"].to_numpy())
    return found


def out_of_fold(
    chosen: dict[str, tuple[object, list[str]]], X: pd.DataFrame, y: pd.Series, seed: int
) -> dict[str, np.ndarray]:
    """Scores of every model on one partition."""
    scores: dict[str, np.ndarray] = {}
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    for _, test in folds.split(X, y):
        for name, (model, kept) in chosen.items():
            columns = [c for c in X if c.partition("__")[0] in kept]
            for part, values in predict(model, X[columns], y, test).items():
                scores.setdefault(part or name, np.empty(len(y)))[test] = values
    return scores


def complete(X: pd.DataFrame) -> None:
    """Compare all models where nothing was hidden."""
    for target, meaning in TARGETS.items():
        y = load_mi_complications(target=target).target
        partitions = [out_of_fold(models(), X, y, seed) for seed in range(PARTITIONS)]
        stacked = {
            name: np.stack([one[name] for one in partitions], axis=1) for name in partitions[0]
        }
        # One column per partition: their mean is what is resampled, patient by patient.
        truth = np.repeat(y.to_numpy()[:, None], PARTITIONS, axis=1)
        table = score_table(truth, stacked, reference=BOOSTING, random_state=0)
        print(f"\n{meaning}, {int(y.sum())} of {len(y)} patients", flush=True)
        print(table.round(3).to_string(), flush=True)


def hide(X: pd.DataFrame, share: float, seed: int = 0) -> pd.DataFrame:
    """Hide a share of all modalities; each row keeps one of those that it has."""
    rng = np.random.default_rng(seed)
    blocks = {name: [c for c in X if c.startswith(f"{name}__")] for name in MODALITIES}
    present = np.column_stack([X[columns].notna().any(axis=1) for columns in blocks.values()])
    chance = np.where(present, rng.random(present.shape), np.inf)
    kept = chance.argmin(axis=1)
    chance[np.arange(len(X)), kept] = np.inf
    n_hidden = round(share * present.size)
    order = np.argsort(np.where(np.isfinite(chance), rng.random(chance.shape), np.inf), axis=None)
    rows, modalities = np.unravel_index(order[:n_hidden], present.shape)
    hidden = X.copy()
    for m, columns in enumerate(blocks.values()):
        hidden.iloc[rows[modalities == m], X.columns.get_indexer(columns)] = np.nan
    return hidden


def incomplete(X: pd.DataFrame) -> None:
    """Hide modalities, and fit and predict on what is left."""
    chosen = {name: models()[name] for name in (BOOSTING, TGMM)}
    for target, meaning in TARGETS.items():
        y = load_mi_complications(target=target).target
        for share in (0.0, 0.2, 0.4, 0.6):
            scores = out_of_fold(chosen, hide(X, share), y, seed=0)
            found = {name: f"{roc_auc_score(y, values):.3f}" for name, values in scores.items()}
            print(f"{meaning}, {share:.0%} hidden: {found}", flush=True)


def main() -> int:
    """Print both tables."""
    X = load_mi_complications().data
    complete(X)
    print("\nshare of modalities hidden, one partition", flush=True)
    incomplete(X)
    return 0


if __name__ == "__main__":
    sys.exit(main())
