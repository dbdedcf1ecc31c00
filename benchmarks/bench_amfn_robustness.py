"""PhysioNet 2012, set-a, death in hospital: AMFN where modalities are missing at test time.

Each modality of a test stay is removed with a probability from 0 to 60 %, the last one never.
AMFN is trained with and without modality dropout, with all its defaults and without its expert;
boosting reads the same tables with the same cells removed.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.icu import boosting, folds, load_stays
from medfusion_sdk import AMFNClassifier

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def models() -> dict[str, object]:
    """Name -> estimator."""
    networks = AMFNClassifier(expert=False, random_state=0)
    return {
        "boosting, summaries": boosting(),
        "AMFN": AMFNClassifier(random_state=0),
        "AMFN without modality dropout": AMFNClassifier(modality_dropout=0.0, random_state=0),
        "networks alone": networks,
        "networks alone, without modality dropout": clone(networks).set_params(
            modality_dropout=0.0
        ),
    }


def thinned(X: pd.DataFrame, rate: float, seed: int) -> pd.DataFrame:
    """Remove modalities at random: series columns, and the statics together."""
    X = X.copy()
    statics = [name for name in X if str(name).startswith("static__")]
    series = [name for name in X if name not in statics]
    names = [*series, "static"]
    there = np.column_stack([X[name].notna() for name in series] + [np.ones(len(X), bool)])
    removed = np.random.default_rng(seed).random((len(X), len(names))) < rate
    bare = ~(there & ~removed).any(axis=1)
    removed[bare, there[bare].argmax(axis=1)] = False
    for position, name in enumerate(series):
        X[name] = X[name].where(~removed[:, position], None)
    X.loc[removed[:, -1], statics] = np.nan
    return X


def main() -> int:
    """Print AUROC and AUPRC, mean over folds, at each rate."""
    X, y = load_stays()
    rows = []
    for number, (train, test) in enumerate(folds(y)):
        for name, model in models().items():
            fitted = clone(model).fit(X.iloc[train], y.iloc[train])
            for rate in RATES:
                proba = fitted.predict_proba(thinned(X.iloc[test], rate, number))[:, 1]
                rows.append(
                    {
                        "model": name,
                        "removed": rate,
                        "AUROC": roc_auc_score(y.iloc[test], proba),
                        "AUPRC": average_precision_score(y.iloc[test], proba),
                    }
                )
        print(f"fold {number} done", flush=True)
    table = pd.DataFrame(rows).groupby(["model", "removed"], sort=False).mean()
    for label in ("AUROC", "AUPRC"):
        print(f"{label}, mean of folds, by the share of modalities removed")
        print(table[label].unstack().round(3).to_string(), "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
