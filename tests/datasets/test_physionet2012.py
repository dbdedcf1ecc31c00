"""The challenge's stays, from its own files and from Parquet, with the traps of both."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk.datasets import load_physionet2012
from medfusion_sdk.exceptions import DataError, DataFileNotFoundError, ParameterError

COLUMNS = ["RecordID", "SAPS-I", "SOFA", "Length_of_stay", "Survival", "In-hospital_death"]
# Time, parameter, value; -1 is missing.
STAYS = {
    132539: [
        ("00:00", "Age", 54),
        ("00:00", "Gender", 0),
        ("00:00", "Height", -1),
        ("00:00", "ICUType", 4),
        ("00:00", "Weight", -1),
        ("00:07", "GCS", 15),
        ("00:07", "HR", 73),
        ("00:37", "HR", 77),
        ("00:10", "Urine", 100),
        ("00:50", "Urine", 60),
        ("03:00", "Weight", 81.5),
        ("05:00", "pH", 735),
        ("05:30", "SysABP", 0),
        ("05:40", "HR", 0),
        ("48:00", "GCS", 14),
    ],
    132540: [
        ("00:00", "Age", 200),
        ("00:00", "Age", 71),
        ("00:00", "Gender", 1),
        ("00:00", "Height", 175.3),
        ("00:00", "ICUType", 2),
        ("00:00", "Weight", 76),
        ("01:11", "MechVent", 1),
        ("01:12", "NewThing", 3),
        ("02:12", "TroponinT", 0.4),
    ],
    132541: [("00:00", "Age", -1), ("00:00", "Gender", -1)],
    132542: [("00:00", "Age", 60), ("10:00", "HR", 80)],
}
OUTCOMES = [
    (132539, 6, 1, 5, -1, 0),
    (132540, 16, -1, 8, 40, 1),
    (132541, 6, 1, 5, -1, 0),
    (132542, 6, 1, -1, -1, 0),
]


def write_official(home, letter="a", stays=STAYS, outcomes=OUTCOMES):
    folder = home / f"set-{letter}"
    folder.mkdir(parents=True)
    for record, rows in stays.items():
        lines = ["Time,Parameter,Value", f"00:00,RecordID,{record}"]
        lines += [",".join(map(str, row)) for row in rows]
        (folder / f"{record}.txt").write_text("\n".join(lines) + "\n")
    pd.DataFrame(outcomes, columns=COLUMNS).to_csv(home / f"Outcomes-{letter}.txt", index=False)
    return home


def write_parquet(home, letter="a"):
    rows = [
        (record, int(time[:2]) * 60 + int(time[3:]), parameter, float(value))
        for record, events in STAYS.items()
        for time, parameter, value in events
    ]
    events = pd.DataFrame(rows, columns=["record_id", "minute", "parameter", "value"])
    events = events.astype({"record_id": "int32", "minute": "int16", "parameter": "category"})
    home.mkdir(exist_ok=True)
    events.to_parquet(home / f"set-{letter}.parquet")
    pd.DataFrame(OUTCOMES, columns=COLUMNS).to_csv(home / f"outcomes-{letter}.csv", index=False)
    return home


@pytest.fixture
def official(tmp_path):
    return write_official(tmp_path / "official")


def assert_tables_equal(left, right):
    assert list(left.columns) == list(right.columns)
    assert left.index.equals(right.index)
    for name in left:
        for one, other in zip(left[name], right[name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_hand_worked_stay_has_the_values_worked_out(official):
    stays = load_physionet2012(official)
    first = stays.data.loc[132539]
    channel = {
        parameter: first[group][position] if first[group] is not None else None
        for group, members in stays.channels.items()
        for position, parameter in enumerate(members)
    }
    assert channel["HR"][0] == 75  # the mean of the hour
    assert channel["HR"][5] == 0  # asystole is a value
    assert np.isnan(channel["SysABP"]).all()  # a pressure of 0 isn't
    assert channel["Urine"][0] == 160  # the sum of the hour
    assert (channel["GCS"][0], channel["GCS"][47]) == (15, 14)
    assert np.isnan(channel["GCS"][1:47]).all()
    assert first[["respiration", "metabolism", "blood", "liver", "cardiac"]].isna().all()
    assert first["static__age"] == 54
    assert first["static__sex"] == 0
    assert np.isnan(first["static__height"])
    assert first["static__weight"] == 81.5
    units = ["coronary", "cardiac_surgery", "medical", "surgical"]
    assert [first[f"static__icu_{unit}"] for unit in units] == [0, 0, 0, 1]
    second = stays.data.loc[132540]
    assert second["static__age"] == 90  # the first of two, capped
    assert second["static__icu_cardiac_surgery"] == 1
    assert second["respiration"].shape == (7, 48)


def test_report_counts_what_was_decided(official):
    stays = load_physionet2012(official)
    counts = stays.report.counts
    assert counts["ages_capped"] == 1
    assert counts["conflicting"] == 1
    assert counts["records_without_data"] == 1
    assert counts["records_without_target"] == 0
    # Height, weight, pH and pressure of the first stay; age and sex of the third.
    assert counts["outside_limits"] == 6
    assert stays.report.unknown.to_dict() == {"NewThing": 1}
    assert stays.data.index.tolist() == [132539, 132540, 132542]


def test_parquet_form_gives_the_table_of_the_official_files(official, tmp_path):
    parquet = load_physionet2012(write_parquet(tmp_path / "parquet"))
    text = load_physionet2012(official)
    assert_tables_equal(parquet.data, text.data)
    pd.testing.assert_series_equal(parquet.target, text.target)
    pd.testing.assert_series_equal(parquet.report.counts, text.report.counts)


def test_columns_and_channels_are_the_same_for_a_set_that_lacks_parameters(official, tmp_path):
    poor = {150000: [("00:00", "Age", 50), ("01:00", "HR", 70)]}
    other = write_official(tmp_path / "other", "b", poor, [(150000, 1, 1, 3, -1, 1)])
    full, lacking = load_physionet2012(official), load_physionet2012(other)
    assert list(full.data.columns) == list(lacking.data.columns)
    assert full.channels == lacking.channels
    assert lacking.data.dtypes.to_dict() == full.data.dtypes.to_dict()
    assert lacking.data.loc[150000, "vitals"].shape == (8, 48)
    assert (lacking.data.filter(like="static__icu") == 0).all(axis=None)


def test_every_channel_belongs_to_one_group_and_gcs_and_weight_are_there(official):
    channels = load_physionet2012(official).channels
    members = [name for group in channels.values() for name in group]
    assert len(members) == len(set(members)) == 37
    assert {"GCS", "Weight", "MechVent"} <= set(members)


def test_sets_are_chosen_by_letter(official):
    write_official(official, "c", {160000: STAYS[132539]}, [(160000, 1, 1, 3, -1, 1)])
    both = load_physionet2012(official)
    assert both.set.to_dict() == {132539: "a", 132540: "a", 132542: "a", 160000: "c"}
    for chosen in ("c", ["c"]):
        assert load_physionet2012(official, sets=chosen).data.index.tolist() == [160000]
    assert_tables_equal(load_physionet2012(official, sets="ac").data, both.data)
    with pytest.raises(DataFileNotFoundError, match=r"\['b'\].*\['a', 'c'\]"):
        load_physionet2012(official, sets="ab")


def test_targets_are_outcomes_and_rows_without_them_are_left_out(official):
    X, died = load_physionet2012(official, return_X_y=True)
    assert died.to_dict() == {132539: 0, 132540: 1, 132542: 0}
    assert died.dtype == np.int64
    assert X.index.equals(died.index)
    stays = load_physionet2012(official, target="length_of_stay")
    assert stays.target.to_dict() == {132539: 5.0, 132540: 8.0}
    assert stays.report.counts["records_without_target"] == 1
    assert stays.outcomes["survival"].isna().tolist() == [True, False]
    assert load_physionet2012(official, target="sofa").target.to_dict() == {132539: 1, 132542: 1}
    with pytest.raises(ParameterError, match="survival"):
        load_physionet2012(official, target="survival")


def test_other_grid_leaves_out_what_lies_behind_its_end(official):
    stays = load_physionet2012(official, step=30, length=12)
    assert stays.data.loc[132539, "vitals"].shape == (8, 12)
    np.testing.assert_array_equal(stays.data.loc[132539, "vitals"][0, :2], [73, 77])
    assert stays.report.counts["outside_time"] == 2  # GCS at 48:00 and HR at 10:00


def test_odd_lines_are_counted_and_not_fatal(official):
    path = official / "set-a" / "132542.txt"
    path.write_text(path.read_text() + "\r\n07:00,,5\n08:00,HR,\n9h,HR,70\n")
    counts = load_physionet2012(official).report.counts
    assert counts["unknown_parameter"] == 2
    assert counts["not_numeric"] == 1
    assert counts["outside_time"] == 1


def test_files_that_are_not_the_challenges_are_named(official, tmp_path):
    with pytest.raises(DataFileNotFoundError, match="nowhere"):
        load_physionet2012(tmp_path / "nowhere")
    with pytest.raises(DataFileNotFoundError, match=r"no folder set-\?"):
        load_physionet2012(tmp_path)
    record = official / "set-a" / "132540.txt"
    good = record.read_text()
    record.write_text(good + "01:00,HR\n")
    with pytest.raises(DataError, match=r"132540\.txt: '01:00,HR'"):
        load_physionet2012(official)
    record.write_text("id,value\n")
    with pytest.raises(DataError, match=r"132540\.txt begins with 'id,value'"):
        load_physionet2012(official)
    record.write_text(good)
    outcomes = official / "Outcomes-a.txt"
    outcomes.write_text("RecordID,SAPS-I\n1,2\n")
    with pytest.raises(DataError, match=r"Outcomes-a\.txt has no column"):
        load_physionet2012(official)
    outcomes.unlink()
    with pytest.raises(DataFileNotFoundError, match=r"Outcomes-a\.txt"):
        load_physionet2012(official)


def test_bunch_says_what_it_holds(official):
    stays = load_physionet2012(official)
    assert list(stays.frame.columns) == stays.feature_names + stays.target_names
    assert stays.data.attrs["channels"] == stays.channels
    for name in [*stays.feature_names, *stays.target_names]:
        assert f"`{name}`" in stays.DESCR
    for members in stays.channels.values():
        assert ", ".join(members) in stays.DESCR
