"""Who had the event, and when: one checked form of every usual way to write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from medfusion_sdk.exceptions import DataError

__all__ = ["SurvivalTimes", "survival_target"]

_FORMS = (
    "A survival outcome is a structured array with an event and a time field (scikit-survival's "
    "form), a DataFrame with two such columns, or an array of shape (n, 2): event, time. "
    "medfusion_sdk.survival.survival_target(event, time) makes one."
)


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
        of booleans, or by the sole column of zeros and ones. An array in which both are 0 or 1
        has the event first.

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
            If event and time can't be told apart, a name says "censored" (the opposite of an
            event), something is missing, or a time is negative or no number.
        """
        if isinstance(y, SurvivalTimes):
            return y
        table = _two_columns(y)
        named = {str(name).lower(): name for name in table.columns}
        if {"event", "time"} <= named.keys():
            return cls._checked(table[named["event"]], table[named["time"]])
        # scikit-survival calls the event "cens" and "censor" in its example data.
        refused = "censor(ed|ship)" if _is_scikit_survivals(y) else "cens"
        opposite = [name for name in table.columns if re.search(refused, str(name).lower())]
        if opposite:
            raise DataError(
                f"y has a column {opposite[0]!r}, which seems to say who was censored. What is "
                "needed is who had the event: pass survival_target(event, time)."
            )
        first, second = (table.iloc[:, place] for place in (0, 1))
        swapped = not _could_be_event(first) or (_is_bool(second) and not _is_bool(first))
        return cls._checked(second, first) if swapped else cls._checked(first, second)

    @classmethod
    def _checked(cls, event: pd.Series, time: pd.Series) -> SurvivalTimes:
        if event.isna().any() or time.isna().any():
            label = event.index[event.isna() | time.isna()].tolist()[0]
            raise DataError(f"y lacks the event or the time of row {label!r}; leave such rows out.")
        if not _could_be_event(event):
            raise DataError(
                f"y: found no column of events, which holds True and False or 1 and 0. {_FORMS}"
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
    columns = {"event": np.asarray(event), "time": np.asarray(time)}
    shapes = {name: values.shape for name, values in columns.items()}
    if len(set(shapes.values())) != 1 or columns["event"].ndim != 1:
        raise DataError(f"event and time need one value per row each; their shapes are {shapes}.")
    times = SurvivalTimes._checked(*(pd.Series(values) for values in columns.values()))
    y = np.empty(len(times), dtype=[("event", np.bool_), ("time", np.float64)])
    y["event"], y["time"] = times.event, times.time
    return y


def _two_columns(y: Any) -> pd.DataFrame:
    if isinstance(y, pd.DataFrame):
        table = y
    else:
        values = np.asarray(y)
        if values.dtype.names is not None:
            table = pd.DataFrame({name: values[name].ravel() for name in values.dtype.names})
        elif values.ndim == 2:
            table = pd.DataFrame(values)
        else:
            raise DataError(f"y has shape {values.shape}. {_FORMS}")
    if table.shape[1] != 2:
        raise DataError(f"y has {table.shape[1]} columns: {list(table.columns)}. {_FORMS}")
    return table


def _is_scikit_survivals(y: Any) -> bool:
    fields = getattr(getattr(y, "dtype", None), "names", None)
    return bool(fields) and y.dtype[0].kind == "b" and y.dtype[1].kind in "iuf"


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


def _could_be_event(column: pd.Series) -> bool:
    return bool(column.dropna().isin([0, 1]).all())


def _is_bool(column: pd.Series) -> bool:
    return pd.api.types.is_bool_dtype(column)
