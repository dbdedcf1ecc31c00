"""
An ECG's report, found by the ECG
=================================

353 real PTB-XL records. TGMM's network places ECG and report of a record in one space, so that a
report can be looked for by an ECG, and an ECG by a report. MiniLM reads the mostly German reports
badly; what is found is right far more often than chance would have it, and far from always.
"""

# %%
# A block per modality, from frozen encoders. A fifth of the patients is kept for testing.
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline

from medfusion_sdk import SignalEncoder, TextEncoder, TGMMRetriever, make_modality_transformer
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import bootstrap_interval, recall_at_k

ptbxl = load_ptbxl()
has_report = ptbxl.data["report"].notna()
X, patients = ptbxl.data[has_report], ptbxl.groups[has_report]
split = GroupShuffleSplit(1, test_size=0.2, random_state=0)
train, test = next(split.split(X, groups=patients))

model = make_pipeline(
    make_modality_transformer(
        ecg=(SignalEncoder(view="beats"), "ecg"), report=(TextEncoder(), "report")
    ),
    TGMMRetriever(random_state=0),
)
model.fit(X.iloc[train], tgmmretriever__groups=patients.iloc[train])

# %%
# Fitting needs no labels: that an ECG and a report belong together is all there is to learn from.
# The training records are the gallery. What do the reports say that new ECGs find? Many read alike;
# each is shown once.
encode, retriever = model[:-1], model[-1]
held_out = encode.transform(X.iloc[test])
distances, rows = retriever.kneighbors(held_out, 30, query="ecg", target="report")
abnormal = np.flatnonzero(ptbxl.target["NORM"][has_report].iloc[test] == 0)
for i in abnormal[:3]:
    print("An ECG whose own report reads:", X["report"].iloc[test[i]])
    found = pd.DataFrame(
        {"distance": distances[i], "report": X["report"].iloc[train[rows[i]]].to_numpy()}
    )
    print(found.drop_duplicates("report").head(3).round(2).to_string(index=False), "\n")

# %%
# How often is a held-out record's own report among the k nearest of all held-out reports? Records
# with the same report can't be told apart, and :func:`~medfusion_sdk.metrics.recall_at_k` counts
# them by their chance. Intervals are bootstrapped over patients.
own = np.eye(len(test))
ks = np.arange(1, 21)
figure, axes = plt.subplots(layout="constrained")
for query, target in (("ecg", "report"), ("report", "ecg")):
    cosines = retriever.similarity(held_out, held_out, query=query, target=target)
    intervals = pd.DataFrame(
        bootstrap_interval(
            partial(recall_at_k, k=k), own, cosines, groups=patients.iloc[test], random_state=0
        )
        for k in ks
    )
    axes.plot(ks, intervals["estimate"], label=f"{query} to {target}")
    axes.fill_between(ks, intervals["low"], intervals["high"], alpha=0.15)
axes.plot(ks, ks / len(test), color="grey", linestyle=":", label="chance")
axes.set(xlabel="k", ylabel="Recall@k", title=f"{len(test)} held-out records")
axes.legend()
