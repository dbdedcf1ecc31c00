"""Folds with equal shares of events."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sksurv.linear_model import CoxPHSurvivalAnalysis

from medfusion_sdk.datasets import load_heart_failure
from medfusion_sdk.exceptions import DataError, MedFusionWarning, ParameterError
from medfusion_sdk.model_selection import EventStratifiedKFold, check_disjoint_groups
from medfusion_sdk.survival import survival_target


def heart_failure():
    bunch = load_heart_failure(as_frame=False)
    return bunch.data, bunch.target


@pytest.mark.parametrize("n_splits", [2, 5, 7, 10])
@pytest.mark.parametrize("shuffle", [False, True])
def test_folds_hold_events_and_rows_evenly_within_one(n_splits, shuffle):
    X, y = heart_failure()
    splitter = EventStratifiedKFold(n_splits, shuffle=shuffle, random_state=0 if shuffle else None)
    tests = [test for _, test in splitter.split(X, y)]
    assert sorted(np.concatenate(tests)) == list(range(len(y)))
    assert np.ptp([y["event"][test].sum() for test in tests]) <= 1
    assert np.ptp([len(test) for test in tests]) <= 1


def test_patients_stay_together_and_their_events_even():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(150), rng.integers(1, 4, size=150))
    y = survival_target((rng.random(150) < 0.3)[patient], np.arange(len(patient)))
    splitter = EventStratifiedKFold(5, shuffle=True, random_state=0)
    splits = list(splitter.split(patient, y, patient))
    check_disjoint_groups(splits, patient)
    events = [y["event"][test].sum() for _, test in splits]
    assert np.ptp(events) <= 2


def test_seed_decides_the_folds_and_global_state_does_not():
    X, y = heart_failure()

    def folds(seed):
        splitter = EventStratifiedKFold(3, shuffle=True, random_state=seed)
        return [test.tolist() for _, test in splitter.split(X, y)]

    assert folds(1) == folds(1)
    assert folds(1) != folds(2)


def test_every_form_of_outcome_gives_the_same_folds():
    X, y = heart_failure()
    frame = pd.DataFrame({"days": y["time"], "died": y["event"].astype(int)})
    for ours, expected in zip(
        EventStratifiedKFold(3).split(X, frame), EventStratifiedKFold(3).split(X, y), strict=True
    ):
        np.testing.assert_array_equal(ours[1], expected[1])


def test_splitter_serves_scikit_learns_tools():
    X, y = heart_failure()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    folds = EventStratifiedKFold(3, shuffle=True, random_state=0)
    patients = np.arange(len(y)) // 2
    assert len(cross_val_score(CoxPHSurvivalAnalysis(), X, y, cv=folds, groups=patients)) == 3
    search = GridSearchCV(CoxPHSurvivalAnalysis(), {"alpha": [0.1, 1.0]}, cv=folds)
    assert 0.6 < search.fit(X, y).best_score_ < 0.85


def test_fewer_events_than_folds_warn():
    y = survival_target([1, 1, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6])
    with pytest.warns(MedFusionWarning, match=r"event \(2\)"):
        list(EventStratifiedKFold(3).split(y, y))


def test_missing_outcome_or_wrong_number_of_folds_raises():
    _, y = heart_failure()
    with pytest.raises(DataError, match="y is needed"):
        next(EventStratifiedKFold().split(y))
    with pytest.raises(ParameterError, match="n_splits=1"):
        next(EventStratifiedKFold(1).split(y, y))
    with pytest.raises(DataError, match="exceeds the 3 groups"):
        next(EventStratifiedKFold(5).split(y, y, np.arange(len(y)) % 3))
