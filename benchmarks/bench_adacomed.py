"""AdaCoMed on raw cohort tables: both paths alone, their plain ensemble, and each strategy.

Out of fold on the bundled PTB-XL records (macro AUROC, folds that keep patients together) or on
PhysioNet 2012 set-a (AUROC, stratified folds): ``--data ptbxl`` or ``physionet2012``. The large
path reads frozen blocks, the small model the raw cells. Within a fold all rows of the tables share
one pretrained small model: it depends on training rows and seed alone. Intervals and paired
differences are bootstrapped over patients, on scores averaged over the partitions.

The plain ensemble is the mean of the probabilities of a large path and a small model that were
trained apart; "large path alone" is that large path, with a head of its own and no contrast. The
looser setting, two heads and a weak contrast, was chosen on two folds of partition 100 of PTB-XL.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.icu import Summaries, load_stays
from medfusion_sdk import (
    AdaCoMedClassifier,
    LabTextEncoder,
    SignalEncoder,
    SmallMultimodalClassifier,
    TextEncoder,
    make_modality_transformer,
)
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import macro_auroc, score_table
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

# Those beside the default, ensemble.
STRATEGIES = (
    "gaussian",
    "learnable",
    "inverse",
    "inverse_paper",
    "threshold",
    "large_only",
    "small_only",
)
LARGE, SMALL, PLAIN = "large path alone", "small model alone", "plain ensemble of the two"
ADACOMED, LOOSER = "AdaCoMed", "AdaCoMed, looser"
LINEAR = "logistic regression on the large path's blocks"

_LOOSER = {
    "strategy": "ensemble",
    "share_head": False,
    "init_head_from_small": False,
    "match_norm": False,
    "lambda_contrast": 0.1,
}


class PretrainedOnce(SmallMultimodalClassifier):
    """A small model that remembers its fits of this process: equal rows give equal fits."""

    _fits: ClassVar[dict[Any, dict[str, Any]]] = {}

    def fit(
        self, X: pd.DataFrame, y: Any, sample_weight: Any = None, groups: Any = None
    ) -> PretrainedOnce:
        """Fit, or take over what was found on the same rows with the same parameters."""
        key = (tuple(X.index), repr(sorted(self.get_params().items())))
        if key not in self._fits:
            super().fit(X, y, sample_weight, groups)
            self._fits[key] = dict(self.__dict__)
        self.__dict__.update(self._fits[key])
        return self


@dataclass(frozen=True)
class Task:
    """A data set, how it is cut into folds and what the two paths read of it."""

    X: pd.DataFrame
    y: Any
    groups: Any
    splitter: type
    metric: Any
    large: Any
    small: SmallMultimodalClassifier

    def folds(self, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Five folds."""
        return self.splitter(5, shuffle=True, random_state=seed).split(self.X, self.y, self.groups)


def ptbxl(small: dict[str, Any]) -> Task:
    """ECG, report and four values; the large path reads the values as a sentence, as published."""
    bundled = load_ptbxl()
    values = {"age": "years", "sex": None, "height": "cm", "weight": "kg"}
    large = make_modality_transformer(
        beats=(SignalEncoder(view="beats"), "ecg"),
        report=(TextEncoder(), "report"),
        person=(LabTextEncoder({k: (v, None, None) for k, v in values.items()}), list(values)),
        cache=Path(gettempdir()) / "medfusion-benchmark-embeddings",
    )
    return Task(
        bundled.data,
        bundled.target,
        bundled.groups,
        MultilabelStratifiedGroupKFold,
        macro_auroc,
        large,
        PretrainedOnce(random_state=0, **small),
    )


def physionet2012(small: dict[str, Any]) -> Task:
    """Hourly series and statics; the large path reads fixed summaries of each group of series."""
    X, y = load_stays()
    static = [name for name in X if name.startswith("static__")]
    series = {name: (Summaries(windows=True), [name]) for name in X if name not in static}
    large = make_modality_transformer(**series, static=("passthrough", static))
    metric = roc_auc_score
    return Task(X, y, None, StratifiedKFold, metric, large, PretrainedOnce(random_state=0, **small))


def models(task: Task) -> dict[str, Any]:
    """Name -> estimator on the cohort table."""
    wide = len(task.large.transformers) > 6
    parts = {"large": task.large, "small": task.small, "random_state": 0}
    if wide:  # the contrast of thousands of rows in one step is what costs
        parts |= {"max_subset_size": 1, "max_epochs": 40}
    apart = {"strategy": "large_only", "lambda_contrast": 0.0, "init_head_from_small": False}
    return {
        LINEAR: logistic(task),
        LARGE: AdaCoMedClassifier(**parts, **apart, match_norm=False),
        SMALL: task.small,
        ADACOMED: AdaCoMedClassifier(**parts),
        LOOSER: AdaCoMedClassifier(**parts, **_LOOSER),
        **{f"strategy {name}": AdaCoMedClassifier(**parts, strategy=name) for name in STRATEGIES},
    }


def logistic(task: Task) -> Pipeline:
    """The simplest thing to do with the large path's blocks."""
    linear = LogisticRegression(C=0.003, max_iter=2000)
    if np.ndim(task.y) == 2:
        linear = OneVsRestClassifier(linear)
    return make_pipeline(task.large, SimpleImputer(), StandardScaler(), linear)


def fold_scores(
    task: Task, names: list[str], train: np.ndarray, test: np.ndarray
) -> dict[str, np.ndarray]:
    """Probabilities of a fold's test rows by every model."""
    found = {}
    for name in names:
        start = time.perf_counter()
        model = models(task)[name].fit(task.X.iloc[train], task.y.iloc[train])
        proba = model.predict_proba(task.X.iloc[test])
        found[name] = proba if np.ndim(task.y) == 2 else proba[:, 1]
        score = task.metric(task.y.iloc[test], found[name])
        similarity = getattr(model, "similarity_", np.nan)
        took = time.perf_counter() - start
        print(f"  {name}  {score:.4f}  similarity {similarity:.3f}  {took:.0f} s", flush=True)
    PretrainedOnce._fits.clear()
    return found


def partition(task: Task, names: list[str], seed: int, n_jobs: int) -> dict[str, np.ndarray]:
    """Out-of-fold probabilities of every model on one partition."""
    folds = list(task.folds(seed))
    parts = Parallel(n_jobs=n_jobs)(delayed(fold_scores)(task, names, *fold) for fold in folds)
    found = {name: np.full(np.shape(task.y), np.nan) for name in names}
    for part, (_, test) in zip(parts, folds, strict=True):
        for name in names:
            found[name][test] = part[name]
    found[PLAIN] = (found[LARGE] + found[SMALL]) / 2
    return found


def main() -> int:
    """Print scores, and AdaCoMed's lead over each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("ptbxl", "physionet2012"), default="ptbxl")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="seed of the first partition")
    parser.add_argument("--embed-size", type=int, default=128)
    parser.add_argument("--series-steps", type=int, default=128)
    parser.add_argument("--strategies", nargs="*", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--jobs", type=int, default=1, help="folds at once")
    asked = parser.parse_args()
    small = {"embed_size": asked.embed_size, "series_steps": asked.series_steps}
    task = {"ptbxl": ptbxl, "physionet2012": physionet2012}[asked.data](small)
    seeds = range(asked.first, asked.first + asked.partitions)
    left_out = {f"strategy {name}" for name in STRATEGIES if name not in asked.strategies}
    names = [name for name in models(task) if name not in left_out]
    parts = [partition(task, names, seed, asked.jobs) for seed in seeds]
    mean = {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}
    for reference in (LARGE, SMALL, PLAIN):
        table = score_table(
            task.y,
            mean,
            reference=reference,
            metric=task.metric,
            groups=task.groups,
            random_state=0,
        )
        print(f"\n{asked.data}, {len(parts)} partition(s); differences to {reference!r}")
        print(table.round(4).fillna("").to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
