"""PTB-XL: how few fine labels do, after coarse labels or none, and without the dual adapter.

The dual adapter learns from the coarse label (normal or not) of all training records, the embedder
from no label; then linear probes learn the five superclasses from k records of each. Beside them
the concatenation of the frozen embeddings that both start from, alone and after partial least
squares on the same coarse label. Patient-grouped stratified five-fold cross-validation, ten draws.
The coarse label is one of the five fine ones, so a second table is of the four others alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import gettempdir
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import (
    DualAdapterClassifier,
    DualAdapterEmbedder,
    SignalEncoder,
    TextEncoder,
    make_modality_transformer,
)
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold, few_shot_table

SHOTS = (5, 10, 15, 20, 50, 100)
CONCATENATION = "concatenation of frozen embeddings"
COMPONENTS = 3  # of 3, 10 and 20 the best one with five records per class


class Supervised(TransformerMixin, BaseEstimator):
    """Partial least squares on the coarse label."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Supervised:
        """Find the directions that go with y."""
        self.pls_ = PLSRegression(COMPONENTS).fit(X, y)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Project on them."""
        return self.pls_.transform(X)


class Kept(TransformerMixin, BaseEstimator):
    """A representation that is fitted once per fold, for several tables of the same folds."""

    fitted: ClassVar[dict[tuple[object, ...], object]] = {}

    def __init__(self, name: str, representation: object) -> None:
        self.name = name
        self.representation = representation

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Kept:
        """Fit, or find what was fitted on the same rows."""
        self.key_ = (self.name, *X.index)
        if self.key_ not in Kept.fitted:
            Kept.fitted[self.key_] = clone(self.representation).fit(X, y)
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Embed."""
        return Kept.fitted[self.key_].transform(X)


def representations(cache: Path) -> dict[str, Kept]:
    """Name -> what is compared."""
    frozen = make_modality_transformer(
        ecg=(SignalEncoder(view="beats"), "ecg"), report=(TextEncoder(), "report"), cache=cache
    )
    dual = {"cache": cache, "random_state": 0}
    found = {
        CONCATENATION: frozen,
        "the same after PLS on the coarse label": make_pipeline(
            frozen, SimpleImputer(), StandardScaler(), Supervised()
        ),
        "dual adapter, trained on the coarse label": DualAdapterClassifier(**dual),
        "dual adapter embedder, no label": DualAdapterEmbedder(**dual),
    }
    return {name: Kept(name, representation) for name, representation in found.items()}


def main() -> int:
    """Print the tables."""
    ptbxl = load_ptbxl()
    X, y, patients = ptbxl.data[["ecg", "report"]], ptbxl.target, ptbxl.groups
    compared = representations(Path(gettempdir()) / "medfusion-benchmark-embeddings")
    folds = list(
        MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=0).split(X, y, patients)
    )
    for labels in (y, y.drop(columns="NORM")):
        table = few_shot_table(
            compared,
            X,
            labels,
            y_fit=y["NORM"],
            shots=(*SHOTS, len(y)),  # the last: all labels
            cv=folds,
            groups=patients,
            reference=CONCATENATION,
            random_state=0,
        )
        print(f"macro AUROC of linear probes; k labelled records of each of {list(labels)}")
        print(table.round(3).fillna("").to_string(), "\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
