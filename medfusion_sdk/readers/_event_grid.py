"""Records of whole stays -> arrays on the grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medfusion_sdk.readers._event_plan import EventPlan

# Times that fall on an edge but for rounding belong to the step that begins there.
_EDGE = 1e-9


@dataclass(frozen=True)
class GridBatch:
    """Some stays on the grid, and what was met among their events.

    Attributes
    ----------
    stays : ndarray of shape (n_stays,), int
        Number of each stay.
    series : ndarray of shape (n_stays, n_channels, length), float32
        NaN where nothing was observed.
    statics : ndarray of shape (n_stays, n_statics), float64
        First value of each static, NaN without one.
    duplicated : ndarray of shape (n_codes,), int
        Events of each parameter beyond the first with the same stay and time.
    conflicting : ndarray of shape (n_codes,), int
        Stays in which a static that is no channel has several values.
    unsorted : int
        Events that stand behind a later one of their stay.
    """

    stays: np.ndarray
    series: np.ndarray
    statics: np.ndarray
    duplicated: np.ndarray
    conflicting: np.ndarray
    unsorted: int


def grid_batch(records: np.ndarray, plan: EventPlan) -> GridBatch:
    """Put the events of whole stays on the grid."""
    n_codes = len(plan.codes)
    # Sorting what is in order already is nearly free, and most exports are.
    records = records[np.argsort(records["stay"], kind="stable")]
    starts = _run_starts(records["stay"])
    local = np.repeat(np.arange(len(starts)), np.diff([*starts, len(records)]))
    backwards = (np.diff(records["time"]) < 0) & (np.diff(local) == 0)
    key = local * n_codes + records["code"]
    order = np.lexsort((records["time"], key))
    key, time, value = key[order], records["time"][order], records["value"][order]
    again = (np.diff(key) == 0) & (np.diff(time) == 0)
    duplicated = np.bincount(key[1:][again] % n_codes, minlength=n_codes)
    statics, conflicting = _first_values(key, value, len(starts), plan)
    return GridBatch(
        stays=records["stay"][starts],
        series=_aggregate(key, time, value, len(starts), plan),
        statics=statics,
        duplicated=duplicated,
        conflicting=conflicting,
        unsorted=int(backwards.sum()),
    )


def _run_starts(sorted_keys: np.ndarray) -> np.ndarray:
    """Positions at which a new key begins."""
    if not len(sorted_keys):
        return np.empty(0, dtype=int)
    return np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]]))


def _aggregate(
    key: np.ndarray, time: np.ndarray, value: np.ndarray, n_stays: int, plan: EventPlan
) -> np.ndarray:
    """Reduce the events of each channel and step; they come sorted by key and time."""
    n_codes, n_channels, length = len(plan.codes), plan.n_channels, plan.length
    series = np.full((n_stays, n_channels, length), np.nan, dtype=np.float32)
    wanted = key % n_codes < n_channels
    key, time, value = key[wanted], time[wanted], value[wanted]
    # The last edge belongs to the last step, as in numpy.histogram.
    step = np.minimum(np.floor(time / plan.step + _EDGE).astype(np.int64), length - 1)
    starts = _run_starts(key * length + step)
    stay, code = np.divmod(key[starts], n_codes)
    found = np.empty(len(starts))
    for way in np.unique(plan.aggregates[:n_channels]):
        chosen = plan.aggregates[code] == way
        found[chosen] = _reduce(way, value, starts)[chosen]
    series[stay, code, step[starts]] = found
    return series


def _reduce(way: str, value: np.ndarray, starts: np.ndarray) -> np.ndarray:
    ends = np.append(starts[1:], len(value))
    if not len(starts) or way == "last":
        return value[ends[: len(starts)] - 1]
    if way == "mean":
        return np.add.reduceat(value, starts) / (ends - starts)
    return {"sum": np.add, "min": np.minimum, "max": np.maximum}[way].reduceat(value, starts)


def _first_values(
    key: np.ndarray, value: np.ndarray, n_stays: int, plan: EventPlan
) -> tuple[np.ndarray, np.ndarray]:
    """Take the earliest value of each static, and count the stays that have different ones."""
    n_codes = len(plan.codes)
    statics = np.full((n_stays, len(plan.statics)), np.nan)
    conflicting = np.zeros(n_codes, dtype=np.int64)
    columns = np.full(n_codes, -1)
    columns[[plan.codes[parameter] for parameter in plan.statics]] = np.arange(len(plan.statics))
    wanted = columns[key % n_codes] >= 0
    key, value = key[wanted], value[wanted]
    starts = _run_starts(key)
    if len(starts):
        stay, code = np.divmod(key[starts], n_codes)
        statics[stay, columns[code]] = value[starts]
        differ = np.maximum.reduceat(value, starts) > np.minimum.reduceat(value, starts)
        # A channel's values are there to differ.
        differ &= code >= plan.n_channels
        conflicting += np.bincount(code[differ], minlength=n_codes)
    return statics, conflicting
