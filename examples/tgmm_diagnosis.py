"""
Diagnosis with TGMM: heart failure after an infarction
======================================================

From history, ECG findings and laboratory values at admission: who will have heart failure? TGMM
weighs the modalities that a patient has by gates, lets them look at each other, and answers for any
subset of them. The data are 1,143 real patients that the package carries.
"""

# %%
# A block table: columns ``modality__feature``, an all-NaN block is a missing modality.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

from medfusion_sdk import TGMMClassifier
from medfusion_sdk.datasets import load_mi_complications
from medfusion_sdk.exceptions import ModalityWarning
from medfusion_sdk.inspection import AttentionMapDisplay, ModalityWeightsDisplay
from medfusion_sdk.metrics import macro_auroc, score_table

mi = load_mi_complications(target="ZSN")
names = ("history", "ecg", "labs")
blocks = {name: [c for c in mi.data if c.startswith(f"{name}__")] for name in names}
for name, columns in blocks.items():
    missing = mi.data[columns].isna().mean(axis=None)
    print(f"{name}: {len(columns)} columns, {missing:.0%} of their values missing")

# %%
# From 500 rows on trees stand beside the network, and the log-odds of the two are averaged:
# ``expert=False`` is the published method. What each of the two says by itself is part of the
# explanation. One split of a thousand patients tells little; the method's page has the figures of
# repeated cross-validation.
X_train, X_test, y_train, y_test = train_test_split(
    mi.data, mi.target, test_size=0.4, stratify=mi.target, random_state=0
)
model = TGMMClassifier(random_state=0).fit(X_train, y_train)
boosting = HistGradientBoostingClassifier(random_state=0).fit(X_train, y_train)
told = model.explain(X_test)
network = told.query("quantity == 'probability_network' and label == 1")["value"].to_numpy()
scores = {
    "gradient boosting": boosting.predict_proba(X_test)[:, 1],
    "TGMM's network alone": network,
    "TGMM": model.predict_proba(X_test)[:, 1],
}
print("AUROC of heart failure on other patients, 95 % bootstrap intervals")
table = score_table(y_test, scores, reference="gradient boosting", random_state=0)
print(table.round(3).to_string(na_rep=""))

# %%
# Gates say how much of the fused vector is whose. They are weights inside the model and not
# effects: what a modality changed in the answer is told by predicting again without it.
figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
outcome = y_test.map({0: "no", 1: "yes"}).rename("heart failure")
ModalityWeightsDisplay.from_explanation(told, quantity="gate", by=outcome, ax=panels[0])
ModalityWeightsDisplay.from_explanation(told, quantity="drop_one", by=outcome, ax=panels[1])
_ = panels[1].set_ylabel("change of the probability")

# %%
# Whom each modality looks at.
_ = AttentionMapDisplay.from_explanation(told)

# %%
# A single patient, modality by modality.
patient = told[told["row"] == X_test.index[0]]
shown = patient.query("quantity == 'gate' or (quantity == 'drop_one' and label == 1)")
print(shown[["quantity", "modality", "value"]].round(3).to_string(index=False))

# %%
# The same model where something is missing: no imputation by the user, no second model.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ModalityWarning)  # it says which modality nobody has
    for name, columns in blocks.items():
        without = X_test.assign(**dict.fromkeys(columns, np.nan))
        score = macro_auroc(y_test, model.predict_proba(without)[:, 1])
        print(f"AUROC without {name}: {score:.3f}")

# %%
# The published guidance asks in words. The sentence is embedded once by a frozen language model,
# and the embeddings are kept with the weights, so that prediction needs no language model. The
# stand-in below has random weights and knows no word; ``prompt_encoder="minilm"`` or the folder of
# a clinical model is what to use.
asked = TGMMClassifier(
    guidance="both",
    prompts="Will this patient have heart failure?",
    prompt_encoder="standin-text",
    expert=False,
    random_state=0,
).fit(X_train, y_train)
_ = AttentionMapDisplay.from_estimator(asked, X_test, quantity="prompt")
