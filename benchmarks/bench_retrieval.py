"""PTB-XL, ECG to report and back: TGMMRetriever against CCA, ridge, nearest records and chance.

The bundled records with a report, patient-grouped stratified five-fold cross-validation, several
partitions. The gallery of a query is its test fold, some 70 records; the right answer is its own
record for Recall@k, and any other patient's record with a superclass in common for LRAP. More than
half of the reports occur more than once ("sinusrhythmus normales ekg" 97 times): such records can't
be told apart by their report, and count with the chance of a random order. So the ceiling is below
1, and is given beside the scores.

All methods read the same two blocks. What they have to choose is chosen by Recall@5 on three
patient-grouped folds of the training records; TGMMRetriever has its defaults.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import report
from benchmarks.retrieval import SIMPLE, Part, Search, search_all, tgmm
from medfusion_sdk import (
    SignalEncoder,
    SkipMissing,
    TextEncoder,
    make_modality_transformer,
)
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import bootstrap_interval, lrap, recall_at_k, score_table
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

PARTITIONS = 3
KS = (1, 5, 10)


def encoder(cache: Path) -> ColumnTransformer:
    """Median beat and rhythm; sentence embedding and characters. Each half counts alike."""
    beats = SignalEncoder(view="beats")
    # The last four features of beats are numbers of rhythm, which 2,016 others would drown.
    rhythm = ColumnTransformer([("rhythm", "passthrough", slice(-4, None))])
    ecg = FeatureUnion(
        [
            ("morphology", make_pipeline(beats, StandardScaler())),
            ("rhythm", make_pipeline(beats, rhythm, StandardScaler())),
        ],
        transformer_weights={"morphology": 2020**-0.5, "rhythm": 4**-0.5},
    )
    characters = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True),
        TruncatedSVD(100, random_state=0),
    )
    text = FeatureUnion([("sentence", TextEncoder()), ("characters", SkipMissing(characters))])
    return make_modality_transformer(ecg=(ecg, "ecg"), report=(text, "report"), cache=cache)


SEARCHES: dict[str, Search] = {
    **SIMPLE,
    "TGMMRetriever": partial(tgmm, labelled=False),
    "TGMMRetriever with labels": partial(tgmm, labelled=True),
}


def folds(seed: int) -> Iterator[tuple[Part, Part, np.ndarray]]:
    """Encoded training and test parts of a partition, and the positions of the latter."""
    ptbxl = load_ptbxl()
    has = ptbxl.data["report"].notna()
    X, y, patients = (table[has] for table in (ptbxl.data, ptbxl.target, ptbxl.groups))
    encode = encoder(Path(gettempdir()) / "medfusion-benchmark-embeddings")
    split = MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for train, test in split.split(X, y, patients):
        encode.fit(X.iloc[train])
        yield (
            *(
                Part(
                    encode.transform(X.iloc[rows]),
                    y.iloc[rows].to_numpy(),
                    patients.iloc[rows].to_numpy(),
                )
                for rows in (train, test)
            ),
            test,
        )


def table(scores: dict[str, np.ndarray], relevant: dict[str, np.ndarray], groups: Any) -> Any:
    """One line per method: each score with its interval, and the gain in Recall@5."""
    metrics = {f"Recall@{k}": partial(recall_at_k, k=k) for k in KS} | {"LRAP": lrap}
    columns = {}
    for name, metric in metrics.items():
        right = relevant["alike" if name == "LRAP" else "own"]
        found = {
            method: np.where(relevant["same patient"], np.nan, s) if name == "LRAP" else s
            for method, s in scores.items()
        }
        rows = score_table(
            right,
            found,
            metric=metric,
            reference="CCA on principal components",
            groups=groups,
            random_state=0,
        ).round(3)
        columns[name] = [f"{r.score:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in rows.itertuples()]
        if name == "Recall@5":
            columns["gain over CCA"] = [
                f"{r.difference:+.3f} [{r.difference_low:+.3f}, {r.difference_high:+.3f}]"
                if np.isfinite(r.difference)
                else ""
                for r in rows.itertuples()
            ]
    return pd.DataFrame(columns, index=list(scores))


def main() -> int:
    """Print a table per direction and the ratios to CCA."""
    ptbxl = load_ptbxl()
    has = ptbxl.data["report"].notna().to_numpy()
    y, patients = ptbxl.target.to_numpy()[has], ptbxl.groups.to_numpy()[has]
    texts = pd.factorize(ptbxl.data["report"].to_numpy()[has])[0]
    n = len(y)
    scores, sizes = search_all(SEARCHES, (folds(seed) for seed in range(PARTITIONS)), n)
    tile = partial(np.tile, reps=(PARTITIONS, 1))
    same_patient = patients[:, None] == patients
    relevant = {
        "own": tile(np.eye(n)),
        "alike": tile((y @ y.T > 0) & ~same_patient),
        "same patient": tile(same_patient),
    }
    groups = np.tile(patients, PARTITIONS)
    candidates = ~np.isnan(scores["chance"][0])
    ceiling = np.where(candidates, tile(texts[:, None] == texts), np.nan)
    best = bootstrap_interval(partial(recall_at_k, k=5), relevant["own"], ceiling, groups=groups)
    print(f"{n} records, galleries of {sizes.min()} to {sizes.max()}, {PARTITIONS} partitions")
    print(f"Recall@5 of a method that knows the report's text by heart: {best.estimate:.3f}\n")
    recalls = {}
    for direction, name in enumerate(("ECG to report", "report to ECG")):
        own = {method: found[direction] for method, found in scores.items()}
        print(name)
        print(table(own, relevant, groups).to_string(), "\n")
        for method, found in own.items():
            recalls.setdefault(method, []).append(recall_at_k(relevant["own"], found, k=5))
    mean = {method: np.mean(both) for method, both in recalls.items()}
    for reference in ("CCA on the blocks", "CCA on principal components"):
        for method in ("TGMMRetriever", "TGMMRetriever with labels"):
            report(
                f"Recall@5 of {method}, mean of both ways",
                mean[method] / mean[reference],
                f"that of {reference}",
                at_least=2,
                detail=f"{mean[method]:.3f} against {mean[reference]:.3f}",
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
