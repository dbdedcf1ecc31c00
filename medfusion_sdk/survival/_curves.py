"""Functions of time that jump: survival, cumulative hazard, and how they are estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.survival._times import SurvivalTimes

__all__ = ["BaselineHazard", "StepFunction", "censoring_curve", "kaplan_meier"]


class StepFunction:
    """A right-continuous step function of time, known up to the end of follow-up.

    Parameters
    ----------
    x : ndarray of shape (n_times,)
        Where it may jump, ascending.
    y : ndarray of shape (n_times,)
        Its value from there on.
    start : float
        Its value before the first of these times: 1 for survival, 0 for a cumulative hazard.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk.survival import StepFunction
    >>> survival = StepFunction(np.array([30.0, 90.0]), np.array([0.9, 0.6]), start=1.0)
    >>> survival([0, 30, 60, 90])
    array([1. , 0.9, 0.9, 0.6])
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, start: float) -> None:
        self.x = x
        self.y = y
        self.start = start

    @property
    def domain(self) -> tuple[float, float]:
        """First and last time at which the function is known."""
        return 0.0, float(self.x[-1])

    def __call__(self, time: ArrayLike) -> Any:
        """Evaluate.

        Parameters
        ----------
        time : float or array-like
            Within :attr:`domain`.

        Returns
        -------
        float or ndarray
            Of the shape of `time`.

        Raises
        ------
        DataError
            For a time beyond follow-up, about which nothing is known.
        """
        asked = np.asarray(time, dtype=np.float64)
        low, high = self.domain
        outside = ~((asked >= low) & (asked <= high))
        if outside.any():
            raise DataError(
                f"time {asked[outside].flat[0]} lies outside [{low:g}, {high:g}], which is what "
                "the follow-up of the training rows covers."
            )
        values = np.concatenate([[self.start], self.y])
        found = values[np.searchsorted(self.x, asked, side="right")]
        return float(found) if asked.ndim == 0 else found

    def __repr__(self) -> str:
        low, high = self.domain
        return f"StepFunction({len(self.x)} steps on [{low:g}, {high:g}])"


def kaplan_meier(y: Any, *, sample_weight: ArrayLike | None = None) -> StepFunction:
    """Estimate the share of patients without the event over time (Kaplan and Meier 1958).

    Parameters
    ----------
    y : structured array, DataFrame or array-like of shape (n, 2)
        Event and time, in any form that :meth:`SurvivalTimes.of` takes.
    sample_weight : array-like of shape (n,), optional
        A row of weight two is two rows.

    Returns
    -------
    StepFunction
        Over all times of `y`.

    Examples
    --------
    >>> from medfusion_sdk.survival import kaplan_meier, survival_target
    >>> kaplan_meier(survival_target([1, 0, 1, 1], [1, 2, 3, 4])).y
    array([0.75 , 0.75 , 0.375, 0.   ])
    """
    check_aligned(y=y, sample_weight=sample_weight)
    counts = _count(SurvivalTimes.of(y), sample_weight)
    return StepFunction(counts.time, np.cumprod(1 - counts.events / counts.at_risk), start=1.0)


def censoring_curve(y: Any) -> StepFunction:
    """Estimate the share of patients still followed over time: Kaplan-Meier of the censoring.

    Where an event and a censoring share a time, the event comes first: who had it isn't at risk
    of censoring any more.

    Parameters
    ----------
    y : structured array, DataFrame or array-like of shape (n, 2)
        Event and time, in any form that :meth:`SurvivalTimes.of` takes.

    Returns
    -------
    StepFunction
        Over all times of `y`.

    Examples
    --------
    >>> from medfusion_sdk.survival import censoring_curve, survival_target
    >>> censoring_curve(survival_target([1, 0, 1, 0], [1, 2, 2, 4])).y
    array([1. , 0.5, 0. ])
    """
    counts = _count(SurvivalTimes.of(y), None)
    at_risk = counts.at_risk - counts.events
    share = np.divide(counts.censored, at_risk, out=np.zeros_like(at_risk), where=at_risk > 0)
    return StepFunction(counts.time, np.cumprod(1 - share), start=1.0)


@dataclass(frozen=True)
class BaselineHazard:
    """Breslow's estimate of the cumulative hazard of a patient of log-risk `centre`.

    Attributes
    ----------
    time : ndarray of shape (n_times,)
        All times of the training rows, ascending.
    cumulative : ndarray of shape (n_times,)
        Cumulative hazard at each.
    centre : float
        Log-risk that it belongs to; the largest of training, so that nothing overflows.
    """

    time: np.ndarray
    cumulative: np.ndarray
    centre: float

    @classmethod
    def fit(
        cls, risk: np.ndarray, y: SurvivalTimes, sample_weight: ArrayLike | None = None
    ) -> BaselineHazard:
        """Estimate from training rows.

        Parameters
        ----------
        risk : ndarray of shape (n,)
            Log-risks.
        y : SurvivalTimes
            Their outcome.
        sample_weight : array-like of shape (n,), optional
            Row weights.

        Returns
        -------
        BaselineHazard
            The estimate.
        """
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
        centre = float(risk.max())
        # A row far below the others adds next to nothing, however far; but someone is at risk.
        hazard = np.exp(np.maximum(risk.astype(np.float64) - centre, -700.0))
        events = _count(y, weight).events
        at_risk = _count(y, weight * hazard).at_risk
        return cls(np.unique(y.time), np.cumsum(events / at_risk), centre)

    def hazards(self, risk: np.ndarray) -> np.ndarray:
        """Cumulative hazards of patients.

        Parameters
        ----------
        risk : ndarray of shape (n,)
            Log-risks.

        Returns
        -------
        ndarray of shape (n, n_times)
            One row per patient.
        """
        with np.errstate(over="ignore"):
            factor = np.exp(risk.astype(np.float64) - self.centre)
        # Infinity times no hazard is no hazard.
        found = np.zeros((len(factor), len(self.cumulative)))
        return np.multiply(factor[:, None], self.cumulative, out=found, where=self.cumulative > 0)

    def survival(self, risk: np.ndarray) -> np.ndarray:
        """Survival probabilities of patients.

        Parameters
        ----------
        risk : ndarray of shape (n,)
            Log-risks.

        Returns
        -------
        ndarray of shape (n, n_times)
            One row per patient.
        """
        return np.exp(-self.hazards(risk))


@dataclass(frozen=True)
class _Counts:
    """Weights that had the event, were censored, and were at risk, at each distinct time."""

    time: np.ndarray
    events: np.ndarray
    censored: np.ndarray
    at_risk: np.ndarray


def _count(y: SurvivalTimes, weight: ArrayLike | None) -> _Counts:
    mass = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
    y, mass = y.take(mass > 0), mass[mass > 0]
    time, position = np.unique(y.time, return_inverse=True)
    events = np.bincount(position, mass * y.event, minlength=len(time))
    censored = np.bincount(position, mass * ~y.event, minlength=len(time))
    at_risk = np.bincount(position, mass, minlength=len(time))[::-1].cumsum()[::-1]
    return _Counts(time, events, censored, at_risk)
