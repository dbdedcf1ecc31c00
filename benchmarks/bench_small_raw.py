"""The small model on raw ECGs and reports of the bundled PTB-XL, beside plain models of blocks.

    python -m benchmarks.bench_small_raw

One partition into five folds by patient, macro AUROC out of fold over the five superclasses, with
intervals and paired differences bootstrapped over patients. The raw models learn everything from
some 280 records; the logistic regressions read frozen embeddings. The raw models' settings were
chosen on partition 7, which isn't the one that is reported. A report that is missing
is read as an empty text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import gettempdir

import numpy as np
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import (
    SignalEncoder,
    SmallMultimodalClassifier,
    TextEncoder,
    make_modality_transformer,
)
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import score_table
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

REPORTED = 0
REFERENCE = "logistic regression, beats + report"
CACHE = Path(gettempdir()) / "medfusion-benchmark-embeddings"


def logistic(penalty: float, **modalities: tuple[object, str]) -> Pipeline:
    """Frozen embeddings of some modalities, scaled, and a logistic regression per label."""
    return make_pipeline(
        make_modality_transformer(cache=CACHE, **modalities),
        SimpleImputer(),
        StandardScaler(),
        OneVsRestClassifier(LogisticRegression(C=penalty, max_iter=2000)),
    )


def models() -> dict[str, tuple[object, list[str]]]:
    """Name -> estimator and the columns that it reads."""
    beats, report = (SignalEncoder(view="beats"), "ecg"), (TextEncoder(), "report")
    both, raw = ["ecg", "report"], SmallMultimodalClassifier(random_state=0)
    fusions = {
        f"small model, raw ECG + report, {fusion}": (clone(raw).set_params(fusion=fusion), both)
        for fusion in ("joint", "early", "late")
    }
    return {
        "logistic regression, beats": (logistic(0.003, beats=beats), both),
        "logistic regression, report": (logistic(0.01, report=report), both),
        REFERENCE: (logistic(0.003, beats=beats, report=report), both),
        "small model, raw ECG": (raw, ["ecg"]),
        "small model, raw report": (raw, ["report"]),
        **fusions,
    }


def out_of_fold(estimator: object, columns: list[str], partition: int) -> np.ndarray:
    """Probabilities from models that never saw the record's patient."""
    ptbxl = load_ptbxl()
    X = ptbxl.data.assign(report=ptbxl.data["report"].fillna(""))
    folds = MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=partition)
    return cross_val_predict(
        estimator,
        X[columns],
        ptbxl.target,
        groups=ptbxl.groups,
        cv=folds,
        method="predict_proba",
    )


def main() -> int:
    """Print the scores with each model's lead over the reference."""
    ptbxl = load_ptbxl()
    scores = {
        name: out_of_fold(estimator, columns, REPORTED)
        for name, (estimator, columns) in models().items()
    }
    table = score_table(
        ptbxl.target, scores, reference=REFERENCE, groups=ptbxl.groups, random_state=0
    )
    print(f"partition {REPORTED}; differences to {REFERENCE!r}")
    print(table.round(3).fillna("").to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
