"""
Who is at risk, and until when
==============================

299 patients with heart failure, followed for up to 285 days. TGMM reads two groups of their values,
history and tests, and predicts a survival curve for each patient.
"""

# %%
# The outcome has two columns, who died and when. Any subset of the modalities will do for a
# prediction: here a tenth of the patients have no test results.
import matplotlib.pyplot as plt
import numpy as np

from medfusion_sdk import TGMMSurvival
from medfusion_sdk.datasets import load_heart_failure
from medfusion_sdk.inspection import KaplanMeierDisplay, SurvivalCalibrationDisplay
from medfusion_sdk.metrics import bootstrap_interval, concordance_index
from medfusion_sdk.model_selection import EventStratifiedKFold

X, y = load_heart_failure(return_X_y=True)
history = ["age", "anaemia", "diabetes", "high_blood_pressure", "sex", "smoking"]
groups = {"history": history, "tests": [name for name in X if name not in history]}
X.loc[np.random.default_rng(0).random(len(X)) < 0.1, groups["tests"]] = np.nan
train, test = next(EventStratifiedKFold(3, shuffle=True, random_state=0).split(X, y))

# %%
# Risks order the patients; the concordance index says how well, on patients whom the model hasn't
# seen.
model = TGMMSurvival(groups, random_state=0).fit(X.iloc[train], y.iloc[train])
risk = model.predict(X.iloc[test])
print(bootstrap_interval(concordance_index, y.iloc[test], risk, random_state=0))

# %%
# Curves of the patients of lowest, middle and highest risk.
order = np.argsort(risk)
curves = model.predict_survival_function(X.iloc[test])
ax = plt.subplots(layout="constrained")[1]
for name, place in (("lowest", 0), ("middle", len(risk) // 2), ("highest", -1)):
    curve = curves[order[place]]
    ax.step(curve.x, curve.y, where="post", label=f"{name} risk")
ax.set(xlabel="days", ylabel="probability of being alive", ylim=(0, 1.02))
ax.legend()

# %%
# Groups below and above the median risk, with the log-rank test between them; and whether the
# probabilities of dying within 90 days are what was observed.
KaplanMeierDisplay.from_predictions(y.iloc[test], risk)
SurvivalCalibrationDisplay.from_estimator(model, X.iloc[test], y.iloc[test], horizon=90, n_groups=3)

# %%
# What the log-risk of one patient would be without a modality.
told = model.explain(X.iloc[test[:1]])
print(told[told["quantity"] == "drop_one"][["modality", "value"]].round(2).to_string(index=False))
