"""TGMMSurvival on TCGA and heart failure, beside Cox models in the same folds.

Scores are Harrell's concordance index of out-of-fold risks, compared within folds only, averaged
over several event-stratified partitions. Intervals and paired differences are bootstrapped over
patients. Nothing is tuned on the partitions that are reported: TGMMSurvival has its defaults,
which were chosen on other partitions of the same patients, and elastic nets choose their penalty by
cross-validation within the training rows.

- elastic net Cox, RNA or all columns: scikit-survival's Coxnet, l1_ratio 0.5, on robust z-scores
  clipped to ±3, as TGMMSurvival reads them; modality after modality in equal shares for all.
- age and sex, and each modality alone: TGMMSurvival on those columns.
- network alone: ``expert=False``, the published method.

Run with names of cohorts for a part: ``python -m benchmarks.bench_tgmm_survival kirc``.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.base import clone
from sksurv.linear_model import CoxnetSurvivalAnalysis, CoxPHSurvivalAnalysis

from benchmarks.common import data_folder, report
from medfusion_sdk import TGMMSurvival
from medfusion_sdk.datasets import load_heart_failure, load_tcga
from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.exceptions import GateCollapseWarning
from medfusion_sdk.metrics import concordance_index, score_table
from medfusion_sdk.model_selection import EventStratifiedKFold
from medfusion_sdk.survival import SurvivalTimes

PARTITIONS = 3
TARGETS = {"kirc": 0.74, "blca": 0.65}
N_RESAMPLES = 300

Model = Callable[[pd.DataFrame, np.ndarray, pd.DataFrame], np.ndarray]


def tgmm(modalities: tuple[str, ...] = (), **parameters) -> Model:
    """TGMMSurvival on some modalities, or all."""

    def risks(X: pd.DataFrame, y: np.ndarray, new: pd.DataFrame) -> np.ndarray:
        kept = [name for name in X if not modalities or name.split("__")[0] in modalities]
        model = TGMMSurvival(random_state=0, **parameters)
        return model.fit(X[kept], y).predict(new[kept])

    return risks


def elastic_net(modalities: tuple[str, ...] = ()) -> Model:
    """Elastic-net Cox; its penalty by five event-stratified folds of the training rows."""

    def risks(X: pd.DataFrame, y: np.ndarray, new: pd.DataFrame) -> np.ndarray:
        kept = [name for name in X if not modalities or name.split("__")[0] in modalities]
        scaling = BlockScaling.fit(
            X[kept].to_numpy(float),
            np.ones(len(X)),
            feature_names=kept,
            modalities="auto",
            scaling="feature",
            clip=3.0,
        )
        x, inside = (scaling.apply(table[kept].to_numpy(float))[0] for table in (X, new))
        path = CoxnetSurvivalAnalysis(
            l1_ratio=0.5, n_alphas=30, alpha_min_ratio=0.05, normalize=False
        )
        alphas = path.fit(x, y).alphas_
        scores = np.zeros(len(alphas))
        for train, test in EventStratifiedKFold(5, shuffle=True, random_state=0).split(x, y):
            model = clone(path).set_params(alphas=alphas).fit(x[train], y[train])
            scores += [concordance_index(y[test], model.predict(x[test], alpha=a)) for a in alphas]
        return path.predict(inside, alpha=alphas[int(np.argmax(scores))])

    return risks


def cox(X: pd.DataFrame, y: np.ndarray, new: pd.DataFrame) -> np.ndarray:
    """Cox's model without a penalty."""
    return CoxPHSurvivalAnalysis().fit(X, y).predict(new)


def out_of_fold(model: Model, X: pd.DataFrame, y: np.ndarray) -> np.ndarray:
    """Risks by models that did not see the patient, and the fold, of each partition."""
    columns = np.zeros((len(X), 2 * PARTITIONS))
    for seed in range(PARTITIONS):
        folds = EventStratifiedKFold(5, shuffle=True, random_state=seed)
        for number, (train, test) in enumerate(folds.split(X, y)):
            columns[test, 2 * seed] = model(X.iloc[train], y[train], X.iloc[test])
            columns[test, 2 * seed + 1] = number
    return columns


def within_folds(y: np.ndarray, columns: np.ndarray) -> float:
    """Concordance within folds, averaged over partitions."""
    parts = np.split(columns, PARTITIONS, axis=1)
    return float(
        np.mean(
            [concordance_index(y, risk, strata=fold) for risk, fold in map(np.transpose, parts)]
        )
    )


def compare(X: pd.DataFrame, y: np.ndarray, models: dict[str, Model], reference: str) -> pd.Series:
    """Print the table of models, and return their scores."""
    scores = {}
    for name, model in models.items():
        start = time.perf_counter()
        scores[name] = out_of_fold(model, X, y)
        print(f"  {name}: {time.perf_counter() - start:.0f} s", flush=True)
    table = score_table(
        y,
        scores,
        reference=reference,
        metric=within_folds,
        n_resamples=N_RESAMPLES,
        random_state=0,
    )
    print(table.round(3).fillna("").to_string(), "\n", flush=True)
    return table["score"]


def tcga(cohort: str) -> None:
    """Compare on a cohort of TCGA."""
    X, frame = load_tcga(data_folder("tcga"), cohort=cohort, return_X_y=True)
    y = SurvivalTimes.of(frame).original
    print(f"{cohort}: {len(X)} patients, {y['event'].sum()} events")
    singles = {name: tgmm((name,)) for name in ("rna", "cnv", "mut")}
    models = {
        "age and sex": tgmm(("person",)),
        "elastic net Cox, RNA": elastic_net(("rna",)),
        "elastic net Cox, all columns": elastic_net(),
        **{f"TGMM, {name} alone": model for name, model in singles.items()},
        "TGMM, network alone": tgmm(expert=False),
        "TGMM": tgmm(),
    }
    score = compare(X, y, models, "elastic net Cox, RNA")
    ours = score["TGMM"]
    target = TARGETS[cohort]
    report(f"{cohort}: C-index", ours / target, f"{target}", at_least=1, detail=f"{ours:.3f}")
    best = score.drop("TGMM").drop("TGMM, network alone").drop("elastic net Cox, all columns")
    report(
        f"{cohort}: C-index",
        ours / best.max(),
        f"the best of {best.idxmax()!r} and others",
        at_least=1,
    )


def heart_failure() -> None:
    """Compare on the bundled heart failure table."""
    X, frame = load_heart_failure(return_X_y=True)
    y = SurvivalTimes.of(frame).original
    print(f"heart failure: {len(X)} patients, {y['event'].sum()} events")
    models = {"Cox": cox, "TGMM, network alone": tgmm(expert=False), "TGMM": tgmm()}
    score = compare(X, y, models, "Cox")
    report("heart failure: C-index", score["TGMM"] / score["Cox"], "Cox's", at_least=1)


def main() -> int:
    """Compare on the named cohorts, or all."""
    warnings.simplefilter("ignore", GateCollapseWarning)
    names = sys.argv[1:] or ["heart_failure", "kirc", "blca"]
    for name in names:
        heart_failure() if name == "heart_failure" else tcga(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
