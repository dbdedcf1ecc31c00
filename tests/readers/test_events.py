"""Event tables on a grid, held against a plain pandas pivot of each stay."""

from __future__ import annotations

import builtins

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk import grid_events
from medfusion_sdk.exceptions import (
    DataError,
    DataFileNotFoundError,
    MissingDependencyError,
    ModalityError,
    ParameterError,
)
from medfusion_sdk.readers import _event_sources

GROUPS = {"vitals": ["HR", "MAP", "Temp"], "neuro": ["GCS"], "labs": ["K", "Na"]}
GRID = {"step": 60, "length": 6}


def make_events(n_events=1200, n_stays=12, seed=0):
    rng = np.random.default_rng(seed)
    names = [name for members in GROUPS.values() for name in members]
    return pd.DataFrame(
        {
            "record_id": rng.integers(100, 100 + n_stays, n_events),
            "minute": rng.integers(0, 361, n_events),
            "parameter": rng.choice(names, n_events),
            "value": rng.normal(50, 20, n_events),
        }
    )


def pivot(events, members, aggregate="mean"):
    """One stay the slow way."""
    events = events.sort_values("minute", kind="stable")
    hour = (events["minute"] // 60).clip(upper=5)
    table = events.assign(hour=hour).pivot_table(
        index="parameter", columns="hour", values="value", aggfunc=aggregate
    )
    return table.reindex(index=members, columns=range(6)).to_numpy(dtype=np.float32)


def assert_equals_pivot(table, events, aggregate="mean"):
    for stay, own in events.groupby("record_id"):
        for group, members in GROUPS.items():
            cell = table.loc[stay, group]
            expected = pivot(own, members, {"mean": "mean", "last": "last"}.get(aggregate, "sum"))
            if cell is None:
                assert np.isnan(expected).all()
            else:
                assert cell.dtype == np.float32
                assert cell.base is None  # one kept cell must not keep others in memory
                np.testing.assert_allclose(cell, expected, rtol=1e-6)


def assert_tables_equal(left, right):
    assert list(left.columns) == list(right.columns)
    assert left.index.equals(right.index)
    for name in left:
        for one, other in zip(left[name], right[name], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.fixture
def small_pieces(monkeypatch):
    """Make a piece so small that stays are spread over many."""
    monkeypatch.setattr(_event_sources, "PIECE", 100)


@pytest.mark.parametrize("aggregate", ["mean", "last", "sum"])
def test_grid_of_random_events_equals_pivot_per_stay(aggregate):
    events = make_events()
    table, _ = grid_events(events, GROUPS, **GRID, aggregate=aggregate)
    assert_equals_pivot(table, events, aggregate)


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_file_read_in_pieces_gives_table_and_counts_of_the_frame(ending, tmp_path, small_pieces):
    events = make_events()
    path = tmp_path / f"events.{ending}"
    events.to_parquet(path) if ending == "parquet" else events.to_csv(path, index=False)
    table, report = grid_events(path, GROUPS, **GRID)
    expected, counted = grid_events(events, GROUPS, **GRID)
    assert_tables_equal(table, expected)
    assert_equals_pivot(table, events)
    assert report.counts.equals(counted.counts)
    assert table.index.dtype == np.int64


def test_order_of_events_is_immaterial_but_for_the_count_of_unsorted():
    events = make_events().drop_duplicates(["record_id", "minute", "parameter"])
    table, report = grid_events(events.sort_values("minute"), GROUPS, **GRID)
    shuffled, unsorted = grid_events(events.sample(frac=1, random_state=0), GROUPS, **GRID)
    for name in table:
        for one, other in zip(table[name], shuffled[name], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
    assert report.counts["unsorted"] == 0 < unsorted.counts["unsorted"]


def hand_worked():
    rows = [
        (1, 0, "HR", 80),
        (1, 0, "HR", 90),  # the same stamp again
        (1, 59, "HR", 100),
        (1, 30, "MAP", 70),  # unsorted
        (1, 360, "GCS", 15),  # the last edge
        (1, 361, "GCS", 3),  # outside
        (1, -1, "GCS", 3),  # outside
        (1, 10, "Temp", -17.8),  # outside limits
        (1, 10, "Temp", "ERROR"),  # no number
        (1, 10, "Lab X", 1),  # unknown
        (1, 10, None, 1),  # unknown
        (1, 20, "Age", 70),
        (1, 10, "Age", 71),
        (1, 10, "Weight", 80),
        (1, 70, "Weight", 90),
        (2, None, "HR", 80),  # no time
        (None, 3, "HR", 80),  # no stay
    ]
    return pd.DataFrame(rows, columns=["record_id", "minute", "parameter", "value"])


@pytest.mark.filterwarnings("ignore:no event:medfusion_sdk.exceptions.ModalityWarning")
def test_hand_worked_events_have_the_cells_and_counts_worked_out():
    groups = GROUPS | {"labs": ["Weight"]}
    table, report = grid_events(
        hand_worked(),
        groups,
        **GRID,
        statics={"Age": "age", "Weight": "weight"},
        limits={"Temp": (25, 45)},
    )
    nan = np.nan
    first = table.loc[1]
    np.testing.assert_array_equal(
        first["vitals"], np.array([[90, *[nan] * 5], [70, *[nan] * 5], [nan] * 6], dtype=np.float32)
    )
    np.testing.assert_array_equal(first["neuro"], np.array([[nan] * 5 + [15]], dtype=np.float32))
    np.testing.assert_array_equal(first["labs"][0, :2], [80, 90])
    assert first["static__age"] == 71  # the earliest, not the one that stands first
    assert first["static__weight"] == 80
    assert table.loc[2, ["vitals", "neuro", "labs"]].isna().all()
    expected = {
        "events": 17,
        "unknown_parameter": 2,
        "unknown_id": 1,
        "not_numeric": 1,
        "outside_time": 3,
        "outside_limits": 1,
        "used": 9,
        "duplicated": 1,
        "unsorted": 3,
        "conflicting": 1,
        "stays": 2,
        "stays_without_series": 1,
    }
    assert report.counts.to_dict() == expected
    assert report.unknown.to_dict() == {"Lab X": 1, "": 1}
    assert report.parameters.loc["Age", "conflicting"] == 1
    assert report.parameters.loc["GCS", ["events", "outside_time", "used"]].tolist() == [3, 2, 1]


@pytest.mark.filterwarnings("ignore:no event:medfusion_sdk.exceptions.ModalityWarning")
def test_every_event_has_exactly_one_fate():
    _, report = grid_events(hand_worked(), GROUPS, **GRID, limits={"HR": (85, 95)})
    fates = ["unknown_parameter", "unknown_id", "not_numeric", "outside_time", "outside_limits"]
    assert report.counts[[*fates, "used"]].sum() == report.counts["events"] == 17


def test_ids_give_a_row_each_in_their_order_and_leave_others_out():
    events = make_events()
    ids = [110, 7, 101]
    table, report = grid_events(events, GROUPS, **GRID, ids=ids)
    assert table.index.tolist() == ids
    assert table.loc[7].isna().all()
    assert report.counts["unknown_id"] == (~events["record_id"].isin(ids)).sum()
    assert_equals_pivot(table, events[events["record_id"].isin(ids)])


def test_ids_of_numbers_are_found_in_a_csv_file(tmp_path):
    make_events().to_csv(tmp_path / "events.csv", index=False)
    table, _ = grid_events(tmp_path / "events.csv", GROUPS, **GRID, ids=[110, 101])
    assert table.index.tolist() == [110, 101]
    assert table["vitals"].notna().all()


@pytest.mark.filterwarnings("ignore:no event:medfusion_sdk.exceptions.ModalityWarning")
def test_columns_are_the_same_whatever_the_events_hold():
    events = make_events()
    full, _ = grid_events(events, GROUPS, **GRID, statics={"Age": "age"})
    part = events[events["parameter"] == "HR"]
    poor, _ = grid_events(part, GROUPS, **GRID, statics={"Age": "age"})
    empty, report = grid_events(events.iloc[:0], GROUPS, **GRID, statics={"Age": "age"})
    assert list(full.columns) == list(poor.columns) == list(empty.columns)
    assert poor["neuro"].isna().all()
    assert poor["vitals"].iloc[0].shape == (3, 6)
    assert len(empty) == report.counts["stays"] == 0


def test_constant_parameter_is_kept():
    events = make_events().assign(value=15.0)
    table, _ = grid_events(events, GROUPS, **GRID)
    assert np.nanmin(table["neuro"].iloc[0]) == 15


def test_aggregate_by_parameter_leaves_the_others_at_their_mean():
    events = make_events()
    table, _ = grid_events(events, GROUPS, **GRID, aggregate={"K": "sum", "Na": "max"})
    mean, _ = grid_events(events, GROUPS, **GRID)
    for stay, own in events.groupby("record_id"):
        cell = table.loc[stay, "labs"]
        np.testing.assert_allclose(cell[0], pivot(own, ["K"], "sum")[0], rtol=1e-6)
        np.testing.assert_allclose(cell[1], pivot(own, ["Na"], "max")[0], rtol=1e-6)
        np.testing.assert_array_equal(table.loc[stay, "vitals"], mean.loc[stay, "vitals"])


def test_time_on_an_edge_but_for_rounding_belongs_to_the_step_that_begins_there():
    times = np.arange(10) * 0.1  # 3 * 0.1 / 0.1 is a little less than 3
    events = pd.DataFrame({"stay": 1, "time": times, "name": "HR", "number": np.arange(10.0)})
    names = {"id": "stay", "time": "time", "parameter": "name", "value": "number"}
    table, _ = grid_events(events, {"vitals": ["HR"]}, step=0.1, length=10, **names)
    np.testing.assert_array_equal(table.loc[1, "vitals"][0], np.arange(10))


def test_parameters_named_by_item_numbers_are_found():
    events = make_events()
    events["parameter"] = events["parameter"].map({"HR": 220045, "GCS": 198}).fillna(0).astype(int)
    table, report = grid_events(events, {"vitals": [220045], "neuro": [198]}, **GRID)
    assert report.counts["used"] == (events["parameter"] > 0).sum()
    assert table["vitals"].notna().any()


def test_frame_is_left_as_it_was():
    events = make_events()
    before = events.copy()
    grid_events(events, GROUPS, **GRID)
    pd.testing.assert_frame_equal(events, before)


def test_dates_as_times_are_refused_with_the_way_out():
    events = make_events()
    events["minute"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(events["minute"], unit="min")
    with pytest.raises(DataError, match=r"total_seconds"):
        grid_events(events, GROUPS, **GRID)


def test_absent_column_is_named_with_what_was_found(tmp_path):
    events = make_events().rename(columns={"minute": "time"})
    events.to_parquet(tmp_path / "events.parquet")
    for source in (events, tmp_path / "events.parquet"):
        with pytest.raises(DataError, match=r"no column \['minute'\]; found .*'time'"):
            grid_events(source, GROUPS, **GRID)


def test_unreadable_file_is_named(tmp_path):
    path = tmp_path / "events.parquet"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"events\.parquet is not a readable"):
        grid_events(path, GROUPS, **GRID)
    with pytest.raises(DataFileNotFoundError, match="absent"):
        grid_events(tmp_path / "absent.csv", GROUPS, **GRID)
    (tmp_path / "events.txt").write_text("")
    with pytest.raises(ParameterError, match=r"\.parquet or a \.csv"):
        grid_events(tmp_path / "events.txt", GROUPS, **GRID)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    make_events().to_parquet(tmp_path / "events.parquet")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"medfusion-sdk\[parquet\]"):
        grid_events(tmp_path / "events.parquet", GROUPS, **GRID)


@pytest.mark.parametrize(
    ("groups", "options", "error"),
    [
        ({}, {}, ModalityError),
        ({"static": ["HR"]}, {}, ModalityError),
        ({"a__b": ["HR"]}, {}, ModalityError),
        ({"a": []}, {}, ModalityError),
        ({"a": ["HR"], "b": ["HR"]}, {}, ModalityError),
        ({"a": ["HR"]}, {"statics": {"Age": "x", "Sex": "x"}}, ModalityError),
        ({"a": ["HR"]}, {"step": 0}, ParameterError),
        ({"a": ["HR"]}, {"length": 2.5}, ParameterError),
        ({"a": ["HR"]}, {"limits": {"Temp": (25, 45)}}, ParameterError),
        ({"a": ["HR"]}, {"limits": {"HR": (45, 25)}}, ParameterError),
        ({"a": ["HR"]}, {"aggregate": "median"}, ParameterError),
        ({"a": ["HR"]}, {"aggregate": {"Temp": "mean"}}, ParameterError),
        ({"a": ["HR"]}, {"ids": [1, 1]}, DataError),
    ],
)
def test_what_cannot_be_meant_is_refused(groups, options, error):
    with pytest.raises(error):
        grid_events(make_events(50), groups, **(GRID | options))
