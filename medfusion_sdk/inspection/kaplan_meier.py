"""Survival of groups of patients of low and high risk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.inspection._axes import axes
from medfusion_sdk.inspection._survival_curves import banded_kaplan_meier, log_rank_p
from medfusion_sdk.survival import SurvivalTimes

__all__ = ["KaplanMeierDisplay"]


class KaplanMeierDisplay:
    """Kaplan-Meier curves by risk group, with bands and the log-rank test between them.

    Parameters
    ----------
    curves : DataFrame
        Columns ``group``, ``time``, ``survival``, ``low``, ``high``, ``at_risk`` (just before the
        time) and ``censored`` (at it).
    sizes : DataFrame
        Indexed by group: ``patients`` and ``events``.
    p_value : float
        Of the log-rank test that all groups have one hazard.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> from medfusion_sdk.datasets import load_heart_failure
    >>> from medfusion_sdk.inspection import KaplanMeierDisplay
    >>> X, y = load_heart_failure(return_X_y=True)
    >>> display = KaplanMeierDisplay.from_predictions(y, X["serum_creatinine"])
    >>> display.sizes
               patients  events
    group
    low risk        163      33
    high risk       136      63
    >>> display.p_value < 0.001
    True
    """

    def __init__(self, curves: pd.DataFrame, sizes: pd.DataFrame, p_value: float) -> None:
        self.curves = curves
        self.sizes = sizes
        self.p_value = p_value

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        cuts: ArrayLike = (0.5,),
        thresholds: ArrayLike | None = None,
        labels: Sequence[str] | None = None,
        confidence_level: float = 0.95,
        ax: Any = None,
    ) -> Self:
        """Group patients by a fitted estimator's risks, and draw.

        Parameters
        ----------
        estimator : survival estimator
            Fitted; its ``predict`` returns risks.
        X : DataFrame or array of shape (n_samples, n_features)
            Patients whom it hasn't seen.
        y : structured array, DataFrame or array-like of shape (n_samples, 2)
            Their outcome.
        cuts, thresholds, labels, confidence_level, ax : optional
            As in :meth:`from_predictions`.

        Returns
        -------
        KaplanMeierDisplay
            The display.
        """
        check_aligned(X=X, y=y)
        return cls.from_predictions(
            y,
            estimator.predict(X),
            cuts=cuts,
            thresholds=thresholds,
            labels=labels,
            confidence_level=confidence_level,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        risk: ArrayLike,
        *,
        cuts: ArrayLike = (0.5,),
        thresholds: ArrayLike | None = None,
        labels: Sequence[str] | None = None,
        confidence_level: float = 0.95,
        ax: Any = None,
    ) -> Self:
        """Group patients by their risks, and draw.

        Parameters
        ----------
        y : structured array, DataFrame or array-like of shape (n_samples, 2)
            Outcome.
        risk : array-like of shape (n_samples,)
            The higher, the earlier the event is expected.
        cuts : array-like, default=(0.5,)
            Quantiles of the risks between groups: the median by default.
        thresholds : array-like, optional
            Risks between groups, instead of quantiles: of the training rows, for example, since
            quantiles of the patients shown are known only with hindsight.
        labels : sequence of str, optional
            Names of the groups, from the lowest risk on.
        confidence_level : float, default=0.95
            Of the pointwise bands.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        KaplanMeierDisplay
            The display.

        Raises
        ------
        DataError
            If a group is empty, or there are other than one name per group.
        MissingDependencyError
            Without lifelines or matplotlib.
        """
        check_aligned(y=y, risk=risk)
        outcome, risk = SurvivalTimes.of(y), np.asarray(risk, dtype=np.float64)
        check_consistent_length(outcome.time, risk)
        bounds = (
            np.quantile(risk, np.asarray(cuts, float))
            if thresholds is None
            else np.asarray(thresholds, float)
        )
        group = np.searchsorted(np.sort(bounds), risk, side="left")
        names = _names(len(bounds) + 1, labels)
        counts = np.bincount(group, minlength=len(names))
        if not counts.all():
            raise DataError(
                f"groups of {dict(zip(names, counts.tolist(), strict=True))} patients: none may be "
                "empty. Choose other cuts or thresholds."
            )
        curves = [
            pd.DataFrame(banded_kaplan_meier(outcome.take(group == number), confidence_level))
            for number in range(len(names))
        ]
        table = pd.concat(dict(zip(names, curves, strict=True)), names=["group"])
        sizes = pd.DataFrame(
            {
                "patients": counts,
                "events": np.bincount(group, outcome.event, minlength=len(names)).astype(int),
            },
            index=pd.Index(names, name="group"),
        )
        p_value = log_rank_p(outcome, group)
        return cls(table.reset_index("group").reset_index(drop=True), sizes, p_value).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the curves, a bar at each censored patient, and the numbers at risk below.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        KaplanMeierDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        ax = axes(ax)
        for name, curve in self.curves.groupby("group", sort=False):
            size = self.sizes.loc[name]
            label = f"{name} ({size['events']} events of {size['patients']})"
            (line,) = ax.step(curve["time"], curve["survival"], where="post", label=label)
            ax.fill_between(
                curve["time"],
                curve["low"],
                curve["high"],
                step="post",
                alpha=0.15,
                color=line.get_color(),
            )
            left = curve[curve["censored"] > 0]
            ax.plot(left["time"], left["survival"], "|", color=line.get_color(), markersize=6)
        shown = "< 0.001" if self.p_value < 0.001 else f"= {self.p_value:.3f}"
        ax.set(ylabel="share without event (Kaplan-Meier)", ylim=(0, 1.02))
        ax.set(xlabel="time in the outcome's unit; bars: censored", xlim=(0, None))
        _draw_at_risk(ax, self.curves)
        ax.set_title(f"log-rank p {shown}", fontsize="medium")
        ax.legend(loc="lower left")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _draw_at_risk(ax: Any, curves: pd.DataFrame) -> None:
    """Write below the ticks how many of each group are still followed then."""
    last = curves["time"].max()
    ticks = [tick for tick in ax.get_xticks() if 0 <= tick <= last]
    ax.set_xticks(ticks)
    below = {"textcoords": "offset points", "va": "top", "fontsize": "small"}
    ends = {"xycoords": ("data", "axes fraction"), "annotation_clip": False}
    for place, (name, curve) in enumerate(curves.groupby("group", sort=False)):
        down = -48 - 12 * place
        next_time = np.searchsorted(curve["time"], ticks, side="left")
        counts = np.append(curve["at_risk"], 0)[next_time]
        for tick, count in zip(ticks, counts, strict=True):
            ax.annotate(str(count), (tick, 0), (0, down), ha="center", **below, **ends)
        ax.annotate(str(name), (0, 0), (-16, down), ha="right", **below, **ends)
    ax.annotate("at risk", (0, 0), (-16, -36), ha="right", **below, **ends)


def _names(n_groups: int, labels: Sequence[str] | None) -> list[str]:
    if labels is not None:
        if len(labels) != n_groups:
            raise DataError(f"labels has {len(labels)} names for {n_groups} groups.")
        return list(labels)
    if n_groups == 2:
        return ["low risk", "high risk"]
    return [f"risk group {number} of {n_groups}" for number in range(1, n_groups + 1)]
