"""Generated intensive care stays: irregular events, informative gaps, signal in every group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.utils import Bunch

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.readers._event_intake import EventColumns
from medfusion_sdk.readers._event_plan import make_plan
from medfusion_sdk.readers.events import put_on_grid

__all__ = ["make_icu_cohort"]

_MINUTES = 48 * 60


@dataclass(frozen=True)
class _Channel:
    """A parameter: where it lies, how often it is taken, and which way illness moves it."""

    mean: float
    deviation: float
    per_stay: float
    direction: int
    lowest: float
    highest: float


_GROUPS = {
    "vitals": {
        "HR": _Channel(88, 12, 45, 1, 20, 220),
        "MAP": _Channel(78, 10, 45, -1, 25, 160),
        "Temp": _Channel(37, 0.6, 15, 0, 33, 42),
    },
    "respiration": {
        "RespRate": _Channel(20, 4, 25, 1, 4, 60),
        "FiO2": _Channel(0.5, 0.12, 8, 1, 0.21, 1),
    },
    "neuro": {"GCS": _Channel(11, 2.5, 12, -1, 3, 15)},
    "labs": {
        "Lactate": _Channel(2.4, 0.9, 4, 1, 0.3, 20),
        "Creatinine": _Channel(1.4, 0.5, 4, 1, 0.2, 15),
    },
    "cardiac": {"TroponinT": _Channel(1.2, 0.6, 3, 1, 0.01, 20)},
}
# Share of stays for which a group is ordered at all.
_ORDERED = {"vitals": 1.0, "respiration": 0.95, "neuro": 1.0, "labs": 0.9, "cardiac": 0.4}


def make_icu_cohort(
    n_stays: int = 300,
    *,
    signal: float = 1.0,
    prevalence: float = 0.3,
    random_state: int | np.random.Generator | None = None,
) -> Bunch:
    """Make intensive care stays as a long table of events, and the cohort table that they give.

    Each group of channels has a severity of its own, higher by `signal` deviations in those who
    die, so every group tells something that the others don't. Severity moves the values, more so
    towards the end, and it makes measurements more frequent: what is missing is informative.

    Parameters
    ----------
    n_stays : int, default=300
        Number of stays.
    signal : float, default=1.0
        Distance of the outcomes along each group's severity, in its standard deviations.
    prevalence : float, default=0.3
        Share of deaths, met exactly but for rounding.
    random_state : int, Generator or None, default=None
        Seed.

    Returns
    -------
    Bunch
        With the entries:

        events : DataFrame
            Columns record_id, minute, parameter and value, sorted by stay and time.
        data : DataFrame of n_stays rows
            Cohort table of hourly means over 48 hours: ``vitals``, ``respiration``, ``neuro``,
            ``labs``, ``cardiac`` with cells (channels, 48); ``static__age``, ``static__sex``.
        target : Series of int
            Death, 0 or 1.
        outcomes : DataFrame
            ``in_hospital_death`` and ``length_of_stay`` in days, which grows with severity.
        channels : dict of str to list of str
            Channels of each series column.
        report : EventReport
            What became of the events.

    Raises
    ------
    ParameterError
        If `n_stays` or `prevalence` is out of range.

    See Also
    --------
    load_physionet2012 : Real stays.
    make_multimodal_cohort : Cohorts whose optimum is known.

    Examples
    --------
    >>> from medfusion_sdk.datasets import make_icu_cohort
    >>> cohort = make_icu_cohort(100, random_state=0)
    >>> cohort.data["vitals"].iloc[0].shape, int(cohort.target.sum())
    ((3, 48), 30)
    >>> bool(cohort.data["cardiac"].isna().mean() > 0.4)
    True
    """
    if n_stays < 1 or not 0 <= prevalence <= 1:
        raise ParameterError(
            f"n_stays={n_stays}, prevalence={prevalence}; 1 or more stays and a share are needed."
        )
    rng = np.random.default_rng(random_state)
    died = rng.permutation((np.arange(n_stays) < round(prevalence * n_stays)).astype(np.int64))
    severity = signal * (died[:, None] - prevalence) + rng.standard_normal((n_stays, len(_GROUPS)))
    parts = [_statics(died, rng)]
    for name, own in zip(_GROUPS, severity.T, strict=True):
        parts += _group_events(name, own, rng)
    events = pd.concat(parts).sort_values(["record_id", "minute"], kind="stable", ignore_index=True)
    channels = {name: list(members) for name, members in _GROUPS.items()}
    index = pd.RangeIndex(n_stays, name="record_id")
    # Few stays may lack a parameter.
    plan = make_plan(channels, {"Age": "age", "Gender": "sex"}, None, "mean", 60, 48)
    columns = EventColumns("record_id", "minute", "parameter", "value")
    data, report, _ = put_on_grid(events, plan, columns, index)
    days = np.exp(2 + 0.2 * severity.sum(axis=1) + 0.3 * rng.standard_normal(n_stays))
    outcomes = pd.DataFrame({"in_hospital_death": died, "length_of_stay": days}, index=index)
    return Bunch(
        events=events,
        data=data,
        target=outcomes["in_hospital_death"],
        outcomes=outcomes,
        channels=channels,
        report=report,
    )


def _statics(died: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    age = np.clip(62 + 6 * died + 14 * rng.standard_normal(len(died)), 18, 90).round()
    sex = rng.integers(0, 2, len(died))
    return pd.concat(
        [
            _events(np.arange(len(died)), 0, "Age", age),
            _events(np.arange(len(died)), 0, "Gender", sex),
        ]
    )


def _group_events(name: str, severity: np.ndarray, rng: np.random.Generator) -> list[pd.DataFrame]:
    """Draw the events of a group's channels: the iller, the more often they are taken."""
    with np.errstate(divide="ignore"):  # a group that all have: the logit of 1
        ordered = rng.random(len(severity)) < expit(logit(_ORDERED[name]) + severity)
    parts = []
    for parameter, channel in _GROUPS[name].items():
        counts = rng.poisson(channel.per_stay * np.exp(0.25 * severity)) * ordered
        stay = np.repeat(np.arange(len(severity)), counts)
        minute = rng.integers(0, _MINUTES + 1, len(stay))
        usual = 0.5 * rng.standard_normal(len(severity))
        move = channel.direction * severity[stay] * (0.4 + 0.6 * minute / _MINUTES)
        noise = 0.7 * rng.standard_normal(len(stay))
        value = channel.mean + channel.deviation * (usual[stay] + move + noise)
        value = np.clip(value, channel.lowest, channel.highest)
        parts.append(_events(stay, minute, parameter, value))
    return parts


def _events(
    stay: np.ndarray, minute: np.ndarray | int, parameter: str, value: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {"record_id": stay, "minute": minute, "parameter": parameter, "value": value.astype(float)}
    )
