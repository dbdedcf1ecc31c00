"""PTB-XL, five superclasses: AdaCoMed against concatenation, late averaging, each modality alone.

Macro AUROC out of fold on the bundled 353 records, patient-grouped stratified five-fold
cross-validation. Fold partitions differ by more than models do, so scores are means over several;
intervals and paired differences are bootstrapped over patients on the averaged out-of-fold scores.

The plain baselines are the two that a first attempt would make of this data: MiniLM and MiniRocket
on the whole record, concatenated, and averaged late. The strict ones have all that AdaCoMed has.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import (
    AdaCoMedClassifier,
    SignalEncoder,
    SkipMissing,
    SmallMultimodalClassifier,
    TextEncoder,
    make_modality_transformer,
)
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import macro_auroc, score_table
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

PARTITIONS = 3
ALL = ["beats", "report", "ngrams", "person"]
CONCATENATION = "concatenation, beats + report + ngrams + person"


def encoder(cache: Path) -> object:
    """Every modality that a model below may use."""
    characters = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True),
        TruncatedSVD(100, random_state=0),
    )
    return make_modality_transformer(
        record=(SignalEncoder(), "ecg"),
        beats=(SignalEncoder(view="beats"), "ecg"),
        report=(TextEncoder(), "report"),
        ngrams=(SkipMissing(characters), "report"),
        person=(
            make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
            ["age", "sex", "height", "weight"],
        ),
        cache=cache,
    )


def logistic(penalty: float) -> Pipeline:
    """Scaled logistic regression per label, on imputed values: it takes no missing ones."""
    return make_pipeline(
        SimpleImputer(),
        StandardScaler(),
        OneVsRestClassifier(LogisticRegression(C=penalty, max_iter=2000)),
    )


def models() -> dict[str, tuple[object, list[str]]]:
    """Name -> estimator and the modalities that it reads."""
    wide, narrow = logistic(0.003), logistic(0.01)
    return {
        "whole-record signal": (wide, ["record"]),
        "beat-aligned signal": (wide, ["beats"]),
        "report, MiniLM": (narrow, ["report"]),
        "report, character n-grams": (narrow, ["ngrams"]),
        "age, sex, height, weight": (logistic(1.0), ["person"]),
        "concatenation, record + report": (wide, ["record", "report"]),
        CONCATENATION: (wide, ALL),
        "small model": (SmallMultimodalClassifier(random_state=0), ALL),
        "AdaCoMed": (AdaCoMedClassifier(random_state=0), ALL),
    }


def out_of_fold(encode: object, estimator: object, kept: list[str], seed: int) -> np.ndarray:
    """Probabilities from models that never saw the record's patient."""
    ptbxl = load_ptbxl()
    dropped = {
        f"encode__{name}": "drop"
        for name, *_ in encode.transformers  # type: ignore[attr-defined]
        if name not in kept
    }
    pipeline = Pipeline([("encode", clone(encode)), ("model", estimator)]).set_params(**dropped)
    folds = MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=seed)
    return cross_val_predict(
        pipeline,
        ptbxl.data,
        ptbxl.target,
        groups=ptbxl.groups,
        cv=folds,
        n_jobs=2,
        method="predict_proba",
    )


def late_average(scores: list[np.ndarray]) -> np.ndarray:
    """Mean of the models' logits, as probabilities."""
    return expit(np.mean([logit(np.clip(p, 1e-6, 1 - 1e-6)) for p in scores], axis=0))


def partition_scores(encode: object, seed: int) -> dict[str, np.ndarray]:
    """Out-of-fold scores of every model on one partition."""
    scores = {
        name: out_of_fold(encode, estimator, kept, seed)
        for name, (estimator, kept) in models().items()
    }
    scores["late average, record + report"] = late_average(
        [scores["whole-record signal"], scores["report, MiniLM"]]
    )
    scores["late average, beats + report + ngrams + person"] = late_average(
        [
            scores[name]
            for name in (
                "beat-aligned signal",
                "report, MiniLM",
                "report, character n-grams",
                "age, sex, height, weight",
            )
        ]
    )
    return scores


def main() -> int:
    """Print the table for each baseline as the reference."""
    ptbxl = load_ptbxl()
    encode = encoder(Path(gettempdir()) / "medfusion-benchmark-embeddings")
    partitions = [partition_scores(encode, seed) for seed in range(PARTITIONS)]
    single = pd.DataFrame(
        {name: [macro_auroc(ptbxl.target, p[name]) for p in partitions] for name in partitions[0]}
    )
    print(f"macro AUROC out of fold, {PARTITIONS} partitions: mean and spread")
    print(single.agg(["mean", "std"]).T.round(4).to_string(), "\n")
    mean = {name: np.mean([p[name] for p in partitions], axis=0) for name in partitions[0]}
    for reference in (
        "concatenation, record + report",
        "late average, record + report",
        CONCATENATION,
        "late average, beats + report + ngrams + person",
        "small model",
    ):
        table = score_table(
            ptbxl.target, mean, reference=reference, groups=ptbxl.groups, random_state=0
        )
        print(f"scores averaged over the partitions; differences to {reference!r}")
        print(table.round(3).fillna("").to_string(), "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
