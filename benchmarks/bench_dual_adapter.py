"""PTB-XL, five superclasses: the dual adapter, its paths, and simple baselines on the same two.

Macro AUROC out of fold on the bundled 353 records, patient-grouped stratified five-fold
cross-validation, means over several fold partitions; intervals and paired differences are
bootstrapped over patients on the averaged out-of-fold scores. Baselines read what the dual adapter
reads and nothing else: beat-aligned MiniRocket and MiniLM.
"""

from __future__ import annotations

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import (
    AdaCoMedClassifier,
    DualAdapterClassifier,
    SignalEncoder,
    TextEncoder,
    make_modality_transformer,
)
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import macro_auroc, score_table
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

PARTITIONS = 3
CONCATENATION, LATE = "concatenation", "late average"
SIGNAL, TEXT = "signal, logistic regression", "text, logistic regression"


def on_blocks(estimator: object, kept: tuple[str, ...], cache: Path) -> Pipeline:
    """An estimator behind the frozen encoders of some of the two columns."""
    encoders = {
        "ecg": (SignalEncoder(view="beats"), "ecg"),
        "report": (TextEncoder(), "report"),
    }
    chosen = {name: encoders[name] for name in kept}
    return Pipeline(
        [("encode", make_modality_transformer(**chosen, cache=cache)), ("model", estimator)]
    )


def logistic(penalty: float) -> Pipeline:
    """Scaled logistic regression per label."""
    return make_pipeline(
        SimpleImputer(),
        StandardScaler(),
        OneVsRestClassifier(LogisticRegression(C=penalty, max_iter=2000)),
    )


def models(cache: Path) -> dict[str, object]:
    """Name -> what is cross-validated on the two columns."""
    dual = {"cache": cache, "random_state": 0}
    return {
        SIGNAL: on_blocks(logistic(0.001), ("ecg",), cache),
        TEXT: on_blocks(logistic(0.01), ("report",), cache),
        CONCATENATION: on_blocks(logistic(0.003), ("ecg", "report"), cache),
        "AdaCoMed": on_blocks(AdaCoMedClassifier(random_state=0), ("ecg", "report"), cache),
        "temporal-primary path alone": DualAdapterClassifier(mode="ts_primary", **dual),
        "textual-primary path alone": DualAdapterClassifier(mode="text_primary", **dual),
        "dual adapter": DualAdapterClassifier(**dual),
    }


def alone(*arguments: object) -> tuple[np.ndarray, float, float]:
    """Run :func:`out_of_fold` in a process of its own, whose peak memory is this model's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(out_of_fold, *arguments).result()


def out_of_fold(estimator: object, seed: int) -> tuple[np.ndarray, float, float]:
    """Probabilities from models that never saw the record's patient, seconds, peak megabytes."""
    ptbxl = load_ptbxl()
    X = ptbxl.data[["ecg", "report"]]
    readable = X["report"].notna().to_numpy()  # a text path alone has nothing to say of the others
    mode = getattr(estimator, "mode", "dual")
    rows = np.flatnonzero(readable) if mode == "text_primary" else np.arange(len(X))
    folds = MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=seed)
    start = time.perf_counter()
    found = cross_val_predict(
        estimator,
        X.iloc[rows],
        ptbxl.target.iloc[rows],
        groups=ptbxl.groups.iloc[rows],
        cv=folds,
        method="predict_proba",
    )
    seconds = time.perf_counter() - start
    scores = np.tile(ptbxl.target.mean().to_numpy(), (len(X), 1))
    scores[rows] = found
    return scores, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Print the table, with late averaging and concatenation as references."""
    ptbxl = load_ptbxl()
    cache = Path(gettempdir()) / "medfusion-benchmark-embeddings"
    partitions, seconds, memory = [], [], []
    for seed in range(PARTITIONS):
        found = {name: alone(model, seed) for name, model in models(cache).items()}
        scores = {name: probabilities for name, (probabilities, *_) in found.items()}
        pair = [logit(np.clip(scores[name], 1e-6, 1 - 1e-6)) for name in (SIGNAL, TEXT)]
        scores[LATE] = expit(np.mean(pair, axis=0))
        partitions.append(scores)
        seconds.append({name: spent / 5 for name, (_, spent, _) in found.items()})
        memory.append({name: peak for name, (*_, peak) in found.items()})
    each = {name: [macro_auroc(ptbxl.target, p[name]) for p in partitions] for name in scores}
    summary = pd.DataFrame(each).agg(["mean", "std"]).T
    # The first partition fills the cache of frozen parts.
    summary["seconds per fold"] = pd.DataFrame(seconds[1:] or seconds).mean()
    summary["peak MB"] = pd.DataFrame(memory).max().round()
    print(f"macro AUROC out of fold, {PARTITIONS} partitions: mean and spread")
    print(summary.round(4).to_string(), "\n", flush=True)
    mean = {name: np.mean([p[name] for p in partitions], axis=0) for name in scores}
    for reference in (LATE, CONCATENATION, "AdaCoMed", "textual-primary path alone"):
        table = score_table(
            ptbxl.target, mean, reference=reference, groups=ptbxl.groups, random_state=0
        )
        print(f"scores averaged over the partitions; differences to {reference!r}")
        print(table.round(3).fillna("").to_string(), "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
