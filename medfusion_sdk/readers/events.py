"""Event tables -> regular grids: a long table of single values becomes a cohort table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.readers._event_doubts import tell_doubts
from medfusion_sdk.readers._event_grid import GridBatch, grid_batch
from medfusion_sdk.readers._event_intake import FATES, EventColumns, EventIntake
from medfusion_sdk.readers._event_plan import EventPlan, Groups, Limits, make_plan
from medfusion_sdk.readers._event_sources import FrameSource, open_source, whole_stays

__all__ = ["EventReport", "grid_events"]


@dataclass(frozen=True)
class EventReport:
    """What became of every event.

    Each event has one fate, the first of these that applies: ``unknown_parameter``,
    ``unknown_id``, ``not_numeric``, ``outside_time``, ``outside_limits``, ``used``. They sum to
    ``events``.

    Attributes
    ----------
    counts : Series of int
        ``events``, the fates, and of the used ones: ``duplicated``, beyond the first with the
        same stay, parameter and time; ``unsorted``, standing behind a later event of their stay;
        ``conflicting``, the stays in which a static has several values, summed over statics.
        ``stays`` counts rows, ``stays_without_series`` those whose every series is missing.
    parameters : DataFrame
        The same for each parameter that was asked for.
    unknown : Series of int
        Events of each parameter that wasn't asked for, most frequent first. ``""`` stands for
        a missing name.
    """

    counts: pd.Series
    parameters: pd.DataFrame
    unknown: pd.Series


def grid_events(
    events: pd.DataFrame | str | os.PathLike[str],
    groups: Groups,
    *,
    step: float,
    length: int,
    id: str = "record_id",  # noqa: A002
    time: str = "minute",
    parameter: str = "parameter",
    value: str = "value",
    statics: Mapping[str, str] | Sequence[str] | None = None,
    limits: Limits | None = None,
    aggregate: str | Mapping[str, str] = "mean",
    ids: Sequence[Any] | None = None,
) -> tuple[pd.DataFrame, EventReport]:
    """Turn a long table of events into a cohort table with one series column per group.

    A series cell is a float32 array (channels, steps) with NaN where nothing was observed, so the
    observation mask is in the cell; nothing is filled or scaled here. A stay without any
    observation of a group has None in that cell: a missing modality.

    Parameters
    ----------
    events : DataFrame or path
        One row per event. A path of a ``.parquet`` file (which needs pyarrow) or a ``.csv`` file,
        plain or compressed, gives what the table itself gives. It is read in pieces; what is kept
        passes through a private temporary folder, so memory grows with the cohort table and not
        with the number of events.
    groups : mapping of str to sequence of str
        Column of each modality group, and the parameters that are its channels, in order. A
        parameter is in one group at most. The columns and channels of the table are these,
        whatever the events hold. Item numbers name parameters, too.
    step : float
        Width of a step, in the unit of `time`.
    length : int
        Number of steps. Events from 0 to ``step * length`` count, both edges included; the last
        edge belongs to the last step.
    id, time, parameter, value : str
        Columns of the stay, of the time since the stay's start (a number), of the parameter's
        name or item number, and of the value. Ids and item numbers are the same whether they came
        as whole numbers, floats, categories or text: 200001, 200001.0, "200001" and "200001.0" are
        one stay; "007" is another than 7. Nothing but an empty name is missing: "NA" is sodium.
    statics : mapping of str to str, or sequence of str, default=None
        Parameters with one value per stay, and their names: ``{"Age": "age"}`` makes the column
        ``static__age``. The earliest value counts. A parameter can be a channel as well.
    limits : mapping of str to (float, float), default=None
        Lowest and highest plausible value of a parameter. What lies outside is left out: whether
        a pH of 735 was 7.35 is a guess that is yours to make.
    aggregate : {"mean", "last", "sum", "min", "max"} or mapping, default="mean"
        What becomes of several values of a channel in one step. A mapping says it by parameter;
        those that it doesn't name take the mean. Events with the same stamp all take part, and
        for "last" the one that stands last in the table wins.
    ids : sequence, default=None
        Stays to have a row each, in this order, also those without an event; events of others
        are left out. By default every stay that appears has a row, in sorted order.

    Returns
    -------
    table : DataFrame
        Indexed by stay: the series columns, then the statics (float64). ``attrs["channels"]``
        names the channels of each column.
    report : EventReport
        What became of every event.

    Raises
    ------
    DataError
        If a column is absent or there twice, times are dates or texts, ids of more than 16 digits
        came as floats, `ids` names a stay twice, or a file can't be read.
    ModalityError
        If groups overlap or can't be named so.
    ParameterError
        If a parameter has a value that it can't have.
    DataFileNotFoundError
        If there is no such file.
    MissingDependencyError
        If a Parquet file is given and pyarrow isn't installed.

    Warns
    -----
    ModalityWarning
        If a parameter that was asked for never occurs, or none of its events counts, or none of
        `ids` has an event.

    See Also
    --------
    SeriesPreprocessor : Scales and fills series, fitted on training rows.

    Notes
    -----
    Apart from "last" on equal stamps, and rounding, the order of the events doesn't matter.

    Examples
    --------
    >>> import pandas as pd
    >>> from medfusion_sdk import grid_events
    >>> events = pd.DataFrame(
    ...     [(7, 5, "HR", 80), (7, 50, "HR", 90), (7, 70, "MAP", 65), (8, 0, "Age", 61)],
    ...     columns=["record_id", "minute", "parameter", "value"],
    ... )
    >>> groups = {"vitals": ["HR", "MAP"]}
    >>> table, report = grid_events(events, groups, step=60, length=3, statics={"Age": "age"})
    >>> table.loc[7, "vitals"]
    array([[85., nan, nan],
           [nan, 65., nan]], dtype=float32)
    >>> table.loc[8, "vitals"] is None, float(table.loc[8, "static__age"])
    (True, 61.0)
    >>> int(report.counts["used"])
    4
    """
    plan = make_plan(groups, statics, limits, aggregate, step, length)
    table, report, foreign = put_on_grid(
        events, plan, EventColumns(id, time, parameter, value), ids
    )
    tell_doubts(report, foreign, table.index)
    return table, report


def put_on_grid(
    events: pd.DataFrame | str | os.PathLike[str],
    plan: EventPlan,
    columns: EventColumns,
    ids: Sequence[Any] | None,
) -> tuple[pd.DataFrame, EventReport, list[str]]:
    """Do what :func:`grid_events` does, without its warnings.

    Parameters
    ----------
    events : DataFrame or path
        One row per event.
    plan : EventPlan
        What is asked.
    columns : EventColumns
        Names of the table's columns.
    ids : sequence or None
        Stays to have a row each.

    Returns
    -------
    table : DataFrame
        Indexed by stay.
    report : EventReport
        What became of every event.
    foreign : list of str
        Some of the stays that the events are of, where none of `ids` is among them.
    """
    source = open_source(events, columns)
    intake = EventIntake(plan, columns, ids, source.as_text)
    pieces = (intake.take(piece) for piece in source.pieces())
    spill = not isinstance(source, FrameSource)
    batches = [
        _Cells.of(grid_batch(records, plan), plan)
        for records in whole_stays(pieces, source.n_batches, spill=spill)
    ]
    index, row = intake.stays(columns.id)
    table = _assemble(batches, index, row, plan)
    return table, _report(batches, intake, table), intake.foreign


@dataclass(frozen=True)
class _Cells:
    """A batch whose stays have got their cells; the array that held them all is gone."""

    batch: GridBatch
    cells: dict[str, list[np.ndarray | None]]

    @classmethod
    def of(cls, batch: GridBatch, plan: EventPlan) -> _Cells:
        cells: dict[str, list[np.ndarray | None]] = {}
        start = 0
        for name, members in plan.groups.items():
            block = batch.series[:, start : start + len(members)]
            observed = ~np.isnan(block).all(axis=(1, 2))
            # A copy each: a cell that is kept must not keep its whole batch.
            cells[name] = [
                cell.copy() if there else None for cell, there in zip(block, observed, strict=True)
            ]
            start += len(members)
        # Not a slice of it, which would keep all of it.
        none = np.empty((0, *batch.series.shape[1:]), dtype=batch.series.dtype)
        return cls(replace(batch, series=none), cells)


def _assemble(
    batches: list[_Cells], index: pd.Index, row: np.ndarray, plan: EventPlan
) -> pd.DataFrame:
    """Put cells and statics into the rows of their stays."""
    columns: dict[str, np.ndarray] = {}
    rows = [row[part.batch.stays] for part in batches]
    for name in plan.groups:
        column = np.full(len(index), None, dtype=object)
        for places, part in zip(rows, batches, strict=True):
            for place, cell in zip(places, part.cells[name], strict=True):
                column[place] = cell
        columns[name] = column
    for position, name in enumerate(plan.statics.values()):
        numbers = np.full(len(index), np.nan)
        for places, part in zip(rows, batches, strict=True):
            numbers[places] = part.batch.statics[:, position]
        columns[name] = numbers
    table = pd.DataFrame(
        {
            name: pd.Series(column, index=index, dtype=column.dtype)
            for name, column in columns.items()
        },
        index=index,
    )
    table.attrs["channels"] = {name: list(members) for name, members in plan.groups.items()}
    return table


def _report(batches: list[_Cells], intake: EventIntake, table: pd.DataFrame) -> EventReport:
    plan = intake.plan
    parameters = pd.DataFrame(intake.counts, index=pd.Index(plan.codes, name="parameter"))
    parameters.columns = pd.Index(FATES)
    parameters.insert(0, "events", parameters.sum(axis=1))
    zero = np.zeros(len(plan.codes), dtype=np.int64)
    parameters["duplicated"] = sum((part.batch.duplicated for part in batches), zero)
    parameters["conflicting"] = sum((part.batch.conflicting for part in batches), zero)
    unknown = pd.Series(dict(intake.unknown.most_common()), name="events", dtype=np.int64)
    counts = parameters.sum()
    counts["events"] += unknown.sum()
    counts["unknown_parameter"] = unknown.sum()
    counts["unsorted"] = sum(part.batch.unsorted for part in batches)
    counts["stays"] = len(table)
    counts["stays_without_series"] = int(table[list(plan.groups)].isna().all(axis=1).sum())
    order = ["events", "unknown_parameter", *FATES, "duplicated", "unsorted", "conflicting"]
    order += ["stays", "stays_without_series"]
    return EventReport(counts[order].rename("count"), parameters, unknown.rename_axis("parameter"))
