"""The bundled heart failure table."""

from __future__ import annotations

import numpy as np

from medfusion_sdk.datasets import load_heart_failure


def test_heart_failure_outcome_holds_the_published_counts():
    # Ahmad 2017: 299 patients, 96 deaths, follow-up of 4 to 285 days.
    target = load_heart_failure().target
    assert len(target) == 299
    assert target["event"].dtype == bool
    assert target["event"].sum() == 96
    assert (target["time"].min(), target["time"].max()) == (4.0, 285.0)


def test_heart_failure_features_hold_neither_time_nor_event():
    bunch = load_heart_failure()
    assert bunch.data.shape == (299, 11)
    assert not {"time", "event"} & set(bunch.data.columns)
    assert not bunch.data.isna().any(axis=None)
    assert bunch.data.columns.to_list() == bunch.feature_names
    assert bunch.target.columns.to_list() == bunch.target_names


def test_heart_failure_as_arrays_equals_the_frames():
    frames, arrays = load_heart_failure(), load_heart_failure(as_frame=False)
    assert arrays.frame is None
    np.testing.assert_array_equal(arrays.data, frames.data.to_numpy(dtype=float))
    np.testing.assert_array_equal(arrays.target["event"], frames.target["event"])
    np.testing.assert_array_equal(arrays.target["time"], frames.target["time"])


def test_heart_failure_return_x_y_equals_the_bunch():
    bunch = load_heart_failure()
    X, y = load_heart_failure(return_X_y=True)
    assert X.equals(bunch.data)
    assert y.equals(bunch.target)
    assert bunch.frame.equals(X.join(y))


def test_heart_failure_description_names_licence_and_source():
    description = load_heart_failure().DESCR
    assert "Creative Commons Attribution 4.0" in description
    assert "10.24432/C5Z89R" in description
