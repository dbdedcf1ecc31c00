"""Ids, names and times of an event table mean the same in whatever type and file they come."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medfusion_sdk import grid_events
from medfusion_sdk.exceptions import DataError, ModalityError, ModalityWarning, ParameterError
from medfusion_sdk.readers import _event_sources

GRID = {"step": 60, "length": 2}
WORDS = ["NA", "None", "null", "nan", "NaN", "N/A", "<NA>", "007", "7", "true", "HR", "a,b", 'q"x']


def events_of(ids, names=None, minutes=None, values=None):
    n = len(ids)
    return pd.DataFrame(
        {
            "record_id": ids,
            "minute": [5.0] * n if minutes is None else minutes,
            "parameter": ["HR"] * n if names is None else names,
            "value": np.arange(float(n)) if values is None else values,
        }
    )


def plain(table):
    """Cells as lists, by the text of each stay, whatever order their labels sort to."""
    return {
        str(label): [None if c is None else np.nan_to_num(c, nan=-9e9).tolist() for c in row]
        for label, row in zip(table.index, table.to_numpy(dtype=object).tolist(), strict=True)
    }


def gridded(events, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModalityWarning)
        return grid_events(events, **(GRID | options))


texts = st.sampled_from(WORDS) | st.text("aZ 0.é-", min_size=1, max_size=4)
numbers = st.integers(-5, 20) | st.sampled_from([2**31, 2**53 - 1])
CELLS = {
    "text": (texts | st.none(), object),
    "int": (numbers, "int64"),
    "float": (numbers | st.none(), "float64"),
    "Int64": (st.integers(-(2**63), 2**63 - 1) | st.none(), "Int64"),
    "category": (texts | st.none(), "category"),
}


@st.composite
def tables(draw):
    n = draw(st.integers(1, 12))
    columns = {}
    for name in ("record_id", "parameter"):
        cells, dtype = CELLS[draw(st.sampled_from(sorted(CELLS)))]
        columns[name] = pd.array(draw(st.lists(cells, min_size=n, max_size=n)), dtype=dtype)
    minute = st.floats(-1, 130) | st.integers(0, 120) | st.none()
    value = st.floats(-1e6, 1e6) | st.none()
    columns["minute"] = pd.array(draw(st.lists(minute, min_size=n, max_size=n)), dtype="float64")
    columns["value"] = pd.array(draw(st.lists(value, min_size=n, max_size=n)), dtype="float64")
    return pd.DataFrame(columns)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=tables(), piece=st.sampled_from([2, 5, 100]))
def test_frame_csv_compressed_csv_and_parquet_give_the_same(tmp_path, events, piece):
    names = list(dict.fromkeys(map(str, events["parameter"].dropna())))
    groups = {"a": [*names, "never"]}
    expected, counted = gridded(events, groups=groups)
    paths = {name: tmp_path / f"events.{name}" for name in ("csv", "csv.gz", "parquet")}
    events.to_parquet(paths.pop("parquet"), index=False)
    for path in paths.values():
        events.to_csv(path, index=False)
    for name in ("csv", "csv.gz", "parquet"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_event_sources, "PIECE", piece)
            table, report = gridded(tmp_path / f"events.{name}", groups=groups)
        assert plain(table) == plain(expected), name
        assert report.counts.equals(counted.counts), name
        assert report.unknown.to_dict() == counted.unknown.to_dict(), name


ALIKE = {
    "int": np.array([200001, 7]),
    "float": np.array([200001.0, 7.0]),
    "gaps": np.array([200001.0, 7.0]),
    "Int64": pd.array([200001, 7], dtype="Int64"),
    "text": ["200001", "7"],
    "text of floats": ["200001.0", "7.0"],
    "category": pd.Categorical([200001, 7]),
    "category of text": pd.Categorical(["200001", "7"]),
    "Decimal": [decimal.Decimal(200001), decimal.Decimal("7.00")],
    "mixed": [200001, "7"],
    "numpy": np.array([np.int32(200001), np.float32(7)], dtype=object),
    "bytes": [b"200001", b"7"],
}


@pytest.mark.parametrize("asked", ALIKE)
@pytest.mark.parametrize("held", ALIKE)
def test_ids_and_item_numbers_are_found_in_every_pair_of_types(held, asked):
    events = events_of(ALIKE[held], ALIKE[held])
    items = list(ALIKE[asked])
    table, report = grid_events(events, {"a": [items[0]], "b": [items[1]]}, **GRID, ids=items)
    assert report.counts["used"] == 2
    assert table["a"].iloc[0][0, 0] == 0
    assert table["b"].iloc[1][0, 0] == 1
    assert table["a"].iloc[1] is None


@pytest.mark.parametrize("kind", ALIKE)
def test_items_of_statics_limits_and_aggregate_are_found_in_every_type(kind):
    item = next(iter(ALIKE[kind]))
    events = events_of([1, 1, 1], ["200001"] * 3, values=[2.0, 4.0, 90.0])
    options = {"statics": {item: "x"}, "limits": {item: (0, 10)}, "aggregate": {item: "max"}}
    table, _ = grid_events(events, {"a": [item]}, **GRID, **options)
    assert table.loc[1, "a"][0, 0] == 4
    assert table.loc[1, "static__x"] == 2


def test_padded_ids_stay_texts_of_their_own(tmp_path):
    events = events_of(["007", "7", "7.0"])
    events.to_csv(tmp_path / "events.csv", index=False)
    for source in (events, tmp_path / "events.csv"):
        table, _ = grid_events(source, {"a": ["HR"]}, **GRID)
        assert table.index.tolist() == ["007", "7"]
        assert table.loc["7", "a"][0, 0] == 1.5


def test_ids_without_padding_are_numbers_from_a_csv_with_gaps(tmp_path):
    events = events_of([200001, np.nan, 30])
    events.to_csv(tmp_path / "events.csv", index=False)
    for source in (events, tmp_path / "events.csv"):
        table, report = grid_events(source, {"a": ["HR"]}, **GRID)
        assert table.index.tolist() == [30, 200001]
        assert table.index.dtype == np.int64
        assert report.counts["unknown_id"] == 1


def test_whole_ids_beyond_2_to_53_are_exact_or_refused(tmp_path):
    ids = pd.array([2**53 + 1, 2**53, None], dtype="Int64")
    events = events_of(ids)
    events.to_csv(tmp_path / "events.csv", index=False)
    events.to_parquet(tmp_path / "events.parquet")
    for source in (events, tmp_path / "events.csv", tmp_path / "events.parquet"):
        table, _ = grid_events(source, {"a": ["HR"]}, **GRID, ids=[2**53, 2**53 + 1])
        assert [cell[0, 0] for cell in table["a"]] == [1, 0]
    rounded = events.astype({"record_id": float})
    rounded.to_csv(tmp_path / "rounded.csv", index=False)
    for source in (rounded * 1, tmp_path / "rounded.csv"):
        grid_events(source, {"a": ["HR"]}, **GRID)  # 2 ** 53 itself is exact
    rounded["record_id"] *= 4
    rounded.to_csv(tmp_path / "rounded.csv", index=False)
    for source in (rounded, tmp_path / "rounded.csv"):
        with pytest.raises(DataError, match=r"'record_id'.* float.*Int64"):
            grid_events(source, {"a": ["HR"]}, **GRID)
    with pytest.raises(DataError, match="float"):
        grid_events(events, {"a": ["HR"]}, **GRID, ids=[2.0**60])


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        ([1, None], "no stay at position 1"),
        (pd.Series([1.0, np.nan]), "no stay at position 1"),
        ([7, "7"], "twice"),
        (pd.MultiIndex.from_tuples([(1, 2)], names=["subject", "stay"]), "MultiIndex.*'stay'"),
        ("17", "sequence"),
        (17, "sequence"),
        (pd.DataFrame({"id": [1]}), "sequence"),
    ],
)
def test_ids_that_name_no_stays_are_refused(ids, match):
    with pytest.raises(DataError, match=match):
        grid_events(events_of([1]), {"a": ["HR"]}, **GRID, ids=ids)


def test_missing_name_of_a_parameter_is_refused():
    with pytest.raises(ModalityError, match="can't name a parameter"):
        grid_events(events_of([1]), {"a": [None]}, **GRID)


STAMPS = pd.to_datetime(["2150-03-01 10:05", "2150-03-01 11:30"])
DATES = {
    "datetime": STAMPS,
    "time zone": STAMPS.tz_localize("Europe/Berlin"),
    "text": STAMPS.astype(str),
    "day": ["01.03.2150", "02.03.2150"],
    "clock": ["10:05", "11:30"],
    "Timestamp": pd.Series(list(STAMPS), dtype=object),
    "date": [dt.date(2150, 3, 1)] * 2,
    "time": [dt.time(10, 5)] * 2,
    "timedelta": STAMPS - STAMPS[0],
    "timedelta object": pd.Series([dt.timedelta(minutes=5)] * 2, dtype=object),
    "category": pd.Categorical(STAMPS),
    "period": STAMPS.to_period("h"),
    "half": [5.0, "2150-03-01 10:05"],
    "list": [[5], [6]],
}


@pytest.mark.parametrize("kind", DATES)
@pytest.mark.parametrize("form", ["frame", "csv", "parquet"])
def test_times_that_are_no_numbers_are_refused_from_every_source(kind, form, tmp_path):
    events = source = events_of([1, 1], minutes=DATES[kind])
    if form == "csv":
        events.to_csv(tmp_path / "events.csv", index=False)
        source = tmp_path / "events.csv"
    if form == "parquet":
        if kind in ("half", "time", "period", "timedelta object"):
            events = events.astype({"minute": str})
        source = tmp_path / "events.parquet"
        events.to_parquet(source)
    with pytest.raises(DataError, match="'minute'"):
        grid_events(source, {"a": ["HR"]}, **GRID)


def test_words_for_missing_times_and_values_are_counted_alike(tmp_path):
    words = ["NA", "NULL", "nan", "None", "\\N", "n/a", ""]
    events = events_of([1] * 8, minutes=[*words, 5], values=[1.0] * 8)
    events.to_csv(tmp_path / "events.csv", index=False)
    for source in (events, tmp_path / "events.csv"):
        _, report = grid_events(source, {"a": ["HR"]}, **GRID)
        assert report.counts["outside_time"] == 7
        assert report.counts["used"] == 1


def test_values_of_true_and_false_are_one_and_nought_from_every_source(tmp_path):
    events = events_of([1, 1], ["vent", "ecmo"], values=[True, False])
    events.to_csv(tmp_path / "events.csv", index=False)
    for source in (events, events.astype({"value": str}), tmp_path / "events.csv"):
        table, _ = grid_events(source, {"a": ["vent", "ecmo"]}, **GRID)
        assert table.loc[1, "a"][:, 0].tolist() == [1, 0]


def test_parameter_that_never_occurs_is_warned_of_with_the_nearest_names():
    events = events_of([1, 2], ["Heart Rate", "K"])
    with pytest.warns(ModalityWarning, match=r"'heart_rate' \(is it 'Heart Rate'\?\)"):
        grid_events(events, {"vitals": ["heart_rate"], "labs": ["K"]}, **GRID)
    with pytest.warns(ModalityWarning, match="'Age'"):
        grid_events(events, {"labs": ["K"]}, **GRID, statics={"Age": "age"})


def test_parameter_of_which_no_event_counts_is_warned_of_with_the_reason():
    events = events_of([1, 1, 2], ["HR", "HR", "K"], minutes=[1.7e9, 1.7e9, 5])
    with pytest.warns(ModalityWarning, match=r"'HR' \(2 outside_time\)"):
        grid_events(events, {"vitals": ["HR"], "labs": ["K"]}, **GRID)


def test_ids_of_which_no_event_is_are_warned_of():
    with pytest.warns(ModalityWarning, match="none of the 2 stays"):
        grid_events(events_of([1, 2]), {"vitals": ["HR"]}, **GRID, ids=["p1", "p2"])


def test_stay_in_the_index_of_the_events_is_found():
    events = events_of([5, 6])
    table, _ = grid_events(events.set_index("record_id"), {"a": ["HR"]}, **GRID)
    expected, _ = grid_events(events, {"a": ["HR"]}, **GRID)
    pd.testing.assert_index_equal(table.index, expected.index)


@pytest.mark.parametrize("form", ["frame", "csv", "parquet"])
def test_column_that_is_there_twice_is_refused(form, tmp_path):
    events = source = events_of([1]).assign(other=1.0)
    events.columns = ["record_id", "minute", "parameter", "value", "value"]
    if form == "csv":
        source = tmp_path / "events.csv"
        events.to_csv(source, index=False)
    if form == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        arrays = [pa.array(events.iloc[:, i]) for i in range(5)]
        source = tmp_path / "events.parquet"
        parquet.write_table(pa.Table.from_arrays(arrays, names=list(events.columns)), source)
    with pytest.raises(DataError, match=r"several columns \['value'"):
        grid_events(source, {"a": ["HR"]}, **GRID)


@pytest.mark.parametrize(
    "rows",
    ["1,5,HR,80,\n1,6,HR,81,\n", "1,5,HR,80\n1,6,Glucose, serum,81\n"],
    ids=["every line", "one line"],
)
def test_lines_with_more_fields_than_names_are_refused(rows, tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("record_id,minute,parameter,value\n" + rows)
    with pytest.raises(DataError, match=r"events\.csv"):
        grid_events(path, {"a": ["HR"]}, **GRID)


@pytest.mark.parametrize("ending", ["csv.gz", "csv.bz2", "csv.xz", "csv.zip", "parquet"])
@pytest.mark.parametrize("damage", ["cut", "bytes", "foreign", "empty"])
def test_damaged_files_are_errors_that_name_them(ending, damage, tmp_path):
    path = tmp_path / f"events.{ending}"
    events = events_of(np.random.default_rng(0).integers(0, 99, 3000))
    events.to_parquet(path) if ending == "parquet" else events.to_csv(path, index=False)
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:half],
            "bytes": whole[:half] + bytes(200) + whole[half + 200 :],
            "foreign": gzip.compress(b"\xff\xfe\x00\x01" * 99) if "zip" in ending else b"\xff" * 99,
            "empty": b"",
        }[damage]
    )
    with pytest.raises(DataError, match=r"events\."):
        grid_events(path, {"a": ["HR"]}, **GRID)


def test_other_objects_than_tables_and_paths_are_refused():
    with pytest.raises(ParameterError, match=r"pandas\.concat"):
        grid_events(iter([events_of([1])]), {"a": ["HR"]}, **GRID)
