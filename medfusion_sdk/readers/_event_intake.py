"""Pieces of an event table -> compact records, each event with its fate counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import DataError
from medfusion_sdk.readers._event_plan import EventPlan

# One kept event.
EVENT = np.dtype([("stay", "i4"), ("code", "i2"), ("time", "f8"), ("value", "f8")])

# What may become of an event, the first that applies.
FATES = ("unknown_id", "not_numeric", "outside_time", "outside_limits", "used")


@dataclass(frozen=True)
class EventColumns:
    """Names of an event table's columns."""

    id: str
    time: str
    parameter: str
    value: str

    def check(self, found: Sequence[Any], place: str) -> None:
        """Refuse a table that lacks one of them."""
        if absent := [name for name in vars(self).values() if name not in found]:
            raise DataError(
                f"{place} has no column {absent}; found {list(found)}. Name the columns with "
                "id=, time=, parameter= and value=."
            )


class EventIntake:
    """Turns pieces into records and remembers what it met.

    Parameters
    ----------
    plan : EventPlan
        Which parameters are wanted.
    columns : EventColumns
        Names of the table's columns.
    ids : sequence or None
        The stays that are wanted; None for every one that appears.
    as_text : bool
        Ids are read as text, as from a CSV file, whose pieces could differ in type.
    """

    def __init__(
        self, plan: EventPlan, columns: EventColumns, ids: Sequence[Any] | None, as_text: bool
    ) -> None:
        self.plan = plan
        self.columns = columns
        self.as_text = as_text
        self.counts = np.zeros((len(plan.codes), len(FATES)), dtype=np.int64)
        self.unknown: Counter[Any] = Counter()
        self._wanted = None if ids is None else _index_of(ids)
        known = [] if self._wanted is None else list(self._wanted)
        self._stays = {str(key) if as_text else key: stay for stay, key in enumerate(known)}

    def take(self, piece: pd.DataFrame) -> np.ndarray:
        """Return the records of the events that count."""
        stay = self._number_stays(piece[self.columns.id])
        code = self._number_parameters(piece[self.columns.parameter])
        time, value = self._numbers(piece, "time"), self._numbers(piece, "value")
        wrong = [
            stay < 0,
            ~np.isfinite(value),
            ~((time >= 0) & (time <= self.plan.end)),
            ~((value >= self.plan.low[code]) & (value <= self.plan.high[code])),
        ]
        fate = np.select(wrong, range(len(wrong)), default=len(wrong))
        known = code >= 0
        flat = code[known] * len(FATES) + fate[known]
        self.counts += np.bincount(flat, minlength=self.counts.size).reshape(self.counts.shape)
        used = known & (fate == len(wrong))
        records = np.empty(int(used.sum()), dtype=EVENT)
        for name, values in (("stay", stay), ("code", code), ("time", time), ("value", value)):
            records[name] = values[used]
        return records

    def stays(self, name: str) -> tuple[pd.Index, np.ndarray]:
        """Return the table's index, and the row of each stay number."""
        if self._wanted is not None:
            return self._wanted.rename(name), np.arange(len(self._wanted))
        keys = pd.Index(list(self._stays), name=name)
        if self.as_text:
            keys = _as_whole_numbers(keys)
        try:
            order = np.asarray(keys.argsort())
        except TypeError as cause:
            raise DataError(f"ids of different types in column {name!r}: {cause}.") from cause
        row = np.empty(len(keys), dtype=int)
        row[order] = np.arange(len(keys))
        return keys[order], row

    def _number_stays(self, column: pd.Series) -> np.ndarray:
        codes, ids = pd.factorize(column)
        if self._wanted is None:
            for key in ids:
                self._stays.setdefault(key, len(self._stays))
        # The last entry serves missing ids, which factorize numbers -1.
        return np.array([*(self._stays.get(key, -1) for key in ids), -1], dtype=np.int64)[codes]

    def _number_parameters(self, column: pd.Series) -> np.ndarray:
        codes, found = pd.factorize(column)
        # Item numbers, as some databases have them, count as names.
        names = [str(name) for name in found]
        lookup = np.array([*(self.plan.codes.get(name, -1) for name in names), -1], dtype=np.int64)
        counts = np.bincount(codes + 1, minlength=len(names) + 1)
        unknown = {name: int(n) for name, n in zip(["", *names], counts, strict=True) if n}
        self.unknown.update({n: unknown[n] for n in unknown if n not in self.plan.codes})
        return lookup[codes]

    def _numbers(self, piece: pd.DataFrame, role: str) -> np.ndarray:
        column = piece[getattr(self.columns, role)]
        if column.dtype.kind in "mM":
            raise DataError(
                f"column {column.name!r} holds {column.dtype}; {role}s are numbers. For times, "
                "take the distance to each stay's start, for example in minutes: "
                "(stamp - start).dt.total_seconds() / 60."
            )
        numbers = pd.to_numeric(column, errors="coerce")
        return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _index_of(ids: Sequence[Any]) -> pd.Index:
    index = pd.Index(ids)
    if index.has_duplicates:
        raise DataError(f"ids names a stay twice: {index[index.duplicated()][:5].tolist()}.")
    return index


def _as_whole_numbers(keys: pd.Index) -> pd.Index:
    """Turn ids back into numbers where nothing but whole numbers without padding were read."""
    if not all(key.isdecimal() and str(int(key)) == key and len(key) < 19 for key in keys):
        return keys
    return keys.astype(np.int64)
