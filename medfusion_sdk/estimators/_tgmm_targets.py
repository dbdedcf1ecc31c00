"""What y of several tasks means: a diagnosis, an event and its time, unknown where NaN."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import check_classification_targets

from medfusion_sdk.exceptions import DataError
from medfusion_sdk.survival import SurvivalTimes
from medfusion_sdk.survival._names import says_opposite

__all__ = ["TaskTargets"]

_FORM = (
    "y is a DataFrame with a column of diagnoses, columns 'event' and 'time', or all three; NaN "
    "where something is unknown. One dimension is a diagnosis alone."
)


@dataclass(frozen=True)
class TaskTargets:
    """Encoded y.

    Attributes
    ----------
    original : DataFrame
        As it came.
    name : object
        Of the column of diagnoses.
    classes : ndarray or None
        Sorted classes; None without a diagnosis.
    codes : ndarray of shape (n,) of int
        Position of each row's class, -1 where unknown.
    times : SurvivalTimes or None
        Event and time, no event at time 0 where unknown; None without a prognosis.
    followed : ndarray of shape (n,), bool
        Where event and time are known.
    """

    original: pd.DataFrame
    name: Any
    classes: np.ndarray | None
    codes: np.ndarray
    times: SurvivalTimes | None
    followed: np.ndarray

    @property
    def tasks(self) -> list[str]:
        """What there are labels for."""
        there = {"diagnosis": self.classes is not None, "prognosis": self.times is not None}
        return [task for task, known in there.items() if known]

    @property
    def strata(self) -> np.ndarray:
        """Rows that know the same, for stratified splits."""
        event = (
            self.followed.astype(int) if self.times is None else self.followed + self.times.event
        )
        return np.unique(3 * self.codes + event, return_inverse=True)[1]

    def take(self, rows: np.ndarray) -> TaskTargets:
        """Take some rows.

        Parameters
        ----------
        rows : ndarray of int or bool
            Which.

        Returns
        -------
        TaskTargets
            Those.
        """
        return replace(
            self,
            original=self.original.iloc[rows],
            codes=self.codes[rows],
            times=None if self.times is None else self.times.take(rows),
            followed=self.followed[rows],
        )

    @classmethod
    def of(cls, y: Any, event: str, time: str) -> TaskTargets:
        """Read y.

        Parameters
        ----------
        y : DataFrame, or array-like of shape (n,)
            Labels.
        event, time : str
            Names of those columns.

        Returns
        -------
        TaskTargets
            With all rows.

        Raises
        ------
        DataError
            If the columns aren't those of the tasks, or a task has no label at all.
        """
        table = _as_table(y)
        if says_opposite(event):
            raise DataError(
                f"event={event!r} seems to name a column that says who was censored or had no "
                "event; a column that says who had the event is needed."
            )
        missing = [name for name in (event, time) if name not in table]
        prognosis = len(missing) < 2
        if prognosis and missing:
            raise DataError(
                f"y has no column {missing[0]!r}, but the other one of {event!r} and "
                f"{time!r}. {_FORM}"
            )
        others = [name for name in table if not prognosis or name not in (event, time)]
        if len(others) > 1 or table.shape[1] == 0:
            raise DataError(f"y has the columns {list(table)}; one may be a diagnosis. {_FORM}")
        classes, codes = None, np.full(len(table), -1)
        if others:
            classes, codes = _encode(table[others[0]])
        times, followed = None, np.zeros(len(table), dtype=bool)
        if prognosis:
            times, followed = _follow_up(table[[event, time]].set_axis(["event", "time"], axis=1))
        return cls(table, others[0] if others else None, classes, codes, times, followed)


def _as_table(y: Any) -> pd.DataFrame:
    if isinstance(y, pd.DataFrame):
        return y
    if isinstance(y, pd.Series):
        return y.to_frame()
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.names is not None:
        raise DataError(f"y has shape {values.shape}. {_FORM}")
    return pd.DataFrame({"diagnosis": values})


def _encode(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Classes, and the position of each row's."""
    known = column.notna().to_numpy()
    if not known.any():
        raise DataError(f"y: every diagnosis in {column.name!r} is unknown; leave the column out.")
    values = column[known].to_numpy()
    if values.dtype.kind == "f" and (values == np.floor(values)).all():
        values = values.astype(np.int64)  # they were whole before NaN stood beside them
    check_classification_targets(values)
    classes, found = np.unique(values, return_inverse=True)
    codes = np.full(len(column), -1)
    codes[known] = found
    return classes, codes


def _follow_up(table: pd.DataFrame) -> tuple[SurvivalTimes, np.ndarray]:
    """Event and time, and where they are known."""
    known = table.notna().to_numpy()
    half = np.flatnonzero(known.any(axis=1) & ~known.all(axis=1))
    if len(half):
        label, (event, time) = table.index[half[0]], table.iloc[half[0]]
        raise DataError(
            f"y: row {label!r} has event {event} and time {time}; who has one needs the other, or "
            "NaN in both."
        )
    followed = known.all(axis=1)
    if not followed.any():
        raise DataError("y: every event and time is unknown; leave the columns out.")
    read = SurvivalTimes.of(table[followed])
    event, time = np.zeros(len(table), dtype=bool), np.zeros(len(table))
    event[followed], time[followed] = read.event, read.time
    return SurvivalTimes(event, time), followed
