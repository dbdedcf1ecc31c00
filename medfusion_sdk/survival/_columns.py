"""Which column of an outcome is the event, which the time, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import DataError
from medfusion_sdk.survival._names import says_event, says_opposite, says_time

__all__ = ["FORMS", "about_codes", "could_be_event", "roles", "two_columns"]

FORMS = (
    "A survival outcome is a structured array with an event and a time field (scikit-survival's "
    "form), a DataFrame with two such columns, or an array of shape (n, 2): event, time. "
    "medfusion_sdk.survival.survival_target(event, time) makes one."
)

# Codes of competing events; more values are times.
_MOST_CODES = 10
_NO = ("0", "0.0", "no", "n", "false", "f", "none", "negative", "-")


def two_columns(y: Any) -> pd.DataFrame:
    if isinstance(y, pd.DataFrame):
        table = y
    else:
        _refuse_tuples(y)
        values = np.asarray(y)
        if values.dtype.names is not None:
            table = pd.DataFrame({name: values[name].ravel() for name in values.dtype.names})
        elif values.ndim == 2:
            table = pd.DataFrame(values)
        else:
            raise DataError(f"y has shape {values.shape}. {FORMS}")
    if table.shape[1] != 2:
        raise DataError(f"y has {table.shape[1]} columns: {list(table.columns)}. {FORMS}")
    return table


def _refuse_tuples(y: Any) -> None:
    """Refuse a pair of columns in place of a table, and a column of pairs."""
    pair = isinstance(y, tuple) and len(y) == 2 and all(np.ndim(part) == 1 for part in y)
    if pair and not all(isinstance(part, tuple) and len(part) == 2 for part in y):
        raise DataError(
            "y is a tuple of two columns, (event, time). Put them together, row by row: "
            "medfusion_sdk.survival.survival_target(event, time)."
        )
    cells = y.to_numpy() if isinstance(y, pd.Series) else y
    first = cells[0] if isinstance(cells, np.ndarray) and cells.ndim == 1 and len(cells) else None
    if isinstance(first, tuple | list | np.ndarray):
        raise DataError(
            f"y is a column of {type(first).__name__}s such as {first!r}; two columns are needed: "
            "medfusion_sdk.survival.survival_target(*zip(*y)), if each is (event, time)."
        )


def roles(y: Any, table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Tell which column is the event and which the time; refuse the opposite of an event."""
    named = {str(name).lower(): name for name in table.columns}
    if {"event", "time"} <= named.keys():
        return table[named["event"]], table[named["time"]]
    place = _event_place(table)
    name = table.columns[place]
    if says_opposite(name) and not (_is_scikit_survivals(y) and name in ("cens", "censor")):
        raise DataError(
            f"y has a column {name!r}, which seems to say who was censored or had no event. What "
            "is needed is who had the event: pass survival_target(event, time), with event=~... or "
            "1 - ... if so."
        )
    return table.iloc[:, place], table.iloc[:, 1 - place]


def _event_place(table: pd.DataFrame) -> int:
    columns = [table.iloc[:, place] for place in (0, 1)]
    possible = [place for place in (0, 1) if could_be_event(columns[place])]
    times = [place for place in (0, 1) if says_time(table.columns[place])]
    events = [place for place in (0, 1) if says_event(table.columns[place])]
    booleans = [place for place in possible if _is_bool(columns[place])]
    if len(booleans) == 1:
        return booleans[0]
    # Times of few rows may all be 0 or 1, and codes of events something else.
    if len(times) == 1 and (len(possible) != 1 or possible == times):
        return 1 - times[0]
    if len(possible) == 1:
        return possible[0]
    if len(events) == 1:
        return events[0]
    if not possible:
        return int(columns[1].nunique() < columns[0].nunique())
    if isinstance(table.columns, pd.RangeIndex):
        return 0
    raise DataError(
        f"y has the columns {list(table.columns)}, both of zeros and ones, and neither name tells "
        "which is the event: call them event and time."
    )


def about_codes(event: pd.Series) -> str:
    """What a column that was meant to say who had the event holds instead, and what to do."""
    found = list(pd.unique(event))
    if event.map(lambda value: isinstance(value, str)).all():
        shown = ", ".join(repr(value) for value in found[:4])
        happened = [value for value in found if not (says_opposite(value) or _says_no(value))]
        return (
            f"There is text, {shown}: compare it with what says that the event happened, "
            f"survival_target(column == {(happened or found)[0]!r}, time). "
        )
    numbers = pd.to_numeric(event, errors="coerce")
    if len(found) > _MOST_CODES or not (numbers == numbers.round()).all():
        return ""
    codes = sorted(int(number) for number in numbers.unique())
    if set(codes) <= {1, 2}:
        return (
            f"There are the codes {codes}; R's survival package writes 1 for censored and 2 for "
            "the event: survival_target(column == 2, time), if so. "
        )
    return (
        f"There are the codes {codes}; if they are competing events, say which one counts, and the "
        "others end follow-up: survival_target(column == 1, time). "
    )


def _says_no(word: str) -> bool:
    return word.strip().lower() in _NO


def _is_scikit_survivals(y: Any) -> bool:
    fields = getattr(getattr(y, "dtype", None), "names", None)
    return bool(fields) and y.dtype[0].kind == "b" and y.dtype[1].kind in "iuf"


def could_be_event(column: pd.Series) -> bool:
    return bool(column.dropna().isin([0, 1]).all())


def _is_bool(column: pd.Series) -> bool:
    return pd.api.types.is_bool_dtype(column)
