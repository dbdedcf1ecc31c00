"""Calibration: slope, intercept, Brier score, log loss and AUROC, with and without it.

Out of fold, three folds, defaults alone. Both columns come from one fit, whose scores are taken
before and after they are calibrated: all differences are the calibration's. Intervals are
bootstrapped over patients. The cost is a ratio of fit times, with and without ``calibrate``.

``python -m benchmarks.bench_calibration SmallMultimodalClassifier death`` runs one of each.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from medfusion_sdk import (
    AdaCoMedClassifier,
    AMFNClassifier,
    BrainAdapterClassifier,
    DualAdapterClassifier,
    SignalEncoder,
    SmallMultimodalClassifier,
    TextEncoder,
    TGMMClassifier,
    make_modality_transformer,
)
from medfusion_sdk.datasets import load_mi_complications, load_ptbxl
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

_FOLDS = 3
_RESAMPLES = 500
_CACHE = Path(gettempdir()) / "medfusion-benchmark-embeddings"
_MEASURES = ("slope", "intercept", "Brier", "log loss", "AUROC")

MODELS: dict[str, Callable[[], Any]] = {
    "AdaCoMedClassifier": lambda: AdaCoMedClassifier(random_state=0),
    "SmallMultimodalClassifier": lambda: SmallMultimodalClassifier(random_state=0),
    "TGMMClassifier": lambda: TGMMClassifier(random_state=0),
    "TGMMClassifier(expert=False)": lambda: TGMMClassifier(expert=False, random_state=0),
    "AMFNClassifier": lambda: AMFNClassifier(random_state=0),
    "AMFNClassifier(expert=False)": lambda: AMFNClassifier(expert=False, random_state=0),
    "DualAdapterClassifier": lambda: DualAdapterClassifier(random_state=0, cache=_CACHE),
    "BrainAdapterClassifier": lambda: BrainAdapterClassifier(random_state=0, cache=_CACHE),
}
# What needs texts reads these alone.
_CELLS = {"DualAdapterClassifier": ["ecg", "report"], "BrainAdapterClassifier": ["report"]}
DATA = ("death", "ZSN", "PTB-XL", "PTB-XL NORM", "PTB-XL cells")


def load(name: str) -> tuple[Any, Any, np.ndarray]:
    """Table, target and patient of each row."""
    if not name.startswith("PTB-XL"):
        X, y = load_mi_complications(target=name, return_X_y=True)
        return X, y, np.arange(len(X))
    ptbxl = load_ptbxl()
    y = ptbxl.target["NORM"] if name.endswith("NORM") else ptbxl.target
    if name.endswith("cells"):
        return ptbxl.data, y, ptbxl.groups.to_numpy()
    encode = make_modality_transformer(
        beats=(SignalEncoder(view="beats"), "ecg"),
        report=(TextEncoder(), "report"),
        person=("passthrough", ["age", "sex", "height", "weight"]),
        cache=_CACHE,
    )
    return encode.fit_transform(ptbxl.data), y, ptbxl.groups.to_numpy()


def out_of_fold(model: Any, X: Any, y: Any, groups: np.ndarray) -> tuple[np.ndarray, ...]:
    """Probabilities (n, K) before and after calibration, and a fit's time over that without."""
    labels = np.asarray(y).reshape(len(y), -1)
    strata = np.hstack([labels, 1 - labels]) if labels.shape[1] == 1 else labels
    folds = MultilabelStratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    before, after, ratios = np.zeros(labels.shape), np.zeros(labels.shape), []
    for train, test in folds.split(X, strata, groups):
        seconds = []
        for calibrate in (False, True):
            start = time.perf_counter()
            fitted = clone(model).set_params(calibrate=calibrate)
            fitted.fit(X.iloc[train], y.iloc[train], groups=groups[train])
            seconds.append(time.perf_counter() - start)
            found = fitted.predict_proba(X.iloc[test])
            (after if calibrate else before)[test] = found[:, -labels.shape[1] :]
        ratios.append(seconds[1] / seconds[0])
    return labels, before, after, np.median(ratios)


def measures(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Calibration slope and intercept, Brier score, log loss and AUROC."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    z = logit(p)

    def loss(at: np.ndarray) -> float:
        found = at[0] * z + at[1]
        return float(np.mean(np.logaddexp(0, found) - y * found))

    slope, intercept = minimize(loss, [1.0, 0.0], method="BFGS").x
    p = expit(z)
    log_loss = -np.mean(np.where(y > 0, np.log(p), np.log1p(-p)))
    return np.array([slope, intercept, np.mean((p - y) ** 2), log_loss, roc_auc_score(y, p)])


def compared(before: np.ndarray, after: np.ndarray, y: np.ndarray, groups: np.ndarray) -> str:
    """One line for each measure: before, after, and the difference with its interval."""
    own = [measures(p, y) for p in (before, after)]
    draws, rng, rows = [], np.random.default_rng(0), pd.Series(np.arange(len(y))).groupby(groups)
    parts = [part.to_numpy() for _, part in rows]
    while len(draws) < _RESAMPLES:
        drawn = np.concatenate([parts[i] for i in rng.integers(len(parts), size=len(parts))])
        if 0 < y[drawn].sum() < len(drawn):
            draws.append([measures(p[drawn], y[drawn]) for p in (before, after)])
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    change = np.percentile(np.diff(draws, axis=1)[:, 0], [2.5, 97.5], axis=0)
    return "\n".join(
        f"  {name:9s} {own[0][i]:7.3f} [{low[0, i]:6.3f}, {high[0, i]:6.3f}]   "
        f"{own[1][i]:7.3f} [{low[1, i]:6.3f}, {high[1, i]:6.3f}]   "
        f"{own[1][i] - own[0][i]:+7.4f} [{change[0, i]:+7.4f}, {change[1, i]:+7.4f}]"
        for i, name in enumerate(_MEASURES)
    )


def runs(models: list[str], sets: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs of model and data that go together; cells for those alone that read them."""
    for data in sets:
        for model in models:
            cells = model in (*_CELLS, "SmallMultimodalClassifier")
            if (data == "PTB-XL cells" and cells) or (
                data != "PTB-XL cells" and model not in _CELLS
            ):
                yield model, data


def main() -> int:
    """Print a table for each estimator and target."""
    asked = sys.argv[1:]
    models = [name for name in MODELS if name in asked] or list(MODELS)
    sets = [name for name in DATA if name in asked] or list(DATA)
    warnings.simplefilter("ignore")
    for model, data in runs(models, sets):
        X, y, groups = load(data)
        X = X[_CELLS[model]] if model in _CELLS else X
        labels, before, after, cost = out_of_fold(MODELS[model](), X, y, groups)
        names = list(y.columns) if labels.shape[1] > 1 else [y.name]
        print(f"{model}, {data}: fits take {cost:.2f} x the time of those without", flush=True)
        for i, name in enumerate(names):
            print(f" {name}: before, after, difference")
            print(compared(before[:, i], after[:, i], labels[:, i], groups), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
