"""Size of a fitted pipeline's pickle and saved folder, against the bytes of its trained weights.

The pipeline reads raw PTB-XL columns through frozen encoders, MiniLM and MiniRocket, and ends in
AdaCoMed. Trained weights are those of AdaCoMed and of its small model; whatever else is stored
(parameters, names, scaling, history) is what the ratio is above one by.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import report
from medfusion_sdk import (
    AdaCoMedClassifier,
    SignalEncoder,
    TextEncoder,
    make_modality_transformer,
    save_estimator,
)
from medfusion_sdk.datasets import load_ptbxl

RECORDS = 60  # the size doesn't depend on their number


def fitted_pipeline() -> Pipeline:
    """Fit on some records; sizes don't depend on how well."""
    ptbxl = load_ptbxl()
    person = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encode = make_modality_transformer(
        ecg=(SignalEncoder(view="beats", fs=ptbxl.fs), "ecg"),
        report=(TextEncoder(), "report"),
        person=(person, ["age", "sex", "height", "weight"]),
    )
    fuse = AdaCoMedClassifier(max_epochs=2, random_state=0)
    model = Pipeline([("encode", encode), ("fuse", fuse)])
    some = ptbxl.data.sample(RECORDS, random_state=0)
    return model.fit(some, ptbxl.target.loc[some.index])


def main() -> int:
    """Print both ratios."""
    model = fitted_pipeline()
    fuse = model[-1]
    states = [*fuse.state_.values(), *fuse.small_.state_.values()]
    weights = sum(weight.nbytes for weight in states)
    with TemporaryDirectory() as home:
        save_estimator(model, Path(home, "model"))
        folder = sum(path.stat().st_size for path in Path(home, "model").iterdir())
    for what, size in (("pickle", len(pickle.dumps(model))), ("saved folder", folder)):
        report(
            f"{what} of a fitted pipeline",
            size / weights,
            "the bytes of its trained weights",
            at_most=1.3,
            detail=f"{size / 1e6:.2f} MB against {weights / 1e6:.2f} MB",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
