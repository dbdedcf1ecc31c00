"""Scaling and filling of series: hand-worked cases, pandas as oracle, nothing from test rows."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from medfusion_sdk import SeriesPreprocessor, load_estimator, save_estimator
from medfusion_sdk.exceptions import ModalityError, ParameterError, SignalError

NAN = np.nan


def make_table(n_stays=30, seed=0):
    """Two groups and a static; lengths differ, and a third of the stays lack the second group."""
    rng = np.random.default_rng(seed)
    vitals, labs = [], []
    for stay in range(n_stays):
        steps = int(rng.integers(5, 9))
        cell = rng.normal(80, 10, (3, steps)).astype(np.float32)
        cell[rng.random(cell.shape) < 0.4] = NAN
        cell[0, 2] = 75.0
        vitals.append(cell)
        own = rng.normal(4, 1, (2, steps)).astype(np.float32)
        own[rng.random(own.shape) < 0.7] = NAN
        own[1, 0] = 4.0
        labs.append(own if stay % 3 else None)
    columns = {"vitals": vitals, "labs": labs, "static__age": rng.normal(60, 10, n_stays)}
    return pd.DataFrame(columns, index=[f"s{stay}" for stay in range(n_stays)])


def column_of(*cells):
    return pd.DataFrame({"vitals": [None if c is None else np.array(c, float) for c in cells]})


def test_hand_worked_series_are_scaled_and_filled_as_worked_out():
    # Observed 2, 4, 4, 6: mean 4, variance (4 + 0 + 0 + 4) / 4 = 2.
    table = column_of([[NAN, 2, NAN, 4]], [[4, NAN, 6]], None)
    model = SeriesPreprocessor().fit(table)
    assert model.mean_["vitals"].tolist() == [4]
    np.testing.assert_allclose(model.scale_["vitals"], [np.sqrt(2)])
    assert model.observed_["vitals"].tolist() == [4]
    done = model.transform(table)["vitals"]
    root = np.sqrt(2)
    np.testing.assert_allclose(done[0], [[0, -root, -root, 0]], rtol=1e-6)
    np.testing.assert_allclose(done[1], [[0, 0, root]], rtol=1e-6)
    assert done[2] is None
    assert done[0].dtype == np.float32


def test_statistics_are_those_of_observed_training_values_in_pandas():
    table = make_table()
    model = SeriesPreprocessor().fit(table)
    for name in ("vitals", "labs"):
        values = pd.DataFrame(np.hstack(table[name].dropna().to_list()).T.astype(float))
        np.testing.assert_allclose(model.mean_[name], values.mean(), rtol=1e-6)
        np.testing.assert_allclose(model.scale_[name], values.std(ddof=0), rtol=1e-5)
        np.testing.assert_array_equal(model.observed_[name], values.notna().sum())


@pytest.mark.parametrize("fill", ["forward", "linear"])
def test_fill_equals_pandas_on_each_channel(fill):
    table = make_table()
    done = SeriesPreprocessor(standardize=False, fill=fill, fill_rest=False).fit_transform(table)
    for name in ("vitals", "labs"):
        for raw, filled in zip(table[name], done[name], strict=True):
            if raw is None:
                assert filled is None
                continue
            frame = pd.DataFrame(raw.T.astype(float))
            # In pandas too, "forward" holds the last value behind the last observation.
            interpolated = frame.interpolate(limit_direction="forward")
            expected = frame.ffill() if fill == "forward" else interpolated
            np.testing.assert_allclose(filled, expected.to_numpy().T, rtol=1e-6)


def test_what_test_rows_hold_does_not_change_what_was_learned():
    train, test = make_table(seed=0), make_table(seed=1)
    model = SeriesPreprocessor().fit(train)
    learned = pickle.dumps([model.mean_, model.scale_, model.observed_])
    alone = model.transform(train)["vitals"]
    test["vitals"] = [cell * 100 for cell in test["vitals"]]
    both = model.transform(pd.concat([test, train]))["vitals"]
    assert pickle.dumps([model.mean_, model.scale_, model.observed_]) == learned
    for one, other in zip(alone, both.iloc[len(test) :], strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_row_is_processed_apart_from_the_others():
    table = make_table()
    model = SeriesPreprocessor(add_mask=True, add_elapsed=True).fit(table)
    whole = model.transform(table)
    for row in range(len(table)):
        single = model.transform(table.iloc[[row]])
        for name in ("vitals", "labs"):
            np.testing.assert_array_equal(single[name].iloc[0], whole[name].iloc[row])


def test_every_step_can_be_switched_off():
    table = make_table()
    model = SeriesPreprocessor(standardize=False, fill=None, fill_rest=False)
    done = model.fit_transform(table)
    for name in ("vitals", "labs"):
        for raw, cell in zip(table[name], done[name], strict=True):
            np.testing.assert_array_equal(cell, raw)


def test_mask_and_elapsed_are_appended_behind_the_values():
    table = column_of([[NAN, 5, NAN, NAN], [1, NAN, 2, NAN]])
    done = SeriesPreprocessor(add_mask=True, add_elapsed=True).fit_transform(table)["vitals"][0]
    assert done.shape == (6, 4)
    np.testing.assert_array_equal(done[2:4], [[0, 1, 0, 0], [1, 0, 1, 0]])
    np.testing.assert_allclose(done[4:], np.log1p([[1, 0, 1, 2], [0, 1, 0, 1]]), rtol=1e-6)


def test_names_of_channels_follow_where_the_table_knows_them():
    table = column_of([[NAN, 5], [1, 2]])
    table.attrs["channels"] = {"vitals": ["HR", "MAP"]}
    done = SeriesPreprocessor(add_mask=True).fit_transform(table)
    assert done.attrs["channels"]["vitals"] == ["HR", "MAP", "HR observed", "MAP observed"]
    assert table.attrs["channels"]["vitals"] == ["HR", "MAP"]


def test_channel_constant_in_training_keeps_its_value_as_a_mark():
    table = column_of([[NAN, 1, NAN], [3, 5, NAN]], [[NAN, NAN, NAN], [5, 3, 4]])
    done = SeriesPreprocessor().fit_transform(table)["vitals"]
    np.testing.assert_array_equal(done[0][0], [0, 1, 1])
    np.testing.assert_array_equal(done[1][0], [0, 0, 0])


def test_channel_never_seen_in_training_is_unobserved_ever_after():
    train = column_of([[1, 2, 3], [NAN] * 3], [[2, 3, 4], [NAN] * 3])
    test = column_of([[1, 2, 3], [500, 600, 700]], [[NAN] * 3, [500, 600, 700]])
    done = SeriesPreprocessor(add_mask=True).fit(train).transform(test)["vitals"]
    np.testing.assert_array_equal(done[0][[1, 3]], np.zeros((2, 3)))
    assert done[1] is None


def test_group_never_seen_in_training_is_missing_ever_after():
    train = make_table().assign(labs=None)
    done = SeriesPreprocessor().fit(train).transform(make_table(seed=1))
    assert done["labs"].isna().all()
    assert done["vitals"].notna().all()


def test_series_observed_too_little_becomes_missing():
    table = column_of([[1, 2, NAN, 4, 5]], [[1, NAN, NAN, NAN, 5]], [[100, NAN, NAN, NAN, NAN]])
    model = SeriesPreprocessor(max_missing=0.4).fit(table)
    assert model.transform(table)["vitals"].isna().tolist() == [False, True, True]
    assert model.mean_["vitals"].tolist() == [3]  # of what is kept


def test_series_without_an_observation_is_missing():
    assert (
        SeriesPreprocessor().fit_transform(column_of([[1, 2]], [[NAN, NAN]]))["vitals"][1] is None
    )


def test_other_columns_pass_through_and_the_table_is_left_as_it_was():
    table = make_table()
    table["note"] = "stable"
    before = table.copy(deep=True)
    done = SeriesPreprocessor().fit_transform(table)
    pd.testing.assert_frame_equal(done[["static__age", "note"]], table[["static__age", "note"]])
    for name in table:
        for one, other in zip(table[name], before[name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_read_only_cells_are_accepted():
    table = make_table()
    for cell in table["vitals"]:
        cell.flags.writeable = False
    SeriesPreprocessor().fit_transform(table)


def test_transformer_clones_pickles_and_names_its_output(tmp_path):
    table = make_table()
    model = clone(SeriesPreprocessor(fill="linear", add_mask=True)).fit(table)
    assert model.get_feature_names_out().tolist() == list(table.columns)
    save_estimator(model, tmp_path / "model")
    for copy in (pickle.loads(pickle.dumps(model)), load_estimator(tmp_path / "model")):
        done = copy.transform(table)
        for one, other in zip(done["vitals"], model.transform(table)["vitals"], strict=True):
            np.testing.assert_array_equal(one, other)


def test_transformer_works_in_a_pipeline_and_a_column_transformer():
    table = make_table()
    last = FunctionTransformer(lambda X: np.array([cell[:, -1] for cell in X["vitals"]]))
    assert make_pipeline(SeriesPreprocessor(), last).fit_transform(table).shape == (30, 3)
    parts = ColumnTransformer([("series", SeriesPreprocessor(), ["vitals", "labs"])])
    parts.set_output(transform="pandas")
    done = parts.fit_transform(table)
    assert list(done.columns) == ["series__vitals", "series__labs"]
    assert done["series__vitals"].iloc[0].shape == table["vitals"].iloc[0].shape


def test_bad_cells_are_named_with_row_and_column():
    table = make_table()
    model = SeriesPreprocessor().fit(table)
    for bad in (np.zeros((2, 5)), np.zeros((3, 2, 2)), np.full((3, 5), np.inf), ["high"]):
        wrong = table.copy()
        wrong.at["s4", "vitals"] = bad
        with pytest.raises(SignalError, match=r"row 's4', column 'vitals'"):
            model.transform(wrong)


def test_other_columns_than_in_training_are_refused():
    table = make_table()
    model = SeriesPreprocessor().fit(table)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(table[["labs", "vitals", "static__age"]])
    with pytest.raises(ModalityError, match="found ndarray"):
        model.transform(np.zeros((3, 3)))


@pytest.mark.parametrize("options", [{"fill": "backward"}, {"max_missing": 1.5}])
def test_parameters_that_cannot_be_meant_are_refused(options):
    with pytest.raises(ParameterError):
        SeriesPreprocessor(**options).fit(make_table())
