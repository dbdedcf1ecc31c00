"""Pieces of an event table -> compact records, each event with its fate counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import DataError
from medfusion_sdk.readers._event_keys import as_labels, index_of, read_keys, read_numbers
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
        """Refuse a table that lacks one of them, or has one twice."""
        if absent := [name for name in vars(self).values() if name not in found]:
            raise DataError(
                f"{place} has no column {absent}; found {list(found)}. Name the columns with "
                "id=, time=, parameter= and value=."
            )
        names = list(found)
        if twice := [name for name in vars(self).values() if names.count(name) > 1]:
            raise DataError(f"{place} has several columns {twice}; rename those that aren't meant.")


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
        Ids are read as text, as from a CSV file, which doesn't tell texts from numbers.
    """

    def __init__(
        self, plan: EventPlan, columns: EventColumns, ids: Sequence[Any] | None, as_text: bool
    ) -> None:
        self.plan = plan
        self.columns = columns
        self.as_text = as_text
        self.counts = np.zeros((len(plan.codes), len(FATES)), dtype=np.int64)
        self.unknown: Counter[Any] = Counter()
        self._wanted: pd.Index | None = None
        known: list[str] = []
        if ids is not None:
            self._wanted, known = index_of(ids)
        self._stays = {key: stay for stay, key in enumerate(known)}
        self._were_texts = False
        self._seen: dict[str, bool] = {}

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
        # A CSV file doesn't tell texts from numbers.
        as_text = self._were_texts and not self.as_text
        keys = as_labels(list(self._stays), as_text=as_text).rename(name)
        order = np.asarray(keys.argsort())
        row = np.empty(len(keys), dtype=int)
        row[order] = np.arange(len(keys))
        return keys[order], row

    @property
    def foreign(self) -> list[str]:
        """Some of the stays that the events name, where none of them was asked for."""
        return [] if any(self._seen.values()) else list(self._seen)[:3]

    def _number_stays(self, column: pd.Series) -> np.ndarray:
        codes, ids, were_texts = read_keys(column)
        self._were_texts |= were_texts
        if self._wanted is None:
            for key in ids:
                if key is not None:
                    self._stays.setdefault(key, len(self._stays))
        found = [self._stays.get(key, -1) if key is not None else -1 for key in ids]
        if self._wanted is not None and not any(self._seen.values()):
            self._seen |= {k: n >= 0 for k, n in zip(ids, found, strict=True) if k is not None}
        # The last entry serves missing ids, which are numbered -1.
        return np.array([*found, -1], dtype=np.int64)[codes]

    def _number_parameters(self, column: pd.Series) -> np.ndarray:
        codes, found, _ = read_keys(column)
        names = [name or "" for name in found]
        lookup = np.array([*(self.plan.codes.get(name, -1) for name in names), -1], dtype=np.int64)
        counts = np.bincount(codes + 1, minlength=len(names) + 1)
        for name, n in zip(["", *names], counts.tolist(), strict=True):
            if n and name not in self.plan.codes:
                self.unknown[name] += n
        return lookup[codes]

    def _numbers(self, piece: pd.DataFrame, role: str) -> np.ndarray:
        column = piece[getattr(self.columns, role)]
        if column.dtype.kind in "mM":
            raise DataError(
                f"column {column.name!r} holds {column.dtype}; {role}s are numbers. For times, "
                "take the distance to each stay's start, for example in minutes: "
                "(stamp - start).dt.total_seconds() / 60."
            )
        return read_numbers(column, strict=role == "time")
