"""Files of the PhysioNet/CinC Challenge 2012: a text file per stay, or Parquet per set."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import DataError, DataFileNotFoundError
from medfusion_sdk.readers._event_intake import EventColumns
from medfusion_sdk.readers._event_sources import open_source

_COLUMNS = EventColumns("record_id", "minute", "parameter", "value")
_HEADER = "Time,Parameter,Value"
_ROWS = re.compile(r'(?:[^,"\n]*,[^,"\n]*,[^,"\n]*\n)*')
_OUTCOMES = {
    "RecordID": "record_id",
    "In-hospital_death": "in_hospital_death",
    "Length_of_stay": "length_of_stay",
    "SAPS-I": "saps_i",
    "SOFA": "sofa",
    "Survival": "survival",
}


@dataclass(frozen=True)
class SetFiles:
    """Where a set lies: its events (a Parquet file or a folder) and its outcomes."""

    letter: str
    events: Path
    outcomes: Path


def find_sets(home: Path, sets: str | Sequence[str]) -> list[SetFiles]:
    """Find the files of the wanted sets, or say what is there instead."""
    if not home.is_dir():
        raise DataFileNotFoundError(f"no folder {home}.")
    places: dict[str, Path] = {}
    for place in [*home.glob("set-*.parquet"), *home.glob("set-*")]:
        if place.is_dir() or place.suffix == ".parquet":
            places.setdefault(place.stem.removeprefix("set-"), place)
    letters = sorted(places) if sets == "all" else list(sets)
    if absent := [letter for letter in letters if letter not in places] or not letters:
        raise DataFileNotFoundError(
            f"{home} has no folder set-? and no set-?.parquet for "
            f"{absent if letters else 'any set'}; sets that are there: {sorted(places)}."
        )
    return [SetFiles(letter, places[letter], _outcomes(home, letter)) for letter in letters]


def _outcomes(home: Path, letter: str) -> Path:
    names = (f"outcomes-{letter}.csv", f"Outcomes-{letter}.txt")
    for name in names:
        if (home / name).is_file():
            return home / name
    raise DataFileNotFoundError(f"{home} has the records of set {letter} but none of {names}.")


def read_outcomes(path: Path) -> pd.DataFrame:
    """Read the outcomes of a set, indexed by record; -1 is unknown."""
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (ValueError, OSError) as cause:
        raise DataError(f"{path} is not a readable table: {cause}") from cause
    if absent := [name for name in _OUTCOMES if name not in table]:
        raise DataError(f"{path} has no column {absent}; found {list(table.columns)}.")
    table = table[list(_OUTCOMES)].rename(columns=_OUTCOMES).set_index("record_id")
    try:
        table = table.astype(np.float64)
    except (TypeError, ValueError) as cause:
        raise DataError(f"{path} has an outcome that is no number: {cause}.") from cause
    return table.mask(table < 0)


def read_events(place: Path) -> pd.DataFrame:
    """Read the events of a set."""
    if place.is_dir():
        return _read_folder(place)
    return pd.concat(open_source(place, _COLUMNS).pieces(), ignore_index=True)


def _read_folder(folder: Path) -> pd.DataFrame:
    """Read a file per stay; all are parsed as one, which is many times faster."""
    paths = sorted(path for path in folder.glob("*.txt") if path.stem.isdecimal())
    if not paths:
        raise DataError(f"{folder} holds no file named by a record, such as 132539.txt.")
    rows = [_read_rows(path) for path in paths]
    counts = [text.count("\n") for text in rows]
    # Nothing but an empty field is missing: "NA" would be sodium, misspelt.
    options: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "dtype": str}
    names = ["minute", "parameter", "value"]
    events = pd.read_csv(io.StringIO("".join(rows)), names=names, **options)
    events["minute"] = _minutes(events["minute"])
    events["value"] = pd.to_numeric(events["value"], errors="coerce")
    events.insert(0, "record_id", np.repeat([int(path.stem) for path in paths], counts))
    # Every file repeats its own name as a parameter.
    return events[events["parameter"] != "RecordID"]


def _read_rows(path: Path) -> str:
    """Return the rows below the header, each with its line's end."""
    header, *rows = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    if header.strip() != _HEADER:
        raise DataError(f"{path} begins with {header[:40]!r}; expected {_HEADER!r}.")
    text = "".join([row + "\n" for row in rows if row])
    if not _ROWS.fullmatch(text):
        wrong = next(row for row in rows if row and not _ROWS.fullmatch(row + "\n"))
        raise DataError(f"{path}: {wrong[:60]!r} isn't a line of time, parameter and value.")
    return text


def _minutes(stamps: pd.Series) -> np.ndarray:
    """Turn "HH:MM" into minutes; anything else is a time that isn't known."""
    codes, distinct = pd.factorize(stamps)
    parts = pd.Series(distinct, dtype=object).astype(str).str.extract(r"^(\d+):(\d\d)$")
    minutes = parts[0].astype(float) * 60 + parts[1].astype(float)
    return np.append(minutes.to_numpy(), np.nan)[codes]
