"""
An embedding that needed no label
=================================

The embedder teaches the same adapters to know a record by a noisy view of its ECG, and by the other
path's view of it. Its output goes into any scikit-learn classifier.
"""

# %%
# A Pipeline, as with any transformer.
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import (
    DualAdapterEmbedder,
    SignalEncoder,
    TextEncoder,
    make_modality_transformer,
)
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.metrics import score_table
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold

ptbxl = load_ptbxl()
X = ptbxl.data.loc[ptbxl.data["report"].notna(), ["ecg", "report"]]
y, patients = ptbxl.target.loc[X.index], ptbxl.groups.loc[X.index]
representations = {
    "frozen embeddings": make_modality_transformer(
        ecg=(SignalEncoder(view="beats"), "ecg"), report=(TextEncoder(), "report")
    ),
    "dual adapter embedder": DualAdapterEmbedder(random_state=0),
}
folds = MultilabelStratifiedGroupKFold(3, shuffle=True, random_state=0)
scores = {}
for name, representation in representations.items():
    probe = OneVsRestClassifier(LogisticRegression(C=0.003, max_iter=1000))
    pipeline = make_pipeline(representation, StandardScaler(), probe)
    scores[name] = cross_val_predict(
        pipeline, X, y, groups=patients, cv=folds, method="predict_proba"
    )

# %%
# Linear probes of both on the five superclasses; differences under about 0.02 are noise at this
# size.
table = score_table(y, scores, reference="frozen embeddings", groups=patients, random_state=0)
print(table.round(3).to_string(na_rep=""))
