"""Cells of a column, whatever coat they come in."""

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk import (
    AMFNClassifier,
    BrainAdapterClassifier,
    DualAdapterClassifier,
    SmallMultimodalClassifier,
    make_windows,
)
from medfusion_sdk.exceptions import SignalError
from medfusion_sdk.readers.cells import plain_cell
from medfusion_sdk.readers.series import read_series
from medfusion_sdk.readers.signal import read_signal

QUICK = {"max_epochs": 1, "calibrate": False, "random_state": 0}


def as_parquet(table, folder):
    """Arrays as nested lists, written and read again."""
    lists = table.map(lambda cell: cell.tolist() if isinstance(cell, np.ndarray) else cell)
    lists.to_parquet(folder / "table.parquet")
    return pd.read_parquet(folder / "table.parquet")


def test_nested_lists_of_a_parquet_file_are_arrays(tmp_path):
    series = pd.DataFrame({"ecg": list(np.random.default_rng(0).normal(size=(6, 2, 40)))})
    series.loc[2, "ecg"] = None
    found = as_parquet(series, tmp_path)
    assert found["ecg"].iloc[0].dtype == object  # as pandas reads them
    for cell, own in zip(read_series(found["ecg"]).cells, series["ecg"], strict=True):
        assert cell is own is None or np.array_equal(cell, own)
    windows = make_windows(found.drop(index=2), window=20, stride=20)[0]
    expected = make_windows(series.drop(index=2), window=20, stride=20)[0]
    np.testing.assert_array_equal(np.stack(windows["ecg"]), np.stack(expected["ecg"]))


def test_none_within_nested_lists_is_nan(tmp_path):
    pd.DataFrame({"v": [[[1.0, None, 3.0], [4.0, 5.0, 6.0]]]}).to_parquet(tmp_path / "v.parquet")
    (cell,) = read_series(pd.read_parquet(tmp_path / "v.parquet")["v"]).cells
    np.testing.assert_array_equal(cell, [[1.0, np.nan, 3.0], [4.0, 5.0, 6.0]])


def test_nested_lists_of_several_lengths_are_refused(tmp_path):
    pd.DataFrame({"v": [[[1.0, 2.0], [4.0]]]}).to_parquet(tmp_path / "v.parquet")
    column = pd.read_parquet(tmp_path / "v.parquet")["v"]
    with pytest.raises(SignalError, match="row 0"):
        read_series(column)
    with pytest.raises(SignalError):
        read_signal(column.iloc[0])


def test_texts_in_an_array_stay_as_they_are():
    words = np.array(["a", "b"], dtype=object)
    assert plain_cell(words) is words


@pytest.mark.parametrize(
    ("model", "cells"),
    [
        (AMFNClassifier(ensemble_size=1, **QUICK), {"v": (2, 12)}),
        (SmallMultimodalClassifier(**QUICK), {"v": (2, 12)}),
        (DualAdapterClassifier("standin-text", dtype="float32", **QUICK), {"v": (2, 200)}),
        (
            BrainAdapterClassifier("standin-vit3d", dtype="float32", **QUICK),
            {"v": (10, 12, 14)},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_estimators_read_nested_lists_as_the_arrays_they_were(model, cells, tmp_path):
    rng, y = np.random.default_rng(0), np.arange(24) % 2
    X = pd.DataFrame({name: list(rng.random((24, *shape))) for name, shape in cells.items()})
    if not isinstance(model, AMFNClassifier):
        X["note"] = ["st elevation", "sinus rhythm at rest"] * 12
    nested = as_parquet(X, tmp_path)
    expected = model.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(model.fit(nested, y).predict_proba(nested), expected)
