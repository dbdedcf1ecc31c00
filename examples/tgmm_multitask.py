"""
Two tasks from one fusion: diagnosis and prognosis
==================================================

Few cohorts have every label. Here some patients were diagnosed and others followed up, and few
were both; TGMM learns one fusion from all of them, and each task from those whose label is known.
The patients are generated, so the scores say nothing about real ones.
"""

# %%
# Three modalities, and a disease that shows in all of them. Who has it, dies earlier; follow-up
# ends at some time for the others.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from medfusion_sdk import TGMMClassifier, TGMMMultiTask, TGMMSurvival
from medfusion_sdk.datasets import make_multimodal_cohort
from medfusion_sdk.inspection import ModalityWeightsDisplay
from medfusion_sdk.metrics import concordance_index, macro_auroc

cohort = make_multimodal_cohort(1000, shared=2.0, missing=0.2, random_state=0)
X, ill = cohort.data, cohort.target
rng = np.random.default_rng(0)
died = rng.exponential(np.where(ill == 1, 1.0, 10.0))
left = rng.exponential(8.0, size=len(X))
complete = pd.DataFrame({"hf": ill.astype(float), "event": died <= left})
complete["time"] = np.minimum(died, left)

# %%
# Of 300 patients to learn from, 120 have a diagnosis and 220 a follow-up. What is unknown is NaN.
train, test = slice(0, 300), slice(300, None)
y = complete[train].astype(float)
y.loc[120:, "hf"] = np.nan
y.loc[:79, ["event", "time"]] = np.nan
print(y.notna().value_counts().to_string())

# %%
# Both tasks together, beside each alone on its own patients.
model = TGMMMultiTask(random_state=0).fit(X[train], y)
diagnosed, followed = y["hf"].notna(), y["time"].notna()
classifier = TGMMClassifier(random_state=0).fit(X[train][diagnosed], y["hf"][diagnosed])
survival = TGMMSurvival(random_state=0).fit(X[train][followed], y.loc[followed, ["event", "time"]])
outcome = complete.loc[X[test].index, ["event", "time"]]
print(
    pd.DataFrame(
        {
            "AUROC": [
                macro_auroc(ill[test], one.predict_proba(X[test])[:, 1])
                for one in (classifier, model)
            ],
            "C-index": [
                concordance_index(outcome, survival.predict(X[test])),
                concordance_index(outcome, model.predict_risk(X[test])),
            ],
        },
        index=["each task alone", "both together"],
    ).round(3)
)

# %%
# One call answers both; curves are those of :class:`~medfusion_sdk.TGMMSurvival`.
print(model.predict(X[test]).head(3).round(2))
figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
for row, curve in zip(X[test].index[:3], model.predict_survival_function(X[test])[:3], strict=True):
    ax.step(curve.x, curve.y, where="post", label=f"patient {row}")
ax.set(xlabel="years", ylabel="probability to be alive", ylim=(0, 1))
_ = ax.legend()

# %%
# What each modality changed, task by task.
told = model.explain(X[test])
figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for ax, (task, lines) in zip(panels, told.groupby("task"), strict=True):
    ModalityWeightsDisplay.from_explanation(lines, quantity="drop_one", ax=ax)
    ax.set_title(task)
