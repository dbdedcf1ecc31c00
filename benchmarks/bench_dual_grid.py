"""A grid search over the dual adapter in two processes, against the same fits in a row.

Four settings by three folds on PTB-XL. Two processes are at best as much faster as the machine's
two cores really are, which two processes of plain matrix products show; inner threads beyond that
would make them slower (a thread storm).
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from sklearn.model_selection import GridSearchCV

from benchmarks.common import report
from medfusion_sdk import DualAdapterClassifier
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import macro_auroc_scorer
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

GRID = {"alpha": [1.0, 10.0], "path_weight": [0.0, 1.0]}
EPOCHS = 3
PRODUCTS, WIDTH = 60, 1024
MOST_TIME = 1.2


def products(_: int = 0) -> float:
    """Seconds of some matrix products in one thread."""
    torch.set_num_threads(1)
    x = torch.randn(WIDTH, WIDTH)
    start = time.perf_counter()
    for _ in range(PRODUCTS):
        x = torch.tanh(x @ x / WIDTH)
    return time.perf_counter() - start


def speed_up() -> float:
    """How much faster two processes are than one after the other."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(products, range(2)))  # imports
        alone = pool.submit(products).result()
        return 2 * alone / max(pool.map(products, range(2)))


def search(cache: Path, n_jobs: int) -> float:
    """Seconds of all fits and scores."""
    ptbxl = load_ptbxl()
    found = GridSearchCV(
        DualAdapterClassifier(max_epochs=EPOCHS, cache=cache, random_state=0),
        GRID,
        cv=MultilabelStratifiedGroupKFold(3, shuffle=True, random_state=0),
        scoring=macro_auroc_scorer,
        n_jobs=n_jobs,
        refit=False,
    )
    start = time.perf_counter()
    found.fit(ptbxl.data[["ecg", "report"]], ptbxl.target, groups=ptbxl.groups)
    return time.perf_counter() - start


def main() -> int:
    """Print the ratio; the status is 1 where the bound is missed."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        cache = Path(folder)
        search(cache, n_jobs=2)  # fills the cache, and starts joblib's workers
        before = speed_up()
        alone = search(cache, n_jobs=1)
        together = search(cache, n_jobs=2)
        cores = (before + speed_up()) / 2
    held = report(
        "GridSearchCV with n_jobs=2",
        together / (alone / cores),
        "the same fits in a row over the speed-up of two cores",
        at_most=MOST_TIME,
        detail=f"{together:.0f} s against {alone:.0f} s / {cores:.2f}",
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
