"""PhysioNet 2012, set-a, death in hospital: AMFN's networks without one of their parts.

The paper's ablation table on this task: the networks alone (no expert) without normalisation of
the encodings, attention, gate, graph convolution or alignment, and with what the paper has and our
defaults change. One network each, three seeds, five folds; a difference is to the whole network of
the same seed and fold, and its interval is bootstrapped over stays on scores averaged over seeds.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.icu import load_stays, mean_of_folds, out_of_fold
from medfusion_sdk import AMFNClassifier
from medfusion_sdk.metrics import score_table

SEEDS = 3
WHOLE = "whole network"
VARIANTS: dict[str, dict[str, object]] = {
    WHOLE: {},
    "without normalisation": {"norm": None},
    "without attention": {"use_attention": False},
    "without gate": {"use_gate": False},
    "without graph convolution": {"use_gcn": False},
    "without alignment": {"alignment": None},
    "without any of them": {
        "norm": None,
        "use_attention": False,
        "use_gate": False,
        "use_gcn": False,
        "alignment": None,
    },
    "read out by the weighted sum (Eq. 16)": {"readout": "fusion"},
    "without modality dropout": {"modality_dropout": 0.0},
    "focal loss": {"task_loss": "focal"},
    "four networks averaged": {"ensemble_size": 4},
}


def main() -> int:
    """Print means over seeds and folds, and differences with intervals."""
    X, y = load_stays()
    rows, ranks = [], {}
    for name, changed in VARIANTS.items():
        settings = {"expert": False, "ensemble_size": 1, **changed}
        total = np.zeros(len(y))
        for seed in range(SEEDS):
            score = out_of_fold(AMFNClassifier(**settings, random_state=seed), X, y)
            for metric in (roc_auc_score, average_precision_score):
                found = mean_of_folds(metric, y, score)
                label = "AUROC" if metric is roc_auc_score else "AUPRC"
                rows.append(
                    {"network": name, "seed": seed, "metric": label, "value": np.mean(found)}
                )
            total += pd.Series(score).rank(pct=True).to_numpy()
        ranks[name] = total
        table = pd.DataFrame(rows).query("network == @name").groupby("metric")["value"]
        print(name, table.agg(["mean", "std"]).round(4).to_dict("index"), flush=True)
    table = pd.DataFrame(rows).groupby(["network", "metric"], sort=False)["value"]
    print(table.agg(["mean", "std"]).unstack().round(4).to_string(), "\n")
    for label, metric in (("AUROC", roc_auc_score), ("AUPRC", average_precision_score)):
        table = score_table(y, ranks, reference=WHOLE, metric=metric, random_state=0)
        print(f"{label}, scores averaged over {SEEDS} seeds\n{table.round(4).to_string()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
