"""A quick retriever and the table that it is tested on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medfusion_sdk import TGMMRetriever
from tests.estimators.cohorts import cohort


def quick_retriever(**parameters):
    quick = {"max_epochs": 3, "d_model": 16, "embed_size": 12, "random_state": 0}
    return TGMMRetriever(**quick | parameters)


def labelled_table():
    """Block table with index labels, a third of the rows without note; targets; patients."""
    X, y = cohort(90)
    X.index = pd.Index([f"r{i}" for i in range(90)])
    return X, y, np.arange(90) // 2
