"""A small cohort with a survival outcome, and a quick estimator for it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medfusion_sdk import TGMMSurvival
from medfusion_sdk.survival import survival_target

MODALITIES = ("ecg", "labs", "note")


def quick(**parameters):
    return TGMMSurvival(**{"max_epochs": 5, "d_model": 8, "random_state": 0} | parameters)


def cohort(n_rows=140, *, seed=0, missing=True):
    """Three modalities of four columns; the log-risk is the first column of two of them."""
    rng = np.random.default_rng(seed)
    names = [f"{name}__{i}" for name in MODALITIES for i in range(4)]
    X = pd.DataFrame(rng.normal(size=(n_rows, 12)), columns=names)
    X.index = [f"p{i}" for i in range(n_rows)]
    died = rng.exponential(np.exp(-X["ecg__0"] - X["labs__0"]))
    left = rng.exponential(2.0, size=n_rows)
    if missing:
        X.loc[rng.random(n_rows) < 0.3, [name for name in names if "note" in name]] = np.nan
    return X, survival_target(died <= left, np.minimum(died, left))
