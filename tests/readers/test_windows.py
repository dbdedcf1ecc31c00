"""Windows of series: what they hold, what follows them, and that none crosses a row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from medfusion_sdk import make_forecast_windows, make_windows
from medfusion_sdk.exceptions import DataError, ModalityError, ParameterError, SignalError

NAN = np.nan


def numbered(*lengths):
    """Every value tells its row, channel and step: row * 1000 + channel * 100 + step."""
    cells = [
        np.stack([1000.0 * row + 100 * channel + np.arange(steps) for channel in range(2)])
        for row, steps in enumerate(lengths)
    ]
    index = pd.Index([f"s{row}" for row in range(len(lengths))], name="stay")
    return pd.DataFrame({"vitals": cells, "static__age": np.arange(len(lengths)) + 60.0}, index)


def test_windows_hold_their_steps_and_cover_every_end():
    windows, groups = make_windows(numbered(10, 4, 3), window=4, stride=4)
    assert windows.index.to_list() == [("s0", 0), ("s0", 4), ("s0", 6), ("s1", 0), ("s2", 0)]
    for (stay, start), cell in windows["vitals"].items():
        steps = min(4, {"s2": 3}.get(stay, 10))
        expected = 1000 * int(stay[1]) + start + np.arange(steps)
        np.testing.assert_array_equal(cell, [expected, expected + 100])
    assert groups.to_list() == ["s0", "s0", "s0", "s1", "s2"]
    assert windows["static__age"].to_list() == [60, 60, 60, 61, 62]


def test_default_window_and_stride_are_the_papers():
    windows, _ = make_windows(numbered(512))
    assert windows.index.get_level_values("start").to_list() == [0, 128, 256]


def test_windows_with_too_much_unobserved_are_left_out():
    table = numbered(8)
    table["vitals"].iloc[0][:, 4:7] = NAN  # the second window: 6 of 8 unobserved
    kept, _ = make_windows(table, window=4, stride=4, max_missing=0.75)
    dropped, _ = make_windows(table, window=4, stride=4, max_missing=0.7)
    assert (len(kept), len(dropped)) == (2, 1)


def test_window_without_an_observation_of_a_series_has_none_there():
    table = numbered(8)
    table["labs"] = [np.full((1, 8), NAN)]
    table["labs"].iloc[0][0, 1] = 4.0
    windows, _ = make_windows(table, window=4, stride=4)
    assert windows["labs"].isna().to_list() == [False, True]
    # 3 of 12 values are unobserved in the first window, 4 of 12 in the second.
    sparse_left, _ = make_windows(table, window=4, stride=4, max_missing=0.3)
    assert sparse_left.index.get_level_values("start").to_list() == [0]


def test_row_without_any_series_gives_no_window():
    table = numbered(4, 4)
    table.at["s0", "vitals"] = None
    _, groups = make_windows(table, window=4, stride=4)
    assert groups.to_list() == ["s1"]


def test_overlapping_windows_share_no_memory():
    table = numbered(6)
    windows, _ = make_windows(table, window=4, stride=2)
    windows["vitals"].iloc[0][:] = -1
    assert windows["vitals"].iloc[1].min() >= 0
    assert table["vitals"].iloc[0].min() >= 0


def test_targets_are_the_steps_that_follow_within_the_row():
    windows, targets, groups = make_forecast_windows(
        numbered(10, 9, 4, 6), window=4, horizon=2, stride=3
    )
    assert list(targets.columns) == ["vitals[0]+1", "vitals[0]+2", "vitals[1]+1", "vitals[1]+2"]
    assert windows.index.to_list() == [("s0", 0), ("s0", 3), ("s1", 0), ("s1", 3), ("s3", 0)]
    for stay, start in windows.index:
        cell, target = windows.loc[(stay, start), "vitals"], targets.loc[(stay, start)]
        first = 1000 * int(stay[1]) + start + 4
        assert cell[0, -1] == first - 1
        assert target.tolist() == [first, first + 1, first + 100, first + 101]
        assert cell.shape == (2, 4)
    assert groups.to_list() == [stay for stay, _ in windows.index]


def test_groups_keep_rows_on_one_side_of_a_split():
    windows, targets, groups = make_forecast_windows(numbered(*[20] * 6), window=4, stride=2)
    for train, test in GroupKFold(3).split(windows, targets, groups):
        assert not set(groups.iloc[train]) & set(groups.iloc[test])


def test_incomplete_targets_and_empty_windows_are_left_out():
    table = numbered(12)
    series = table["vitals"].iloc[0]
    series[1, 4] = NAN  # in the target of the window that begins at step 0
    series[:, 6:10] = NAN  # all of the window at 6, and the targets of those at 2 and 4
    _, both, _ = make_forecast_windows(numbered(12), window=4, stride=2)
    _, one, _ = make_forecast_windows(table, window=4, stride=2, channels=[0])
    assert both.index.get_level_values("start").to_list() == [0, 2, 4, 6]
    assert one.index.get_level_values("start").to_list() == [0]
    assert one.to_numpy().tolist() == [[4.0]]
    with pytest.raises(DataError, match="followed by 1 observed"):
        make_forecast_windows(table, window=4, stride=2)


def test_target_series_is_named_where_there_are_several():
    table = numbered(8)
    table["labs"] = [np.arange(8.0)[None]]
    with pytest.raises(ModalityError, match="target=None"):
        make_forecast_windows(table, window=4)
    windows, targets, _ = make_forecast_windows(table, window=4, target="labs")
    assert list(windows.columns) == ["vitals", "static__age", "labs"]
    assert targets.to_numpy().tolist() == [[4.0]]


def test_linear_model_on_windows_of_a_ramp_forecasts_it():
    windows, targets, _ = make_forecast_windows(numbered(40, 40), window=4, horizon=2, stride=1)
    flat = np.stack([cell.ravel() for cell in windows["vitals"]])
    np.testing.assert_allclose(Ridge(1e-6).fit(flat, targets).predict(flat), targets, atol=1e-2)


def test_what_cannot_be_cut_is_refused_with_the_reason():
    table = numbered(8)
    with pytest.raises(DataError, match="no window of 256 steps"):
        make_forecast_windows(table)
    for options in ({"window": 0}, {"stride": 1.5}, {"max_missing": 2}):
        with pytest.raises(ParameterError):
            make_windows(table, **options)
    with pytest.raises(ParameterError, match="channels 0 to 1"):
        make_forecast_windows(table, window=4, channels=[2])
    with pytest.raises(ModalityError, match="holds series"):
        make_windows(table[["static__age"]])
    table["labs"] = [np.zeros((1, 7))]
    with pytest.raises(SignalError, match=r"differ in steps: .*'vitals': 8, 'labs': 7"):
        make_windows(table)


def test_rows_of_several_index_levels_keep_them_and_the_same_windows():
    table = pd.DataFrame({"v": [np.arange(12.0)[None] + i for i in range(3)]})
    levels = pd.MultiIndex.from_tuples([("s", 0), ("s", 1), ("t", 0)], names=["subject", "stay"])
    windows, groups = make_windows(table.set_axis(levels), window=6, stride=6)
    expected, plain = make_windows(table, window=6, stride=6)
    assert windows.index.names == ["subject", "stay", "start"]
    assert groups.tolist() == [levels[i] for i in plain]
    np.testing.assert_array_equal(np.stack(windows["v"]), np.stack(expected["v"]))
    y = pd.Series([5, 6, 7], index=levels)
    assert y.loc[groups].tolist() == [5, 5, 6, 6, 7, 7]
