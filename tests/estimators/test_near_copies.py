"""Rows that look like repeated visits: a warning that names them, and none on ordinary tables."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from medfusion_sdk import AMFNRegressor, SmallMultimodalClassifier, TGMMClassifier, make_windows
from medfusion_sdk.datasets import (
    load_heart_failure,
    load_mi_complications,
    load_ptbxl,
    make_icu_cohort,
    make_multimodal_cohort,
    make_volume_cohort,
)
from medfusion_sdk.estimators._content import content_codes
from medfusion_sdk.estimators._groups import row_groups
from medfusion_sdk.estimators._near_copies import near_copies, warn_of_repeats
from medfusion_sdk.exceptions import GroupsWarning


def visits(x, times=3, noise=0.1, seed=0):
    """Rows several times, with noise in shares of each column's spread."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(len(x)), times)
    return x[patient] + noise * np.nanstd(x, axis=0) * rng.normal(size=(len(patient), x.shape[1]))


def normal(n=150, width=20, seed=1):
    return np.random.default_rng(seed).normal(size=(n, width))


def warned(X):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(X))
        warn_of_repeats(X, rows, content_codes(X))
    return [str(one.message) for one in caught if one.category is GroupsWarning]


@pytest.mark.parametrize("width", [5, 10, 40, 300])
@pytest.mark.parametrize("times", [2, 3, 10])
def test_noisy_visits_are_seen(width, times):
    assert len(near_copies(visits(normal(120, width), times), np.arange(120 * times)))


def test_visits_of_a_third_of_the_patients_are_seen():
    x = normal(300)
    table = np.vstack([x, visits(x[:100], 1)])
    pairs = near_copies(table, np.arange(400))
    assert len(pairs)
    assert (np.abs(pairs[:, 0] - pairs[:, 1]) == 300).mean() > 0.95


def test_visits_with_missing_values_and_flags_are_seen():
    X, _ = load_mi_complications(return_X_y=True)
    assert warned(visits(X.to_numpy(float)[:300]))


def test_visits_with_noisy_signals_series_and_volumes_are_seen():
    rng = np.random.default_rng(0)

    def noisy(cell):
        return cell + 0.1 * np.nanstd(cell) * rng.normal(size=cell.shape)

    signals = load_ptbxl(return_X_y=True)[0][["ecg", "report"]].head(60)
    stays = make_icu_cohort(80, random_state=0).data
    volumes = make_volume_cohort(60, random_state=0).data[["mri"]]
    for table in (signals, stays, volumes):
        again = table.iloc[np.repeat(np.arange(len(table)), 3)].reset_index(drop=True)
        for column in again:
            again[column] = [
                noisy(cell) if isinstance(cell, np.ndarray) else cell for cell in again[column]
            ]
        assert warned(again)


ORDINARY = {
    "mi": lambda: load_mi_complications(return_X_y=True)[0],
    "heart failure": lambda: load_heart_failure(return_X_y=True)[0],
    "signals and reports": lambda: load_ptbxl(return_X_y=True)[0],
    "stays": lambda: make_icu_cohort(200, random_state=0).data,
    "blocks": lambda: make_multimodal_cohort(300, random_state=0).data,
    "volumes": lambda: make_volume_cohort(60, random_state=0).data,
    "iris": lambda: datasets.load_iris().data,
    "wine": lambda: datasets.load_wine().data,
    "breast cancer": lambda: datasets.load_breast_cancer().data,
    "diabetes": lambda: datasets.load_diabetes().data,
    "digits": lambda: datasets.load_digits().data,
    "blobs": lambda: datasets.make_blobs(300, 10, centers=4, random_state=0)[0],
    "roll": lambda: datasets.make_swiss_roll(600, random_state=0)[0],
    "one factor": lambda: np.outer(normal(600, 1), normal(20, 1)),
    "heavy tails": lambda: np.exp(normal(600, 12)),
    "integers": lambda: np.random.default_rng(0).poisson(20, size=(600, 10)).astype(float),
    "one-hot": lambda: np.eye(8)[np.random.default_rng(0).integers(8, size=600)],
    "flags and ages": lambda: np.column_stack(
        [normal(600, 10) > 1, (50 + 10 * normal(600, 2, 2)).round(), normal(600, 4, 3)]
    ),
    "rounded": lambda: normal(600).round(1),
    "absent blocks": lambda: np.where(
        np.arange(600)[:, None] % 2 * np.ones(20), normal(600), np.nan
    ),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_tables_are_passed_in_silence(name):
    assert not warned(ORDINARY[name]())


def test_label_of_the_index_with_rows_that_differ_is_named():
    table = pd.DataFrame(normal(60, 3), index=np.repeat([f"p{i}" for i in range(30)], 2))
    (message,) = warned(table)
    assert "'p0', 'p1'" in message
    assert "groups=" in message
    assert not warned(table.iloc[::2].loc[np.repeat(table.index[::2], 3)])  # copies alone
    stays = pd.MultiIndex.from_product([range(30), list("ab")], names=["subject", "stay"])
    assert "first level" in warned(table.set_axis(stays))[0]
    sites = pd.MultiIndex.from_product([range(3), range(20)], names=["site", "patient"])
    assert not warned(table.set_axis(sites))


def test_windows_with_their_index_are_passed_in_silence():
    windows, _ = make_windows(make_icu_cohort(60, random_state=0).data, window=12, stride=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = row_groups(windows, None, windows.index, np.ones(len(windows), dtype=bool))
        warn_of_repeats(windows, windows.index, groups)


# -- in a fit


def test_fit_that_leaves_rows_out_asks_for_groups():
    X = pd.DataFrame(visits(normal(60)), columns=[f"a__{i}" for i in range(20)])
    X.index = [f"visit {i}" for i in range(180)]
    y = np.repeat(np.arange(60) % 2, 3)
    model = TGMMClassifier(max_epochs=1, d_model=8)
    with pytest.warns(GroupsWarning, match=r"'visit \d+'.*pass groups= to fit"):
        model.fit(X, y)
    model.fit(X, y, groups=np.repeat(np.arange(60), 3))
    with pytest.warns(GroupsWarning):
        AMFNRegressor(max_epochs=1, ensemble_size=1, expert=True).fit(X, X["a__0"])
    AMFNRegressor(max_epochs=1, ensemble_size=1, expert=False).fit(X, X["a__0"])


def test_early_stopping_asks_for_groups_too():
    X = pd.DataFrame(visits(normal(60))).add_prefix("a__")
    y = np.repeat(np.arange(60) % 2, 3)
    with pytest.warns(GroupsWarning):
        SmallMultimodalClassifier(max_epochs=1, early_stopping=True).fit(X, y)
