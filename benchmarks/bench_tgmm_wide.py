"""Few patients, wide blocks: TGMM, its network alone, and logistic regressions of the same blocks.

- PTB-XL: five superclasses of the bundled records from MiniRocket on beats, MiniLM on the report,
  and age, sex, height and weight; folds keep patients together.
- TCGA: death within 24 months from expression, copy numbers, mutations, age and sex; patients who
  were lost to follow-up before are left out.

Macro AUROC and Brier score out of fold, mean of three partitions of five folds, none of which the
defaults were chosen on, though on the same patients. Intervals and paired differences are
bootstrapped over patients. The slope is that of a logistic regression of the outcome on the
log-odds: below one the probabilities are too far from the base rate, above one too near.

Run with names of cohorts for a part: ``python -m benchmarks.bench_tgmm_wide blca``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from benchmarks.common import data_folder
from medfusion_sdk import SignalEncoder, TextEncoder, TGMMClassifier, make_modality_transformer
from medfusion_sdk.datasets import load_ptbxl, load_tcga
from medfusion_sdk.exceptions import GateCollapseWarning
from medfusion_sdk.metrics import macro_auroc, score_table
from medfusion_sdk.model_selection import (
    MultilabelStratifiedGroupKFold,
    compare,
    modality_baselines,
)

PARTITIONS = (10, 11, 12)
MONTHS = 24
REFERENCE = "concatenation"
KEPT = ("late vote", REFERENCE, "TGMM's network alone", "TGMM")

Splitter = Callable[[int], Any]


def brier(y: np.ndarray, probability: np.ndarray) -> float:
    """Mean squared error of probabilities."""
    return float(np.mean((probability - y) ** 2))


def slope(y: np.ndarray, probability: np.ndarray) -> float:
    """Mean calibration slope of the columns."""
    odds = logit(np.clip(probability, 1e-6, 1 - 1e-6))
    fits = [
        LogisticRegression(C=1e6).fit(own[:, None], truth)
        for own, truth in zip(odds.T, y.T, strict=True)
    ]
    return float(np.mean([fit.coef_[0, 0] for fit in fits]))


def out_of_fold(
    models: Mapping[str, Any], X: pd.DataFrame, y: Any, folds: Splitter, groups: Any
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Truth and each model's probabilities, of all partitions side by side."""
    found = [
        compare(
            models,
            X,
            y,
            cv=folds(seed),
            groups=groups,
            n_resamples=2,
            return_predictions=True,
            random_state=0,
        )[1]
        for seed in PARTITIONS
    ]
    truth = np.asarray(y).reshape(len(X), -1).astype(int)
    columns = slice(None) if truth.shape[1] > 1 else slice(1, 2)
    stacked = {name: np.hstack([one[name][:, columns] for one in found]) for name in KEPT}
    return np.tile(truth, len(PARTITIONS)), stacked


def tell(what: str, truth: np.ndarray, found: Mapping[str, np.ndarray], groups: Any = None) -> None:
    """Print the tables of a cohort."""
    base = brier(truth, truth.mean(axis=0))
    print(f"\n{what}; the base rate's Brier score is {base:.3f}")
    for name, metric in {"macro AUROC": macro_auroc, "Brier score": brier}.items():
        table = score_table(
            truth, found, reference=REFERENCE, metric=metric, groups=groups, random_state=0
        )
        print(f"{name}\n{table.round(3).fillna('').to_string()}")
    print("calibration slope", {name: round(slope(truth, p), 2) for name, p in found.items()})
    sys.stdout.flush()


def networks(encode: Any = None) -> dict[str, Any]:
    """TGMM with and without an expert, behind encoders where there are any."""
    models = {
        "TGMM's network alone": TGMMClassifier(expert=False, random_state=0),
        "TGMM": TGMMClassifier(random_state=0),
    }
    if encode is None:
        return models
    return {name: make_pipeline(encode, model) for name, model in models.items()}


def baselines(encode: Any) -> dict[str, Any]:
    """Late vote of the modalities, and concatenation."""
    models = modality_baselines(encode)
    del models["gradient boosting"]
    return models


def ptbxl() -> None:
    """Compare on the bundled records."""
    bunch = load_ptbxl()
    encode = make_modality_transformer(
        ecg=(SignalEncoder(view="beats"), "ecg"),
        report=(TextEncoder(), "report"),
        person=("passthrough", ["age", "sex", "height", "weight"]),
        cache=Path(gettempdir()) / "medfusion-benchmark-embeddings",
    )
    models = baselines(encode) | networks(encode)
    truth, found = out_of_fold(models, bunch.data, bunch.target, _grouped_folds, bunch.groups)
    tell(f"PTB-XL, {len(bunch.data)} records", truth, found, bunch.groups)


def tcga(cohort: str) -> None:
    """Compare on a cohort of TCGA."""
    X, frame = load_tcga(data_folder("tcga"), cohort=cohort, return_X_y=True)
    dead = frame["event"].astype(bool) & (frame["time"] <= MONTHS)
    known = dead | (frame["time"] > MONTHS)
    X, y = X[known], dead[known].astype(int)
    models = baselines(sorted({name.split("__")[0] for name in X})) | networks()
    truth, found = out_of_fold(models, X, y, _folds, None)
    tell(f"{cohort}, {int(y.sum())} of {len(y)} patients died", truth, found)


def _folds(seed: int) -> StratifiedKFold:
    return StratifiedKFold(5, shuffle=True, random_state=seed)


def _grouped_folds(seed: int) -> MultilabelStratifiedGroupKFold:
    return MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=seed)


def main() -> int:
    """Compare on the named cohorts, or all."""
    warnings.simplefilter("ignore", GateCollapseWarning)
    for name in sys.argv[1:] or ["ptbxl", "kirc", "blca"]:
        ptbxl() if name == "ptbxl" else tcga(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
