"""
An ECG and its report: the dual adapter
=======================================

MedualTime runs the ECG and the report through one frozen language model; adapters carry each
modality into the other's path. Here on 200 real PTB-XL records, with a look at what was learnt.
"""

# %%
# One row per record, one signal and one text column: nothing else has to be said.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from medfusion_sdk import DualAdapterClassifier
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.inspection import GateDisplay, SignalAttributionDisplay
from medfusion_sdk.metrics import bootstrap_interval, macro_auroc

ptbxl = load_ptbxl()
X, y, patients = ptbxl.data[["ecg", "report"]], ptbxl.target["NORM"], ptbxl.groups
X, y, patients = X[:200], y[:200], patients[:200]
train, test = next(StratifiedGroupKFold(3).split(X, y, patients))
model = DualAdapterClassifier(random_state=0)
model.fit(X.iloc[train], y.iloc[train], groups=patients.iloc[train])
normal = model.predict_proba(X.iloc[test])[:, 1]
print(
    "normal or not, AUROC on other patients:",
    bootstrap_interval(
        macro_auroc, y.iloc[test], normal, groups=patients.iloc[test], random_state=0
    ),
)

# %%
# One record may lack its report, or its ECG; the path that is left answers.
without = X.iloc[test].assign(report=None)
print(f"without reports {macro_auroc(y.iloc[test], model.predict_proba(without)[:, 1]):.3f}")

# %%
# What both paths say of one record, and how much each layer took from the other modality.
one = X.iloc[[test[int(np.argmin(normal))]]]
print(one["report"].iloc[0])
told = model.explain(one)
shown = told[told["quantity"].str.startswith(("probability", "share"))]
print(shown[["quantity", "path", "layer", "label", "value"]].to_string(index=False, na_rep=""))

# %%
# The gates started at zero: a head that stayed there reads its own modality alone.
GateDisplay.from_estimator(model)

# %%
# Which part of the median beat speaks for the answer: each tenth of it in each lead was made a
# straight line in turn, and the score computed again.
SignalAttributionDisplay.from_estimator(model, one, channel_names=ptbxl.lead_names)

# %%
# And which words: gradient times the state of each token where the adapted layers begin.
words = told[(told["quantity"] == "attribution") & (told["modality"] == "text")]
figure, ax = plt.subplots(figsize=(8, 2.5), layout="constrained")
ax.bar(range(len(words)), words["value"])
ax.set_xticks(range(len(words)), words["part"], rotation=60, ha="right")
ax.set_ylabel("gradient x state")
plt.show()
