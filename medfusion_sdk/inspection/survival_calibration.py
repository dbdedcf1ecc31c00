"""Predicted against observed shares of patients with an event by some time."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.inspection._axes import axes
from medfusion_sdk.inspection._survival_curves import survival_at
from medfusion_sdk.survival import SurvivalTimes
from medfusion_sdk.survival._wrapped import curve_method

__all__ = ["SurvivalCalibrationDisplay"]


class SurvivalCalibrationDisplay:
    """Calibration at a horizon: groups of equal size by predicted risk, observed by Kaplan-Meier.

    Parameters
    ----------
    table : DataFrame
        One line per group: ``patients``, ``predicted`` (mean probability of an event by the
        horizon), ``observed``, ``low``, ``high`` (exact binomial where a group had no event, or all
        had one); NaN where nobody of a group was followed so long.
    horizon : float
        Time that it is about.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the points.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> from medfusion_sdk import TGMMSurvival
    >>> from medfusion_sdk.datasets import load_heart_failure
    >>> from medfusion_sdk.inspection import SurvivalCalibrationDisplay
    >>> X, y = load_heart_failure(return_X_y=True)
    >>> model = TGMMSurvival(max_epochs=20, random_state=0).fit(X[::2], y[::2])
    >>> display = SurvivalCalibrationDisplay.from_estimator(
    ...     model, X[1::2], y[1::2], horizon=90, n_groups=3
    ... )
    >>> display.table["patients"].to_list()
    [50, 50, 49]
    """

    def __init__(self, table: pd.DataFrame, horizon: float) -> None:
        self.table = table
        self.horizon = horizon

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        horizon: float,
        n_groups: int = 5,
        confidence_level: float = 0.95,
        ax: Any = None,
    ) -> Self:
        """Take a fitted estimator's survival curves at the horizon, and draw.

        Parameters
        ----------
        estimator : survival estimator
            Fitted; has ``predict_survival_function``.
        X : DataFrame or array of shape (n_samples, n_features)
            Patients whom it hasn't seen.
        y : structured array, DataFrame or array-like of shape (n_samples, 2)
            Their outcome.
        horizon : float
            A time within the follow-up, in y's unit.
        n_groups, confidence_level, ax : optional
            As in :meth:`from_predictions`.

        Returns
        -------
        SurvivalCalibrationDisplay
            The display.
        """
        check_aligned(X=X, y=y)
        curves = curve_method(estimator, "predict_survival_function")(X)
        survival = np.array([float(curve(horizon)) for curve in curves])
        return cls.from_predictions(
            y,
            survival,
            horizon=horizon,
            n_groups=n_groups,
            confidence_level=confidence_level,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        survival: ArrayLike,
        *,
        horizon: float,
        n_groups: int = 5,
        confidence_level: float = 0.95,
        ax: Any = None,
    ) -> Self:
        """Compare predicted survival at the horizon with what was observed, and draw.

        Parameters
        ----------
        y : structured array, DataFrame or array-like of shape (n_samples, 2)
            Outcome.
        survival : array-like of shape (n_samples,)
            Predicted probability of no event up to the horizon.
        horizon : float
            A time within the follow-up, in y's unit.
        n_groups : int, default=5
            Groups of equal size, by prediction.
        confidence_level : float, default=0.95
            Of the observed shares' intervals.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        SurvivalCalibrationDisplay
            The display.

        Raises
        ------
        DataError
            If the horizon lies beyond everybody's follow-up, or probabilities outside [0, 1].
        ParameterError
            If there are fewer patients than groups.
        MissingDependencyError
            Without lifelines or matplotlib.
        """
        check_aligned(y=y, survival=survival)
        outcome, survival = SurvivalTimes.of(y), np.asarray(survival, dtype=np.float64)
        check_consistent_length(outcome.time, survival)
        if not ((survival >= 0) & (survival <= 1)).all():
            raise DataError("survival must hold probabilities, between 0 and 1.")
        if not 0 < horizon <= outcome.time.max():
            raise DataError(
                f"horizon={horizon}: follow-up ends at {outcome.time.max():g}, and nothing can be "
                "observed beyond."
            )
        if not 1 <= n_groups <= len(survival):
            raise ParameterError(f"n_groups={n_groups} for {len(survival)} patients.")
        lines = [
            _line(outcome.take(rows), 1 - survival[rows], horizon, confidence_level)
            for rows in np.array_split(np.argsort(-survival, kind="stable"), n_groups)
        ]
        return cls(pd.DataFrame(lines), horizon).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the points beside the diagonal.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        SurvivalCalibrationDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        ax = axes(ax)
        known = self.table.dropna()
        predicted, observed, low, high = (
            known[name].to_numpy() for name in ("predicted", "observed", "low", "high")
        )
        ax.plot([0, 1], [0, 1], linestyle=":", color="gray", label="perfectly calibrated")
        reach = [observed - low, high - observed]
        ax.errorbar(predicted, observed, yerr=reach, marker="o", capsize=3)
        ax.set(
            xlabel=f"predicted probability of an event by {self.horizon:g}",
            ylabel="observed share (Kaplan-Meier)",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        ax.legend(loc="upper left")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _line(
    y: SurvivalTimes, predicted: np.ndarray, horizon: float, confidence_level: float
) -> dict[str, float]:
    """What was predicted for a group and observed in it, by the horizon."""
    line = {"patients": len(y), "predicted": float(predicted.mean())}
    if horizon > y.time.max():
        return line | dict.fromkeys(("observed", "low", "high"), np.nan)
    survival, low, high = survival_at(y, horizon, confidence_level)
    return line | {"observed": 1 - survival, "low": 1 - high, "high": 1 - low}
