"""What is asked of an event table, checked once: which parameter goes where, and when it counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import ModalityError, ParameterError
from medfusion_sdk.readers._event_keys import text_key

AGGREGATES = ("mean", "last", "sum", "min", "max")
STATIC = "static__"

Groups = Mapping[str, Sequence[str]]
Limits = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class EventPlan:
    """Where parameters go. Codes number them: series channels in order, then statics alone.

    Attributes
    ----------
    groups : dict of str to tuple of str
        Parameters of each series column, in the order of its channels.
    statics : dict of str to str
        Column of each static parameter.
    codes : dict of str to int
        Number of each parameter.
    low, high : ndarray of shape (n_codes,)
        Plausible values of each parameter, bounds included.
    aggregates : ndarray of shape (n_codes,) of str
        What becomes of several values in one step.
    step, length : float, int
        Width of a step and number of steps.
    """

    groups: dict[str, tuple[str, ...]]
    statics: dict[str, str]
    codes: dict[str, int]
    low: np.ndarray
    high: np.ndarray
    aggregates: np.ndarray
    step: float
    length: int

    @property
    def n_channels(self) -> int:
        return sum(map(len, self.groups.values()))

    @property
    def end(self) -> float:
        return self.step * self.length


def make_plan(
    groups: Groups,
    statics: Mapping[str, str] | Sequence[str] | None,
    limits: Limits | None,
    aggregate: str | Mapping[str, str],
    step: float,
    length: int,
) -> EventPlan:
    """Check what is asked and number the parameters."""
    series = {str(name): tuple(map(_name, members)) for name, members in groups.items()}
    _check_groups(series)
    _check_grid(step, length)
    named = statics if isinstance(statics, Mapping) else {name: name for name in statics or ()}
    columns = {_name(parameter): f"{STATIC}{name}" for parameter, name in named.items()}
    if len(columns) < len(named):
        raise ModalityError(f"statics names a parameter twice: {list(named)}.")
    if len(set(columns.values())) < len(columns):
        raise ModalityError(f"statics gives one column to two parameters: {columns}.")
    members = [parameter for group in series.values() for parameter in group]
    names = list(dict.fromkeys([*members, *columns]))
    low, high = _bounds(names, {_name(name): pair for name, pair in (limits or {}).items()})
    return EventPlan(
        groups=series,
        statics=columns,
        codes={name: code for code, name in enumerate(names)},
        low=low,
        high=high,
        aggregates=_aggregates(names, aggregate),
        step=float(step),
        length=int(length),
    )


def _name(parameter: Any) -> str:
    """Read a parameter's name or item number as those of the events are read."""
    name = text_key(parameter)
    if name is None:
        raise ModalityError(f"{parameter!r} can't name a parameter.")
    return name


def _check_groups(groups: dict[str, tuple[str, ...]]) -> None:
    if not groups:
        raise ModalityError('no group given; name at least one, such as {"vitals": ["HR"]}.')
    owner: dict[str, str] = {}
    for name, members in groups.items():
        if not name or "__" in name or name == STATIC.rstrip("_"):
            raise ModalityError(
                f"{name!r} can't name a group: '__' parts name and feature, and 'static' is taken."
            )
        if not members:
            raise ModalityError(f"group {name!r} has no parameter.")
        for parameter in members:
            if parameter in owner:
                raise ModalityError(
                    f"parameter {parameter!r} is listed in {owner[parameter]!r} and in {name!r}; "
                    "a parameter is one channel of one group."
                )
            owner[parameter] = name


def _check_grid(step: float, length: int) -> None:
    if not (math.isfinite(step) and step > 0):
        raise ParameterError(f"step={step}; a positive width in units of the times is needed.")
    if length != int(length) or length < 1:
        raise ParameterError(f"length={length}; a whole number of steps, 1 or more, is needed.")


def _bounds(names: list[str], limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    _check_known("limits", limits, names)
    low, high = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    for code, name in enumerate(names):
        if name in limits:
            low[code], high[code] = limits[name]
            if not low[code] <= high[code]:
                raise ParameterError(f"limits of {name!r}: {limits[name]} holds no value.")
    return low, high


def _aggregates(names: list[str], aggregate: str | Mapping[str, str]) -> np.ndarray:
    by_name = aggregate if isinstance(aggregate, Mapping) else dict.fromkeys(names, aggregate)
    chosen = {_name(name): way for name, way in by_name.items()}
    _check_known("aggregate", chosen, names)
    for way in chosen.values():
        if way not in AGGREGATES:
            raise ParameterError(f"aggregate={way!r}; known are {AGGREGATES}.")
    return np.array([chosen.get(name, AGGREGATES[0]) for name in names])


def _check_known(parameter: str, given: Mapping[str, object], names: list[str]) -> None:
    if unknown := sorted(set(given) - set(names)):
        raise ParameterError(f"{parameter} names {unknown}, in no group and no static.")
