"""
Intensive care: from events to a prediction at any hour
=======================================================

A long table of events becomes series per stay, AMFN fuses them, and says which group of channels
spoke for its answer, how sure it is, and how both move as a stay goes on. The stays are generated,
so the scores say nothing about patients.
"""

# %%
# Monitors and laboratories write a line per value. :func:`~medfusion_sdk.grid_events` puts them on
# a grid of 48 hours, one column of series per group of channels; what wasn't measured stays open.
import warnings

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.calibration import CalibrationDisplay
from sklearn.ensemble import HistGradientBoostingClassifier

from medfusion_sdk import AMFNClassifier, grid_events, make_prefixes
from medfusion_sdk.datasets import make_icu_cohort
from medfusion_sdk.exceptions import ModalityWarning
from medfusion_sdk.inspection import (
    AttentionMapDisplay,
    ModalityGraphDisplay,
    ModalityWeightsDisplay,
    WeightsOverTimeDisplay,
)
from medfusion_sdk.metrics import macro_auroc, score_table

cohort = make_icu_cohort(600, random_state=0)
events, died = cohort.events, cohort.target.rename("died")
print(events.head(4).round(1).to_string(index=False), "\n")
X, report = grid_events(
    events, cohort.channels, step=60, length=48, statics={"Age": "age", "Gender": "sex"}
)
print(report.counts[["events", "used", "stays"]].to_string(), "\n")
print("share of stays with a value")
print(X.notna().mean().round(2).to_string())

# %%
# Beside it, gradient boosting on summaries of each channel: on such data the baseline to beat.
# Two networks of 20 epochs keep this page quick; the defaults are four, of 63 here.
summaries = (
    events.groupby(["record_id", "parameter"])["value"]
    .agg(["mean", "min", "max", "last", "count"])
    .unstack()
)
train, test = X.index[:400], X.index[400:]
quick = {"ensemble_size": 2, "max_epochs": 20, "random_state": 0}
model = AMFNClassifier(**quick).fit(X.loc[train], died[train])
boosting = HistGradientBoostingClassifier(random_state=0).fit(summaries.loc[train], died[train])
risk = model.predict_proba(X.loc[test])[:, 1]
scores = {
    "gradient boosting on summaries": boosting.predict_proba(summaries.loc[test])[:, 1],
    "AMFN": risk,
}
print("AUROC on other stays, 95 % bootstrap intervals")
table = score_table(died[test], scores, reference="gradient boosting on summaries", random_state=0)
print(table.round(3).to_string(na_rep=""))

# %%
# Whether a risk of 30 % means three in ten.
figure, ax = plt.subplots(figsize=(4.4, 4.2), layout="constrained")
for name, score in scores.items():
    CalibrationDisplay.from_predictions(
        died[test], score, n_bins=6, strategy="quantile", name=name, ax=ax
    )

# %%
# How sure it is, in two parts: what any model would leave open (data), and what the networks
# disagree about (model), which more stays would settle.
told = model.explain(X.loc[test])
parts = told[told["quantity"].isin(["entropy_data", "entropy_model"])]
parts = parts.pivot(index="row", columns="quantity", values="value")
right = ((risk > 0.5) == died[test]).map({True: "right", False: "wrong"}).rename("prediction")
print("mean entropy in nats")
print(parts.groupby(right).mean().round(3).to_string())

# %%
# What each group of channels adds to the score of death: the head is linear, so these are parts of
# a sum. Below a name stands which share of the stays has the group at all.
ModalityWeightsDisplay.from_explanation(told, quantity="contribution", by=died[test])

# %%
# Which groups the network takes for alike, in survivors and in those who died; a node is as large
# as its gate.
ModalityGraphDisplay.from_explanation(told, by=died[test])

# %%
# How much each takes from each other one in the attention, averaged over heads and over the stays
# that have both.
AttentionMapDisplay.from_explanation(told)

# %%
# At any hour
# -----------
# A model of whole stays takes the first six hours for a stay in which little was measured. One that
# shall answer at any hour learns from stays that were cut at one: here each at a random one.
hours = [6, 12, 24, 36, 48]
prefixes, stays = make_prefixes(X.loc[train], hours)
one_each = prefixes.groupby(stays).sample(1, random_state=0)
own = stays[one_each.index]
anytime = AMFNClassifier(**quick).fit(one_each, died[own], groups=own)


def auroc_at(hour, classifier):
    """Score of what was known after these hours."""
    known, own = make_prefixes(X.loc[test], [hour])
    return macro_auroc(died[own], classifier.predict_proba(known)[:, 1])


by_hour = {
    name: [auroc_at(hour, classifier) for hour in hours]
    for name, classifier in {"fitted on whole stays": model, "fitted on prefixes": anytime}.items()
}
print("AUROC on other stays by the hours that are known")
print(pd.DataFrame(by_hour, index=hours).round(3).to_string())

# %%
# The course of one stay that ended in death: what each group adds, and the risk.
last = pd.Series(anytime.predict_proba(X.loc[test])[:, 1], index=test)
patient = X.loc[[last[died[test] == 1].idxmax()]]
display = WeightsOverTimeDisplay.from_estimator(anytime, patient, hours, quantity="contribution")
_ = display.ax_.set(xlabel="hours", title=f"stay {patient.index[0]}")

# %%
# And the mean course of all who died; the band holds the middle half of their risks.
dead = X.loc[test][died[test] == 1]
display = WeightsOverTimeDisplay.from_estimator(anytime, dead, hours, quantity="contribution")
_ = display.ax_.set(xlabel="hours", title=f"{len(dead)} stays that ended in death")

# %%
# Where something isn't measured
# ------------------------------
# Another hospital may have no laboratory on the unit. It needs no other model: what is missing has
# no voice. The estimator warns when a whole table lacks a modality; here that is the point.
warnings.simplefilter("ignore", ModalityWarning)
left = {"nothing": risk}
for name in cohort.channels:
    left[name] = model.predict_proba(X.loc[test].assign(**{name: None}))[:, 1]
table = score_table(died[test], left, reference="nothing", random_state=0)
print("AUROC on other stays without")
print(table.rename_axis("").round(3).to_string(na_rep=""))
plt.show()
