"""What AMFN makes of the tables that pandas, meta-estimators and other hospitals hand over."""

from __future__ import annotations

import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import BaggingClassifier

from medfusion_sdk import (
    AMFNClassifier,
    AMFNRegressor,
    grid_events,
    load_estimator,
    make_windows,
    save_estimator,
)
from medfusion_sdk.datasets import make_icu_cohort
from medfusion_sdk.exceptions import CellError, DataError, ModalityError, ParameterError


def quick(**parameters):
    settings = {"max_epochs": 3, "d_model": 16, "ensemble_size": 2, "random_state": 0}
    return AMFNClassifier(**settings | parameters)


@pytest.fixture(scope="module")
def stays():
    cohort = make_icu_cohort(60, random_state=0)
    return cohort.data, cohort.target


@pytest.fixture(scope="module")
def fitted(stays):
    return quick().fit(*stays)


def test_windows_are_explained_under_both_levels_of_their_labels(stays, fitted):
    windows, _ = make_windows(stays[0].head(10), window=24, stride=24)
    told = fitted.explain(windows)
    assert told["row"].drop_duplicates().to_list() == windows.index.to_list()


def test_numbers_in_types_of_pandas_own_are_numbers(stays, fitted):
    X = stays[0].copy()
    X.loc[3, "static__age"] = np.nan
    nullable = X.assign(
        static__age=X["static__age"].astype("Int64"), static__sex=X["static__sex"].astype("boolean")
    )
    np.testing.assert_array_equal(fitted.predict_proba(nullable), fitted.predict_proba(X))
    np.testing.assert_array_equal(
        quick().fit(nullable, stays[1]).predict_proba(X), quick().fit(X, stays[1]).predict_proba(X)
    )
    assert str(nullable["static__age"].dtype) == "Int64"  # the user's table stays as it is


def test_numbers_among_objects_are_numbers(stays, fitted):
    X = stays[0].copy()
    X.loc[3, "static__age"] = np.nan
    objects = X.assign(static__age=X["static__age"].astype(object).where(X.index != 3, None))
    np.testing.assert_array_equal(fitted.predict_proba(objects), fitted.predict_proba(X))
    np.testing.assert_array_equal(
        quick().fit(objects, stays[1]).predict_proba(X), quick().fit(X, stays[1]).predict_proba(X)
    )


@pytest.mark.parametrize("call", ["fit", "predict"])
def test_infinite_number_beside_series_is_named(stays, fitted, call):
    X = stays[0].copy()
    X.loc[4, "static__age"] = -np.inf
    with pytest.raises(CellError, match="row 4, column 'static__age': found -inf"):
        quick().fit(X, stays[1]) if call == "fit" else fitted.predict(X)


def test_infinite_number_of_a_block_table_is_named(stays):
    X = stays[0][["static__age", "static__sex"]].copy()
    X.loc[4, "static__age"] = np.inf
    with pytest.raises(CellError, match="row 4, column 'static__age'"):
        quick().fit(X, stays[1])


@pytest.mark.parametrize("kind", [np.float16, np.int8, bool, list])
def test_series_of_any_numbers_are_read(stays, kind):
    X, y = stays
    marks = np.random.default_rng(0).integers(0, 2, size=(len(X), 2, 9))
    cells = [cell.tolist() if kind is list else cell.astype(kind) for cell in marks]
    model = quick().fit(X.assign(marks=cells), y)
    plain = X.assign(marks=list(marks.astype(float)))
    np.testing.assert_array_equal(
        model.predict_proba(X.assign(marks=cells)), quick().fit(plain, y).predict_proba(plain)
    )


def test_series_beyond_single_precision_is_refused(stays, fitted):
    X = stays[0].copy()
    X.at[5, "vitals"] = np.where(np.arange(48) == 7, 1e300, X.at[5, "vitals"].astype(np.float64))
    with pytest.raises(CellError, match=r"row 5, column 'vitals'.*beyond"):
        fitted.predict(X)


@pytest.mark.parametrize(
    ("column", "cell", "complaint"),
    [
        ("vitals", "abc", "row 0, column 'vitals'"),
        ("vitals", [[1.0, 2.0], [3.0]], "row 0, column 'vitals'"),
        ("vitals", np.zeros((3, 4, 5)), "row 0, column 'vitals'.*shape"),
        ("static__age", "old", "row 0, column 'static__age': found 'old'; a number is needed"),
    ],
)
def test_cell_of_another_kind_than_in_training_is_named(stays, fitted, column, cell, complaint):
    X = stays[0].astype({column: object})
    X.at[0, column] = cell
    with pytest.raises(CellError, match=complaint):
        fitted.predict(X)


def test_channels_in_another_order_than_in_training_are_refused(stays, fitted):
    cohort = make_icu_cohort(20, random_state=1)
    groups = cohort.channels | {"vitals": ["MAP", "HR", "Temp"]}
    statics = {"Age": "age", "Gender": "sex"}
    there, _ = grid_events(cohort.events, groups, step=60, length=48, statics=statics)
    with pytest.raises(
        ModalityError, match=r"'vitals'.*\['MAP', 'HR', 'Temp'\], in training \['HR'"
    ):
        fitted.predict(there)
    there.attrs.clear()  # a table that doesn't tell is taken at its word
    assert fitted.predict(there).shape == (20,)
    proba = load_saved(fitted).predict_proba(stays[0])
    np.testing.assert_array_equal(proba, fitted.predict_proba(stays[0]))


def load_saved(model):
    with tempfile.TemporaryDirectory() as folder:
        save_estimator(model, Path(folder) / "model")
        return load_estimator(Path(folder) / "model")


def test_table_without_rows_is_refused(stays, fitted):
    with pytest.raises(DataError, match=r"no row in a table of shape \(0, 7\)"):
        fitted.predict(stays[0][:0])
    with pytest.raises(DataError, match="no row"):
        quick().fit(stays[0][:0], [])


def test_series_in_which_nothing_varies_say_no_more_than_that_they_are_there(stays):
    X, y = stays
    flat = pd.Series([np.ones((1, 6))] * len(X), dtype=object)
    model = quick(encoder="mlp", lambda_rec=0.1).fit(X.assign(flat=flat), y)
    proba = model.predict_proba(X.assign(flat=flat))
    other = flat.map(lambda cell: 5 * cell)
    np.testing.assert_array_equal(model.predict_proba(X.assign(flat=other)), proba)


@pytest.mark.parametrize("n_rows", [1, 2])
def test_a_row_or_two_are_enough_to_fit(stays, n_rows):
    X = stays[0].dropna().head(n_rows)
    assert quick().fit(X, np.arange(n_rows)).predict_proba(X).shape == (n_rows, n_rows)
    model = AMFNRegressor(max_epochs=2, ensemble_size=1, random_state=0).fit(X, np.arange(n_rows))
    assert np.isfinite(model.predict(X, return_std=True)).all()


@pytest.mark.filterwarnings("ignore:this table lost its names")
def test_bagging_hands_over_arrays_of_cells(stays):
    X, y = stays
    bagging = BaggingClassifier(quick(max_epochs=1), 2, random_state=0).fit(X, y)
    assert bagging.predict_proba(X).shape == (len(X), 2)
    # Folds of calibration follow content by name, and an array has no names.
    cells = quick(calibrate=False).fit(X.to_numpy(), y)
    named = quick(calibrate=False).fit(X, y)
    np.testing.assert_array_equal(cells.predict_proba(X.to_numpy()), named.predict_proba(X))
    with pytest.raises(ModalityError, match="series or images"):
        cells.predict(np.ones((3, 7)))


def test_list_of_series_columns_is_told_how_to_be_written(stays):
    with pytest.raises(ModalityError, match=r"alone, \{'pulse': 'vitals'\}"):
        quick(modalities={"pulse": ["vitals", "neuro"]}).fit(*stays)


def test_trees_with_too_few_rows_of_a_class_are_refused(stays):
    X, _ = stays
    y = np.where(np.arange(len(X)) < 4, 2, np.arange(len(X)) % 2)
    with pytest.raises(ParameterError, match=r"5 folds.*there are training rows in 4 groups"):
        quick(expert=True).fit(X, y)


# -- one model, many askers -------------------------------------------------------------------


def test_threads_that_share_a_model_get_the_same_sampled_passes(stays):
    X, y = stays
    model = quick(mc_samples=4).fit(X, y)
    expected = model.predict_proba(X)
    shared = pickle.loads(pickle.dumps(model))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: shared.predict_proba(X), range(12)):
            np.testing.assert_array_equal(found, expected)


def test_loaded_model_leaves_the_global_generator_alone(stays, fitted):
    loaded = pickle.loads(pickle.dumps(fitted))
    before = torch.get_rng_state()
    loaded.predict(stays[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "y",
    [
        pd.Series(pd.date_range("2020-01-01", periods=12, tz="UTC")),
        np.arange(12).astype("m8[h]"),
        pd.DataFrame({"stay": np.arange(12.0), "death": pd.date_range("2020-01-01", periods=12)}),
    ],
    ids=["dates", "durations", "table"],
)
def test_dates_and_durations_are_no_targets_of_a_regression(y):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 2)), columns=["a__1", "b__1"])
    with pytest.raises(DataError, match=r"y holds (datetime64|timedelta64).*a number is needed"):
        AMFNRegressor(max_epochs=1).fit(X, y)
