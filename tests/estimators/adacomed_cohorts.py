"""A small cohort table and AdaCoMed on it, for the tests of this folder."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import (
    AdaCoMedClassifier,
    SignalEncoder,
    SmallMultimodalClassifier,
    TextEncoder,
    make_modality_transformer,
)

QUICK = {"max_epochs": 5, "hidden_dim": 8, "n_heads": 2, "random_state": 0}
LABS = ["k", "crp"]


def raw_cohort():
    """48 patients with ECG, note and labs; some lack a cell or two."""
    rng = np.random.default_rng(0)
    y = np.arange(48) % 2
    words = np.array(["sinus rhythm no change", "acute st elevation"])
    X = pd.DataFrame(
        {
            "ecg": [*rng.normal(size=(48, 2, 120)).astype(np.float32)],
            "note": [f"{words[k]} case {i % 7}" for i, k in enumerate(y)],
            "k": rng.normal(y),
            "crp": rng.normal(size=48),
        },
        index=[f"p{i}" for i in range(48)],
    )
    X["note"] = X["note"].astype(object)
    X.loc[["p3", "p10"], "note"] = None
    X.at["p4", "ecg"] = None
    X.loc[["p5", "p11", "p20"], LABS] = np.nan  # nothing for the small path
    X.at["p6", "ecg"] = None
    X.loc["p6", "note"] = None  # nothing for the large path
    return X, np.array(["healthy", "ill"])[y]


def blocks(cache=None, **others):
    entries = {
        "ecg": (SignalEncoder(n_features=84), "ecg"),
        "note": (TextEncoder("standin-text", dtype="float32"), "note"),
    }
    return make_modality_transformer(**entries | others, cache=cache)


def labs():
    return make_modality_transformer(labs=(StandardScaler(), LABS))


def small(**parameters):
    quick = {"max_epochs": 5, "embed_size": 8, "random_state": 0}
    return SmallMultimodalClassifier(**quick | parameters)


def adacomed(**changed):
    parts = {"large": blocks(), "small": make_pipeline(labs(), small())}
    return AdaCoMedClassifier(**parts | QUICK | changed)


def assert_same_state(left, right):
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(right[name], array, err_msg=name)
