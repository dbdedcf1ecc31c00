"""Warnings about an event table of which less was used than was asked for."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from medfusion_sdk.exceptions import ModalityWarning
from medfusion_sdk.readers._event_intake import FATES

if TYPE_CHECKING:
    from medfusion_sdk.readers.events import EventReport

__all__ = ["tell_doubts"]

# Names that one warning lists.
_SHOWN = 10


def tell_doubts(report: EventReport, foreign: Sequence[str], ids: pd.Index) -> None:
    """Warn of ids that no event has, of parameters that never occur, and of those never used."""
    if foreign:
        warnings.warn(
            f"none of the {len(ids)} stays in ids= has an event, such as {ids[:3].tolist()}; the "
            f"events are of {foreign}. Every row is empty.",
            ModalityWarning,
            stacklevel=3,
        )
        return
    counts = report.parameters
    if absent := counts.index[counts["events"] == 0].tolist():
        names = [str(name) for name in report.unknown.index if name]
        warnings.warn(
            f"no event has the parameter {_listed([_with_nearest(n, names) for n in absent])}: "
            "what was to hold it stays empty. Names are compared letter by letter; "
            "report.unknown lists those that the events have and nothing asked for.",
            ModalityWarning,
            stacklevel=3,
        )
    unused = counts[(counts["events"] > 0) & (counts["used"] == 0)]
    if len(unused):
        shown = [f"{name!r} ({_fates(row)})" for name, row in unused.iterrows()]
        warnings.warn(
            f"no event of {_listed(shown)} was used: what was to hold it stays empty. Times count "
            "from each stay's start in the unit of step; report.parameters has the counts.",
            ModalityWarning,
            stacklevel=3,
        )


def _listed(shown: list[str]) -> str:
    more = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _with_nearest(name: str, names: list[str]) -> str:
    """Show a name, with those of the events that it may have been meant for."""
    by_letters = {other.strip().casefold(): other for other in reversed(names)}
    near = difflib.get_close_matches(name.strip().casefold(), by_letters, n=2)
    return f"{name!r}" + (
        f" (is it {' or '.join(repr(by_letters[n]) for n in near)}?)" if near else ""
    )


def _fates(row: pd.Series) -> str:
    return ", ".join(f"{row[fate]} {fate}" for fate in FATES if row[fate])
