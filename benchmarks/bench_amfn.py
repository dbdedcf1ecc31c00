"""PhysioNet 2012, set-a, death in hospital: AMFN, its expert alone, and simple baselines.

Stratified five-fold cross-validation on the table of ``load_physionet2012`` with all defaults, over
one partition or several (``--partitions 3``). Boosting and logistic regression read summaries of
each channel and the statics; LightGBM reads them too where it is installed. The threshold for
min(sensitivity, precision) is chosen on a quarter of each training part, which the model that it
is for was fitted without. Intervals and paired differences are bootstrapped over stays.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from benchmarks.icu import (
    Summaries,
    boosting,
    calibration_line,
    folds,
    load_stays,
    logistic,
)
from medfusion_sdk import AMFNClassifier
from medfusion_sdk.metrics import score_table

AUROC, AUPRC, BALANCE = "AUROC", "AUPRC", "min(Se, P)"
REFERENCE = "boosting, summaries and windows"
EXPERT, AMFN = "AMFN's expert alone", "AMFN"


def models() -> dict[str, object]:
    """Name -> estimator."""
    return {
        "logistic regression, summaries": logistic(),
        "boosting, summaries": boosting(),
        REFERENCE: boosting(windows=True),
        **({"LightGBM, summaries and windows": lightgbm()} if find_spec("lightgbm") else {}),
        "AMFN without its expert": AMFNClassifier(expert=False, random_state=0),
        AMFN: AMFNClassifier(random_state=0),
    }


def lightgbm() -> object:
    """The best of some settings, chosen by cross-validation on another partition."""
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(
        learning_rate=0.02,
        n_estimators=500,
        num_leaves=15,
        min_child_samples=30,
        colsample_bytree=0.15,
        subsample=0.8,
        subsample_freq=1,
        reg_lambda=10.0,
        random_state=0,
        verbose=-1,
    )
    return make_pipeline(Summaries(windows=True), model)


def balance(y: np.ndarray, score: np.ndarray, threshold: float) -> float:
    """The smaller one of sensitivity and precision."""
    called = score >= threshold
    hits = (called & (y == 1)).sum()
    return min(hits / max(y.sum(), 1), hits / max(called.sum(), 1))


def balanced_threshold(y: np.ndarray, score: np.ndarray) -> float:
    """Where as many are called as are positive: there sensitivity and precision are equal."""
    return float(np.quantile(score, 1 - y.mean()))


def expert_alone(model: AMFNClassifier, X: pd.DataFrame) -> np.ndarray:
    """Probability from the trees without the networks."""
    told = model.explain(X).query("quantity == 'expert'")
    scores = told.pivot(index="row", columns="label", values="value").loc[X.index]
    return expit(scores[1] - scores[0]).to_numpy()


def answers(model: object, X: pd.DataFrame) -> dict[str, np.ndarray]:
    """Probabilities of the model, and of its expert alone where it has one."""
    found = {"": model.predict_proba(X)[:, 1]}
    if getattr(model, "expert_", None) is not None:
        found["expert"] = expert_alone(model, X)
    return found


def one_fold(
    name: str, model: object, X: pd.DataFrame, y: pd.Series, train: np.ndarray, test: np.ndarray
) -> dict[str, dict[str, object]]:
    """Out-of-fold probabilities, scores of the fold and seconds of the fit, model by model."""
    learn, choose = train_test_split(train, test_size=0.25, stratify=y.iloc[train], random_state=0)
    part = answers(clone(model).fit(X.iloc[learn], y.iloc[learn]), X.iloc[choose])
    start = time.perf_counter()
    whole = clone(model).fit(X.iloc[train], y.iloc[train])
    seconds = time.perf_counter() - start
    truth, found = y.iloc[test].to_numpy(), {}
    for key, proba in answers(whole, X.iloc[test]).items():
        threshold = balanced_threshold(y.iloc[choose].to_numpy(), part[key])
        found[EXPERT if key else name] = {
            "proba": proba,
            AUROC: roc_auc_score(truth, proba),
            AUPRC: average_precision_score(truth, proba),
            BALANCE: balance(truth, proba, threshold),
            "Brier": brier_score_loss(truth, proba),
            "seconds": seconds,
        }
    return found


def partition(X: pd.DataFrame, y: pd.Series, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of every fold, and out-of-fold probabilities, of one partition."""
    rows, proba = [], pd.DataFrame(index=X.index)
    for number, (train, test) in enumerate(folds(y, seed)):
        for name, model in models().items():
            for which, found in one_fold(name, model, X, y, train, test).items():
                proba.loc[X.index[test], which] = found.pop("proba")
                rows.append({"model": which, "partition": seed, "fold": number, **found})
                print("  ".join(f"{key} {_short(value)}" for key, value in rows[-1].items()))
                sys.stdout.flush()
    return pd.DataFrame(rows), proba


def _short(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def main() -> int:
    """Print the table of folds, intervals with paired differences, and calibration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=1)
    X, y = load_stays()
    parts = [partition(X, y, seed) for seed in range(parser.parse_args().partitions)]
    rows = pd.concat([one for one, _ in parts]).drop(columns=["partition", "fold"])
    print(rows.groupby("model", sort=False).agg(["mean", "std"]).round(4).to_string(), "\n")
    # Ranks within a fold: other folds' models score on scales of their own.
    ranks = sum(_ranked(proba, y, seed) for seed, (_, proba) in enumerate(parts))
    for label, metric in ((AUROC, roc_auc_score), (AUPRC, average_precision_score)):
        table = score_table(
            y, dict(ranks.items()), reference=REFERENCE, metric=metric, random_state=0
        )
        print(f"{label} of all stays; differences to {REFERENCE!r}\n{table.round(4).to_string()}\n")
    proba = parts[0][1]
    lines = {name: calibration_line(y.to_numpy(), proba[name].to_numpy()) for name in proba}
    print("calibration out of fold: ideal slope 1, intercept 0")
    print(pd.DataFrame(lines, index=["slope", "intercept"]).T.round(3).to_string())
    return 0


def _ranked(proba: pd.DataFrame, y: pd.Series, seed: int) -> pd.DataFrame:
    ranked = proba.copy()
    for _, test in folds(y, seed):
        ranked.iloc[test] = proba.iloc[test].rank(pct=True)
    return ranked


if __name__ == "__main__":
    sys.exit(main())
