"""
A scan and its report: Brain-Adapter
====================================

Brain-Adapter trains a small adapter in front of a frozen network for volumes, and aligns what comes
out with the frozen vector of a report. Here on generated heads: wide ventricles and lapses of
memory speak for the illness, each for a part of it.

The vision network is a **stand-in with random weights**: the example shows how things are done, not
how well. With M3D-CLIP on your disk its folder takes the place of ``"standin-vit3d"``.
"""

# %%
# A folder of NIfTI files under BIDS names becomes a table of paths. Nothing but names is read yet;
# volumes come from their files batch by batch.
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from medfusion_sdk import BrainAdapterClassifier
from medfusion_sdk.datasets import load_nifti_cohort, make_volume_cohort
from medfusion_sdk.inspection import VolumeMapDisplay
from medfusion_sdk.metrics import bootstrap_interval, macro_auroc

folder = tempfile.TemporaryDirectory()
cohort = make_volume_cohort(
    160, size=(16, 32, 32), signal=2.0, n_subjects=120, folder=folder.name, random_state=0
)
scans = load_nifti_cohort(folder.name)
X = scans.merge(cohort.data[["subject", "session", "report"]], on=["subject", "session"])
y = cohort.target
print(X[["subject", "session", "report"]].head(3).to_string(index=False))

# %%
# Persons are on one side of the split, with all their sessions. The column ``subject`` also keeps
# their rows from being contrasted with each other.
train, test = next(StratifiedGroupKFold(3).split(X, y, X["subject"]))
columns = ["T1w", "report", "subject"]
model = BrainAdapterClassifier(
    "standin-vit3d", adapter="slice2d", subject="subject", max_epochs=8, random_state=0
)
for inputs in ("image", "text", "both"):
    model.set_params(inputs=inputs).fit(X[columns].iloc[train], y[train])
    scores = model.decision_function(X[columns].iloc[test])
    groups = X["subject"].iloc[test]
    print(
        f"{inputs:6}",
        bootstrap_interval(macro_auroc, y[test], scores, groups=groups, random_state=0),
    )

# %%
# The head is linear, so each class score is exactly the sum of what the scan adds, what the report
# adds, and a constant.
one = X[columns].iloc[[test[int(np.argmax(scores))]]]
told = model.explain(one)
print(one["report"].iloc[0])
shown = told[told["quantity"].isin(["contribution", "similarity"])]
print(shown[["quantity", "modality", "label", "value"]].round(3).to_string(index=False))

# %%
# Where in the scan: by how much the score falls when a block of it is taken away.
VolumeMapDisplay.from_estimator(model, one, kind="occlusion")

# %%
# And what the adapter adds to a plain average of slices before the frozen network sees them.
VolumeMapDisplay.from_estimator(model, one, kind="adapter")

# %%
# Scans and reports lie in one space. Similarity of every scan of the other persons with every
# report: the ill and the well form blocks.
order = test[np.argsort(y[test].to_numpy(), kind="stable")]
figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
image = ax.imshow(model.similarity(X[columns].iloc[order]), cmap="RdBu_r")
ax.set(xlabel="scan", ylabel="report", title="cosine, persons sorted by class")
figure.colorbar(image, ax=ax)
plt.show()

# %%
# So a report finds the scans that look as it sounds.
nearest = model.kneighbors(one, X[columns].iloc[train], 5, return_distance=False)[0]
print("classes of the nearest scans:", y[train].iloc[nearest].tolist())
folder.cleanup()
