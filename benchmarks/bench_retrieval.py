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
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from benchmarks.common import report
from medfusion_sdk import (
    SignalEncoder,
    SkipMissing,
    TextEncoder,
    TGMMRetriever,
    make_modality_transformer,
)
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import bootstrap_interval, lrap, recall_at_k, score_table
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

PARTITIONS = 3
KS = (1, 5, 10)


class Part(NamedTuple):
    """Records of a fold: blocks, superclasses, patients."""

    blocks: pd.DataFrame
    labels: np.ndarray
    patients: np.ndarray

    @property
    def ecg(self) -> np.ndarray:
        """ECG block."""
        return self.blocks.filter(like="ecg__").to_numpy(float)

    @property
    def report(self) -> np.ndarray:
        """Report block."""
        return self.blocks.filter(like="report__").to_numpy(float)

    def take(self, rows: np.ndarray) -> Part:
        """Some of the records."""
        return Part(self.blocks.iloc[rows], self.labels[rows], self.patients[rows])


# Similarities of a test fold's ECGs (rows) and reports (columns), and of reports and ECGs.
Searched = tuple[np.ndarray, np.ndarray]
Search = Callable[[Part, Part], Searched]


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


def cosines(a: np.ndarray, b: np.ndarray) -> Searched:
    """Similarities both ways."""
    found = normalize(a) @ normalize(b).T
    return found, found.T


def chance(_: Part, test: Part) -> Searched:
    """All alike, so that a random order decides."""
    same = np.zeros((len(test.blocks), len(test.blocks)))
    return same, same


def most_typical(train: Part, test: Part) -> Searched:
    """The same answer to every query: what is nearest to the training records' mean."""

    def typical(fitted: np.ndarray, new: np.ndarray) -> np.ndarray:
        scores = normalize(new) @ normalize(fitted).mean(axis=0)
        return np.tile(scores, (len(new), 1))

    return typical(train.report, test.report), typical(train.ecg, test.ecg)


def nearest_records(train: Part, test: Part, k: int) -> Searched:
    """Go by the k training records nearest to the query: what they hold of the other modality."""

    def through(own: np.ndarray, query: np.ndarray, other: np.ndarray, gallery: np.ndarray) -> Any:
        nearest = np.argsort(-(normalize(query) @ normalize(own).T), axis=1)[:, :k]
        return cosines(normalize(other)[nearest].mean(axis=1), gallery)[0]

    return (
        through(train.ecg, test.ecg, train.report, test.report),
        through(train.report, test.report, train.ecg, test.ecg),
    )


def ridge(train: Part, test: Part, alpha: float) -> Searched:
    """Predict the report's block from the ECG's, and compare."""
    centre = train.report.mean(axis=0)
    model = KernelRidge(alpha=alpha).fit(train.ecg, train.report - centre)
    return cosines(model.predict(test.ecg), test.report - centre)


def cca(train: Part, test: Part, n_components: int, n_principal: int | None = None) -> Searched:
    """scikit-learn's CCA, on principal components or on the blocks as they are."""
    ecg, text, new_ecg, new_text = train.ecg, train.report, test.ecg, test.report
    if n_principal is not None:
        pca = [PCA(n_principal, random_state=0).fit(x) for x in (ecg, text)]
        ecg, text, new_ecg, new_text = (
            pca[i % 2].transform(x) for i, x in enumerate((ecg, text, new_ecg, new_text))
        )
    with warnings.catch_warnings():
        # More steps change nothing that shows in the scores.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = CCA(n_components, max_iter=1000).fit(ecg, text)
    return cosines(*model.transform(new_ecg, new_text))


def tgmm(train: Part, test: Part, labelled: bool) -> Searched:
    """Ours, with its defaults."""
    retriever = TGMMRetriever(random_state=0, keep_gallery=False)
    retriever.fit(train.blocks, train.labels if labelled else None, groups=train.patients)
    there = partial(retriever.similarity, test.blocks, test.blocks)
    return there(query="ecg", target="report"), there(query="report", target="ecg")


def tuned(search: Callable[..., Searched], grid: list[dict[str, Any]]) -> Search:
    """Choose by Recall@5, mean of both ways, on folds of the training records."""

    def chosen(train: Part, test: Part) -> Searched:
        folds = list(GroupKFold(3).split(train.blocks, groups=train.patients))
        scores = [
            np.mean(
                [
                    recall_at_k(np.eye(len(held)), np.round(found, 6), k=5)
                    for kept, held in folds
                    for found in search(train.take(kept), train.take(held), **options)
                ]
            )
            for options in grid
        ]
        return search(train, test, **grid[int(np.argmax(scores))])

    return chosen


SEARCHES: dict[str, Search] = {
    "chance": chance,
    "most typical first": most_typical,
    "nearest training records": tuned(nearest_records, [{"k": k} for k in (1, 3, 5, 10, 20)]),
    "ridge regression": tuned(ridge, [{"alpha": a} for a in (0.03, 0.1, 0.3, 1.0, 3.0)]),
    "CCA on the blocks": tuned(cca, [{"n_components": n} for n in (5, 10, 20)]),
    "CCA on principal components": tuned(
        cca,
        [{"n_components": n, "n_principal": p} for n, p in product((5, 10, 20), (20, 40, 60, 100))],
    ),
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


def search_all(n_records: int) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    """Similarities of every method by direction, partition below partition; NaN off the fold."""
    scores = {
        name: [np.full((PARTITIONS * n_records, n_records), np.nan) for _ in range(2)]
        for name in SEARCHES
    }
    sizes = []
    for seed in range(PARTITIONS):
        for train, test, rows in folds(seed):
            sizes.append(len(rows))
            places = np.ix_(seed * n_records + rows, rows)
            for name, search in SEARCHES.items():
                for direction, found in enumerate(search(train, test)):
                    # Cosines of equal reports differ in their last bits.
                    scores[name][direction][places] = np.round(found, 6)
        print(f"partition {seed + 1} of {PARTITIONS} done", flush=True)
    return scores, np.array(sizes)


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
    scores, sizes = search_all(n)
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
