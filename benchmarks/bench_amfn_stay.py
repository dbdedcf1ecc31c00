"""PhysioNet 2012, set-a, length of stay: AMFNRegressor and gradient boosting, with intervals.

The target is the logarithm of the days. Five folds with all defaults; a 90 % interval is the mean
and 1.645 standard deviations either way, as ``predict(X, return_std=True)`` has them, and should
cover nine tenths of the stays.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from benchmarks.icu import boosting_of_numbers, folds, load_stays
from medfusion_sdk import AMFNRegressor
from medfusion_sdk.metrics import score_table

LEVELS = {0.5: 0.674, 0.8: 1.282, 0.9: 1.645, 0.95: 1.960}
BOOSTING, AMFN = "boosting, summaries", "AMFN"


def main() -> int:
    """Print errors with paired differences, and how often the intervals cover."""
    X, days = load_stays("length_of_stay")
    known = days > 0
    X, y = X[known], np.log(days[known])
    models = {
        "mean of the training part": None,
        BOOSTING: boosting_of_numbers(),
        "AMFN without its expert": AMFNRegressor(expert=False, random_state=0),
        AMFN: AMFNRegressor(random_state=0),
    }
    found = pd.DataFrame(index=y.index, columns=list(models), dtype=float)
    spread = pd.Series(np.nan, index=y.index)
    for train, test in folds(y):
        for name, model in models.items():
            if model is None:
                found.loc[y.index[test], name] = y.iloc[train].mean()
                continue
            fitted = clone(model).fit(X.iloc[train], y.iloc[train])
            answer = fitted.predict(X.iloc[test], **({"return_std": True} if name == AMFN else {}))
            if name == AMFN:
                answer, spread.iloc[test] = answer
            found.loc[y.index[test], name] = answer
        print("one fold done", flush=True)
    for label, metric in (
        ("RMSE", root_mean_squared_error),
        ("MAE", mean_absolute_error),
        ("R2", r2_score),
    ):
        table = score_table(
            y, dict(found.items()), reference=BOOSTING, metric=metric, random_state=0
        )
        print(f"{label} in log days, {len(y)} stays\n{table.round(4).to_string()}\n")
    away = (y - found[AMFN]).abs() / spread
    for level, width in LEVELS.items():
        print(f"{level:.0%} intervals cover {(away <= width).mean():.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
