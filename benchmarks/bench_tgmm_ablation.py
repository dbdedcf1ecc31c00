"""TGMM's network without its expert, part by part: fusion, gates, guidance, dropout, clipping.

AUROC of heart failure and of death on the bundled 1,143 infarctions, out of fold in one partition
of five folds that is none of those of ``bench_tgmm``; differences to the defaults are bootstrapped
over patients. With about 0.02 between seeds, smaller differences are noise.
"""

from __future__ import annotations

import sys

from sklearn.model_selection import StratifiedKFold, cross_val_predict

from medfusion_sdk import TGMMClassifier
from medfusion_sdk.datasets import load_mi_complications
from medfusion_sdk.metrics import macro_auroc, paired_difference

PARTITION = 100
VARIANTS = {
    "defaults": {},
    "no attention": {"fusion": "gate_only"},
    "no gates": {"fusion": "attention_only"},
    "mean": {"fusion": "mean"},
    "concatenation": {"fusion": "concat"},
    "sigmoid gates": {"gate": "sigmoid"},
    "no guidance": {"guidance": "none"},
    "guidance at the fusion": {"guidance_at": "fusion"},
    "no modality dropout": {"modality_dropout": 0.0},
    "no clipping": {"clip": None},
}


def main() -> int:
    """Print a line per variant and target."""
    folds = StratifiedKFold(5, shuffle=True, random_state=PARTITION)
    for target in ("ZSN", "death"):
        X, y = load_mi_complications(target=target, return_X_y=True)
        defaults = None
        for name, changed in VARIANTS.items():
            model = TGMMClassifier(expert=False, random_state=0, **changed)
            score = cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
            defaults = score if defaults is None else defaults
            difference = paired_difference(macro_auroc, y, score, defaults, random_state=0)
            print(f"{target}, {name}: {macro_auroc(y, score):.3f}, {difference}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
