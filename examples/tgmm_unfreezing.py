"""
How much of an encoder should learn: TGMM's unfreezing ablation
===============================================================

TGMM's description varies how many layers of its encoders are unfrozen. Here the same on real
PTB-XL records: the report's language model frozen, with its last block learning, or with low-rank
adapters, beside a frozen ECG encoder. Small enough to run with the pages;
``benchmarks/bench_tgmm_tuning.py`` has all records and intervals that mean more.
"""

# %%
# A raw column for each encoder; nothing is encoded beforehand.
import pandas as pd

from medfusion_sdk import SignalEncoder, TextEncoder, TGMMClassifier
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import score_table
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

ptbxl = load_ptbxl()
X, y, patients = ptbxl.data[["report", "ecg"]][:160], ptbxl.target[:160], ptbxl.groups[:160]
train, test = next(MultilabelStratifiedGroupKFold(2).split(X, y, patients))
encoders = {"report": TextEncoder(), "ecg": SignalEncoder(view="beats")}

# %%
# MiniRocket has no blocks that could learn, so what is asked for holds for the report alone.
scores, learnt = {}, {}
for tuning in ("frozen", 1, "lora"):
    model = TGMMClassifier(
        encoders=encoders,
        encoder_tuning=tuning,
        encoder_learning_rate=1e-4,
        max_epochs=100 if tuning == "frozen" else 3,
        expert=False,
        random_state=0,
    )
    model.fit(X.iloc[train], y.iloc[train], groups=patients.iloc[train])
    scores[str(tuning)] = model.predict_proba(X.iloc[test])
    learnt[str(tuning)] = sum(
        weights.size for name, weights in model.state_.items() if name.startswith("encoders.")
    )

# %%
# On eighty patients the intervals are wide: an ablation of this size says what it costs, not what
# it brings.
table = score_table(
    y.iloc[test], scores, reference="frozen", groups=patients.iloc[test], random_state=0
)
table.insert(0, "encoder weights that learn", pd.Series(learnt))
print(table.round(3).to_string())
