"""PTB-XL: how few fine labels do, after coarse labels or none, and without the dual adapter.

The dual adapter learns from the coarse label (normal or not) of all training records, the embedder
from no label; then linear probes learn the five superclasses from k records of each. Beside them
the concatenation of the frozen embeddings that both start from, alone and after partial least
squares on the same coarse label. Patient-grouped stratified five-fold cross-validation, ten draws.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import gettempdir

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
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


def main() -> int:
    """Print the table."""
    ptbxl = load_ptbxl()
    cache = Path(gettempdir()) / "medfusion-benchmark-embeddings"
    frozen = make_modality_transformer(
        ecg=(SignalEncoder(view="beats"), "ecg"), report=(TextEncoder(), "report"), cache=cache
    )
    dual = {"cache": cache, "random_state": 0}
    table = few_shot_table(
        {
            CONCATENATION: frozen,
            "the same after PLS on the coarse label": make_pipeline(
                frozen, SimpleImputer(), StandardScaler(), Supervised()
            ),
            "dual adapter, trained on the coarse label": DualAdapterClassifier(**dual),
            "dual adapter embedder, no label": DualAdapterEmbedder(**dual),
        },
        ptbxl.data[["ecg", "report"]],
        ptbxl.target,
        y_fit=ptbxl.target["NORM"],
        shots=(*SHOTS, len(ptbxl.target)),  # the last: all labels
        cv=MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=0),
        groups=ptbxl.groups,
        reference=CONCATENATION,
        random_state=0,
    )
    print("macro AUROC of linear probes; k labelled records of each superclass")
    print(table.round(3).fillna("").to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
