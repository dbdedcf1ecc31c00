"""MiniRocket: frozen against fitted biases, whole record against beats, speed against aeon.

Scores are macro AUROC over PTB-XL's five superclasses on the 353 bundled records, out of fold under
patient-grouped stratified five-fold cross-validation, logistic regression on the scaled features.
Fold partitions differ by more than encoders do, so out-of-fold scores are averaged over several;
intervals and paired differences are bootstrapped over patients. Speed is one thread on both sides;
aeon is only timed where it is installed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import paired_seconds, report
from medfusion_sdk import SignalEncoder
from medfusion_sdk.backbones.minirocket import MiniRocket
from medfusion_sdk.backbones.minirocket_biases import frozen_minirocket, reference_ensemble
from medfusion_sdk.backbones.signal_networks import rows_at_once
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import macro_auroc, paired_difference, score_table
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

PARTITIONS = 3
BEATS_AT_LEAST, FROZEN_WITHIN = 0.87, 0.01
SHAPES = ((12, 1000), (12, 100))  # a whole record, a beat


def classifier() -> Pipeline:
    """Scaled logistic regression per label."""
    return make_pipeline(
        StandardScaler(), OneVsRestClassifier(LogisticRegression(C=0.003, max_iter=2000))
    )


def out_of_fold(encoder: SignalEncoder, ptbxl) -> np.ndarray:
    """Scores of each record by models that did not see its patient, over several partitions."""
    column, labels = ptbxl.data["ecg"], ptbxl.target.to_numpy()
    frozen = None if encoder.fit_biases else encoder.fit_transform(column)
    scores = np.zeros(labels.shape)
    for seed in range(PARTITIONS):
        folds = MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for train, test in folds.split(labels, labels, ptbxl.groups):
            if frozen is None:
                encoder.fit(column.iloc[train])
                inside, outside = (encoder.transform(column.iloc[rows]) for rows in (train, test))
            else:
                inside, outside = frozen[train], frozen[test]
            model = classifier().fit(inside, labels[train])
            scores[test] += model.decision_function(outside) / PARTITIONS
    return scores


def compare_scores() -> None:
    """Print the scores of views and biases with their paired differences."""
    ptbxl = load_ptbxl()
    scores = {
        f"{view}, {'fitted' if fitted else 'frozen'}": out_of_fold(
            SignalEncoder(view=view, fit_biases=fitted), ptbxl
        )
        for view in ("full", "beats")
        for fitted in (False, True)
    }
    labels, groups = ptbxl.target.to_numpy(), ptbxl.groups
    table = score_table(
        labels, scores, reference="full, frozen", groups=groups, n_resamples=500, random_state=0
    )
    print(table.round(3).to_string())
    for view in ("full", "beats"):
        frozen, fitted = scores[f"{view}, frozen"], scores[f"{view}, fitted"]
        difference = paired_difference(
            macro_auroc, labels, frozen, fitted, groups=groups, n_resamples=500, random_state=0
        )
        report(
            f"{view}: |frozen - fitted| macro AUROC",
            abs(difference.estimate) / FROZEN_WITHIN,
            f"the bound of {FROZEN_WITHIN}",
            at_most=1,
            detail=f"frozen - fitted = {difference}",
        )
    beats = macro_auroc(labels, scores["beats, frozen"])
    report(
        "beats, frozen: macro AUROC",
        beats / BEATS_AT_LEAST,
        f"the bound of {BEATS_AT_LEAST}",
        at_least=1,
        detail=f"{beats:.3f}",
    )


def compare_speed() -> None:
    """Print the time of a transform against aeon's, which is compiled by numba."""
    if find_spec("aeon") is None:
        print("speed against aeon: skipped, aeon is not installed here (pip install aeon)")
        return
    from aeon.transformations.collection.convolution_based import MiniRocket as AeonMiniRocket

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for n_channels, length in SHAPES:
        signals = reference_ensemble(n_channels, length, seed=1)[:64]
        aeon = AeonMiniRocket(n_kernels=9996, n_jobs=1, random_state=0).fit(signals)
        ours = MiniRocket(*frozen_minirocket(n_channels, length, 9996, 0))
        tensors = torch.from_numpy(signals).split(rows_at_once(length, torch.device("cpu")))
        aeon.transform(signals), [ours(batch) for batch in tensors]  # compile, allocate
        seconds, reference = paired_seconds(
            lambda ours=ours, tensors=tensors: [ours(batch) for batch in tensors],
            lambda aeon=aeon, signals=signals: aeon.transform(signals),
        )
        report(
            f"MiniRocket, {n_channels} x {length}, 9,996 features, one thread",
            reference / seconds,
            "aeon's speed",
            at_least=1,
            detail=f"{1e3 * seconds / 64:.1f} ms against {1e3 * reference / 64:.1f} ms a signal",
        )
    torch.set_num_threads(before)


def main() -> int:
    """Compare speed, then scores."""
    compare_speed()
    compare_scores()
    return 0


if __name__ == "__main__":
    sys.exit(main())
