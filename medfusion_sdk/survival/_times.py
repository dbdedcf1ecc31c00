"""Who had the event, and when: one checked form of every usual way to write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.survival._columns import (
    FORMS,
    about_codes,
    could_be_event,
    roles,
    two_columns,
)

__all__ = ["SurvivalTimes", "survival_target"]


@dataclass(frozen=True)
class SurvivalTimes:
    """Checked outcome of a survival study.

    Attributes
    ----------
    event : ndarray of shape (n,), bool
        True where the event was observed, False where follow-up ended without.
    time : ndarray of shape (n,), float
        Of the event or the end of follow-up, since the prediction is due; at least zero.
    """

    event: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.time)

    @classmethod
    def of(cls, y: Any) -> SurvivalTimes:
        """Read an outcome.

        Which column is the event is told by the names ``event`` and ``time``, by the sole column
        of booleans, or by the sole column of zeros and ones. Where both are 0 or 1 other names
        tell (``died``, ``months``), and an array has the event first.

        Parameters
        ----------
        y : structured array, DataFrame or array-like of shape (n, 2)
            Event, as booleans or 0/1, and time, in any order.

        Returns
        -------
        SurvivalTimes
            The same, checked.

        Raises
        ------
        DataError
            If event and time can't be told apart; the events' name says the opposite ("censored",
            "alive", "event_free"); events are codes such as 0, 1 and 2 or text; something is
            missing; or a time is negative or no number.
        """
        if isinstance(y, SurvivalTimes):
            return y
        event, time = roles(y, two_columns(y))
        return cls._checked(event, time)

    @classmethod
    def _checked(cls, event: pd.Series, time: pd.Series) -> SurvivalTimes:
        if event.isna().any() or time.isna().any():
            label = event.index[event.isna() | time.isna()].tolist()[0]
            raise DataError(f"y lacks the event or the time of row {label!r}; leave such rows out.")
        if not could_be_event(event):
            raise DataError(
                "y: found no column of events, which holds True and False or 1 and 0. "
                f"{about_codes(event)}{FORMS}"
            )
        times = _numbers(time)
        wrong = ~np.isfinite(times) | (times < 0)
        if wrong.any():
            label = time.index[wrong].tolist()[0]
            raise DataError(
                f"y has the time {times[wrong][0]} in row {label!r}; times are finite and count "
                "from the moment of prediction, so they can't be negative."
            )
        return cls(event.to_numpy(dtype=bool), times)

    def take(self, rows: np.ndarray) -> SurvivalTimes:
        """Take some rows.

        Parameters
        ----------
        rows : ndarray of int or bool
            Which.

        Returns
        -------
        SurvivalTimes
            Those.
        """
        return SurvivalTimes(self.event[rows], self.time[rows])

    @property
    def strata(self) -> np.ndarray:
        """Events as 0/1, which folds, and rows held out, have alike."""
        return self.event.astype(int)

    @property
    def original(self) -> np.ndarray:
        """The outcome as a structured array, scikit-survival's form."""
        return survival_target(self.event, self.time)


def survival_target(event: ArrayLike, time: ArrayLike) -> np.ndarray:
    """Put events and times together, in the form that scikit-survival takes too.

    Parameters
    ----------
    event : array-like of shape (n,)
        True or 1 where the event was observed.
    time : array-like of shape (n,)
        Of the event or the end of follow-up.

    Returns
    -------
    ndarray of shape (n,)
        With the fields ``event``, bool, and ``time``, float.

    Raises
    ------
    DataError
        If the lengths differ, events aren't 0 or 1, or times aren't finite and at least zero.

    Examples
    --------
    >>> from medfusion_sdk.survival import survival_target
    >>> survival_target([1, 0, 1], [30, 120, 365])
    array([( True,  30.), (False, 120.), ( True, 365.)],
          dtype=[('event', '?'), ('time', '<f8')])
    """
    check_aligned(event=event, time=time)
    columns = {"event": np.asarray(event), "time": np.asarray(time)}
    shapes = {name: values.shape for name, values in columns.items()}
    if len(set(shapes.values())) != 1 or columns["event"].ndim != 1:
        raise DataError(f"event and time need one value per row each; their shapes are {shapes}.")
    times = SurvivalTimes._checked(*(pd.Series(values) for values in columns.values()))
    y = np.empty(len(times), dtype=[("event", np.bool_), ("time", np.float64)])
    y["event"], y["time"] = times.event, times.time
    return y


def _numbers(time: pd.Series) -> np.ndarray:
    if pd.api.types.is_datetime64_any_dtype(time) or pd.api.types.is_timedelta64_dtype(time):
        raise DataError(
            f"y has times of type {time.dtype}; a number of days or months since the moment of "
            "prediction is needed: (end - start) / pd.Timedelta(days=1)."
        )
    try:
        return time.to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        number = pd.to_numeric(time, errors="coerce")
        label = time.index[number.isna()].tolist()[0]
        raise DataError(
            f"y has the time {time[number.isna()].iloc[0]!r} in row {label!r}; a number is needed."
        ) from None
