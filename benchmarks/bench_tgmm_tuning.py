"""TGMM's unfreezing ablation: what it gains from text encoders that learn along, and what it costs.

353 bundled PTB-XL records, report (MiniLM) and ECG (median beats, MiniRocket, frozen); the report's
encoder frozen, with its last blocks learning, or with low-rank adapters. One split by patient, 60 %
to learn from; macro AUROC over the five superclasses on the other patients, with intervals and
differences to the frozen encoder that are bootstrapped over patients.
"""

from __future__ import annotations

import time

import pandas as pd
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import report
from medfusion_sdk import SignalEncoder, TextEncoder, TGMMClassifier, make_modality_transformer
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import score_table
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

TUNINGS = ("frozen", 1, 3, 6, "lora")
# Ten times the published rate: a few hundred records make a few dozen steps.
RATE, EPOCHS = 1e-4, 8
ENCODERS = {"report": TextEncoder(), "ecg": SignalEncoder(view="beats")}


def main() -> None:
    """Fit one model per row of the ablation, and print scores and seconds."""
    ptbxl = load_ptbxl()
    X, y, patients = ptbxl.data[["report", "ecg"]], ptbxl.target, ptbxl.groups
    splitter = MultilabelStratifiedGroupKFold(5)
    folds = [test for _, test in splitter.split(X, y, patients)]
    train, test = [i for fold in folds[:3] for i in fold], [i for fold in folds[3:] for i in fold]
    scores, seconds = {}, {}
    for name in ("report", "ecg"):
        scores[f"{name} alone, logistic"] = _logistic(X, y, train, test, [name])
    scores["both side by side, logistic"] = _logistic(X, y, train, test, ["report", "ecg"])
    for tuning in TUNINGS:
        model = TGMMClassifier(
            encoders=ENCODERS,
            encoder_tuning=tuning,
            encoder_learning_rate=RATE,
            max_epochs=100 if tuning == "frozen" else EPOCHS,
            expert=False,
            random_state=0,
        )
        begin = time.perf_counter()
        model.fit(X.iloc[train], y.iloc[train], groups=patients.iloc[train])
        seconds[tuning] = time.perf_counter() - begin
        scores[str(tuning)] = model.predict_proba(X.iloc[test])
    table = score_table(
        y.iloc[test], scores, reference="frozen", groups=patients.iloc[test], random_state=0
    )
    print(table.round(3).to_string())
    for tuning, took in seconds.items():
        report(f"fit with encoder_tuning={tuning!r}", took / seconds["frozen"], "frozen's time")


def _logistic(
    X: pd.DataFrame, y: pd.DataFrame, train: list[int], test: list[int], names: list[str]
):
    """Score the test rows by a logistic regression on frozen embeddings."""
    parts = {
        name: (make_pipeline(clone(ENCODERS[name]), SimpleImputer(), StandardScaler()), name)
        for name in names
    }
    model = make_pipeline(
        make_modality_transformer(**parts),
        OneVsRestClassifier(LogisticRegression(C=0.01, max_iter=1000)),
    )
    return model.fit(X.iloc[train], y.iloc[train].to_numpy()).predict_proba(X.iloc[test])


if __name__ == "__main__":
    main()
