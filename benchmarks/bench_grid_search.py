"""A grid search over a text pipeline: with our cache, with joblib's ``memory=``, with neither.

5 folds, 8 candidates, TextEncoder and logistic regression on 200 medical abstracts. What a cache
can save are encodings, so they are counted: texts that went through the network, by a hook on it.
Then the same on PTB-XL's reports, with two worker processes, shuffled folds and every fifth row
twice; there the cache's own count is taken, which all processes share.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from torch.nn.modules.module import register_module_forward_pre_hook

from benchmarks.common import data_folder, report
from medfusion_sdk.backbones.text import TextBackbone
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.embedding_cache import EmbeddingCache
from medfusion_sdk.encoders.text import TextEncoder

N_TEXTS, N_FOLDS = 200, 5
GRID = {"classify__C": np.logspace(-4, 1, 8)}
AT_LEAST_NO_CACHE, AT_LEAST_MEMORY = 15, 5
SAME_LOG_LOSS = 1e-3


def search(*, cache: Any = None, memory: str | None = None, **options: Any) -> GridSearchCV:
    """The search, to be fitted."""
    pipeline = Pipeline(
        [
            ("encode", TextEncoder(dtype="float32", cache=cache)),
            ("classify", LogisticRegression(max_iter=1000)),
        ],
        memory=memory,
    )
    options = {"cv": N_FOLDS, "error_score": "raise", "scoring": "neg_log_loss"} | options
    return GridSearchCV(pipeline, GRID, **options)


def fitted(model: GridSearchCV, X: Any, y: Any) -> tuple[float, int]:
    """Seconds of a fit, and texts that went through the network during it."""
    encoded = 0

    def count(module: Any, inputs: Any) -> None:
        nonlocal encoded
        if isinstance(module, TextBackbone):
            encoded += len(inputs[0])

    hook = register_module_forward_pre_hook(count)
    try:
        start = time.perf_counter()
        model.fit(X, y)
        return time.perf_counter() - start, encoded
    finally:
        hook.remove()


def compare_caches() -> None:
    """Print times and encodings of the search on abstracts."""
    table = pd.read_csv(data_folder("medical_abstracts") / "medical_abstracts.csv", nrows=N_TEXTS)
    X, y = table["medical_abstract"], table["condition_label"]
    TextEncoder(dtype="float32").transform(X.iloc[:2])  # imports
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as joblibs:
        models = {
            "cold": search(cache=ours),
            "warm": search(cache=ours),
            "memory=": search(memory=joblibs),
            "no cache": search(),
        }
        seconds, encoded = {}, {}
        for name, model in models.items():
            seconds[name], encoded[name] = fitted(model, X, y)
            print(f"  {name}: {encoded[name]:,} encodings", flush=True)
    scores = np.array([model.cv_results_["mean_test_score"] for model in models.values()])
    # The same search each time: batches of other texts round the last digits of a vector.
    apart = np.ptp(scores, axis=0).max()
    assert apart < SAME_LOG_LOSS, f"the searches' log losses are {apart} apart"
    report("encodings, cold cache", encoded["cold"] / X.nunique(), "the distinct texts", at_most=1)
    report("encodings, warm cache", encoded["warm"] / X.nunique(), "the distinct texts", at_most=0)
    for other, bound in (("no cache", AT_LEAST_NO_CACHE), ("memory=", AT_LEAST_MEMORY)):
        report(
            "grid search, cold cache",
            seconds[other] / seconds["cold"],
            f"as fast as with {other}",
            at_least=bound,
            detail=f"{seconds['cold']:.1f} s against {seconds[other]:.1f} s; "
            f"warm {seconds['warm']:.1f} s",
        )


def count_over_processes() -> None:
    """Print what two processes encode of reports that occur more than once."""
    X, superclass = load_ptbxl(return_X_y=True)
    y = superclass["NORM"]
    rows = np.r_[np.arange(len(X)), np.arange(0, len(X), 5)]
    reports, y = X["report"].iloc[rows], y.iloc[rows]
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    with tempfile.TemporaryDirectory() as folder, EmbeddingCache(folder) as cache:
        for name, bound in (("cold", 1), ("warm", 0)):
            cache.reset_stats()
            model = search(cache=cache, cv=folds, n_jobs=2)
            model.set_params(estimator__encode__missing="zero").fit(reports, y)
            report(
                f"encodings over two processes, {name} cache",
                cache.stats().misses / reports.nunique(),
                f"the {reports.nunique()} distinct of {len(reports)} reports",
                at_most=bound,
                detail=f"{cache.stats().hits:,} hits",
            )


def main() -> int:
    """Print the figures."""
    count_over_processes()
    compare_caches()
    return 0


if __name__ == "__main__":
    sys.exit(main())
