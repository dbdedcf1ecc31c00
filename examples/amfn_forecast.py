"""
The next hour's heart rate and pressure, with intervals
=======================================================

AMFN forecasts from twelve hours of everything that is measured, and says how far off it may be.
Beside it stand two forecasts that need no model: the last value, and the mean of the window. The
stays are generated, so the errors say nothing about patients.
"""

# %%
# Windows of twelve hours, and the hour that follows where it was measured. Windows of one stay
# overlap: the split is by stay.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

from medfusion_sdk import AMFNRegressor, make_forecast_windows
from medfusion_sdk.datasets import make_icu_cohort
from medfusion_sdk.inspection import CoverageDisplay
from medfusion_sdk.metrics import coverage_table, score_table

cohort = make_icu_cohort(400, random_state=0)
NAMES = ["heart rate", "mean pressure"]


def past_and_next(table, stride):
    """Windows in which both were seen, what followed, whose they are, and two simple forecasts."""
    windows, following, stays = make_forecast_windows(
        table, window=12, horizon=1, stride=stride, target="vitals", channels=[0, 1]
    )
    nothing = np.full((2, 12), np.nan)
    both = np.stack([nothing if cell is None else cell[:2] for cell in windows["vitals"]])
    seen = (~np.isnan(both)).any(axis=2).all(axis=1)
    windows, following, stays, both = windows[seen], following[seen], stays[seen], both[seen]
    last = [[channel[~np.isnan(channel)][-1] for channel in cell] for cell in both]
    simple = [pd.DataFrame(x, windows.index, NAMES) for x in (last, np.nanmean(both, axis=2))]
    return windows, following.set_axis(NAMES, axis=1), stays, *simple


windows, following, stays, last, mean = past_and_next(cohort.data, stride=4)
train, test = next(
    GroupShuffleSplit(1, test_size=0.4, random_state=0).split(windows, following, stays)
)
print(f"{len(train)} windows to learn from, {len(test)} of other stays")

# %%
# The network learns the change from the window's mean: the level is known already. An expert of
# trees would be fitted in folds that don't know which windows belong together, so it is left out.
model = AMFNRegressor(expert=False, ensemble_size=2, max_epochs=10, random_state=0)
model.fit(windows.iloc[train], (following - mean).iloc[train], groups=stays.iloc[train])
change, spread = model.predict(windows.iloc[test], return_std=True)
forecast = {
    "last value": last.iloc[test],
    "mean of the window": mean.iloc[test],
    "AMFN": mean.iloc[test] + change,
}


def absolute_error(truth, predicted):
    """Mean over rows and, where there are several, targets."""
    return float(np.abs(np.asarray(truth) - np.asarray(predicted)).mean())


for name in NAMES:
    table = score_table(
        following[name].iloc[test],
        {model_name: values[name] for model_name, values in forecast.items()},
        reference="last value",
        metric=absolute_error,
        groups=stays.iloc[test],
        n_resamples=300,
        random_state=0,
    )
    print(f"\nmean absolute error of {name}, 95 % intervals over stays")
    print(table.round(2).to_string(na_rep=""))

# %%
# The mean of the window is hard to beat here: within a stay these values scatter around a level
# that moves little. What the network has besides is how far off it may be, for each window. The two
# simple forecasts can only be given one spread for all, that of their errors in training.
truth, groups = following.iloc[test], stays.iloc[test]
spreads = {
    "last value": np.tile((following - last).iloc[train].std(), (len(test), 1)),
    "mean of the window": np.tile((following - mean).iloc[train].std(), (len(test), 1)),
    "AMFN": spread,
}
figure, ax = plt.subplots(figsize=(4.6, 4.4), layout="constrained")
widths = {}
for name in forecast:
    given = (truth, forecast[name], spreads[name])
    CoverageDisplay.from_predictions(
        *given, name=name, groups=groups, n_resamples=300, random_state=0, ax=ax
    )
    widths[name] = coverage_table(*given, levels=[0.9], groups=groups, random_state=0).loc[0.9]
print("intervals of 90 %: coverage and mean width")
print(pd.DataFrame(widths).T.round(2).to_string())

# %%
# Hour by hour through a stay of the other part: forecasts of the next hour with their intervals of
# 90 %, and what was then measured.
stay = stays.iloc[test].value_counts().index[0]
own, came, _, _, level = past_and_next(cohort.data.loc[[stay]], stride=1)
change, spread = model.predict(own, return_std=True)
hours = own.index.get_level_values("start") + 12
figure, axs = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
for k, (name, ax) in enumerate(zip(NAMES, axs, strict=True)):
    middle = level[name] + change[:, k]
    reach = 1.645 * spread[:, k]
    ax.fill_between(hours, middle - reach, middle + reach, alpha=0.2, label="90 % interval")
    ax.plot(hours, middle, label="forecast")
    ax.plot(hours, came[name], "k.", label="measured")
    ax.set_ylabel(name)
axs[0].legend(loc="upper left", ncols=3)
_ = axs[1].set_xlabel("hours since admission")
plt.show()
