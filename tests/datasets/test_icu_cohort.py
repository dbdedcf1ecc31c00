"""Generated intensive care stays: signal in every group, gaps that tell, the same by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medfusion_sdk import SeriesPreprocessor
from medfusion_sdk.datasets import make_icu_cohort
from medfusion_sdk.exceptions import ParameterError


@pytest.fixture(scope="module")
def cohort():
    return make_icu_cohort(1000, random_state=0)


def distance_from_chance(target, score):
    return abs(roc_auc_score(target, score) - 0.5)


def test_each_group_tells_something_of_the_outcome(cohort):
    telling = {"vitals": 0, "respiration": 0, "neuro": 0, "labs": 0, "cardiac": 0}
    for group, channel in telling.items():
        there = cohort.data[group].dropna()
        means = [
            np.nanmean(cell[channel]) if (~np.isnan(cell[channel])).any() else 0 for cell in there
        ]
        assert distance_from_chance(cohort.target[there.index], means) > 0.1, group


def test_number_of_observations_and_absence_tell_something(cohort):
    counts = [np.isfinite(cell).sum() for cell in cohort.data["vitals"]]
    assert roc_auc_score(cohort.target, counts) > 0.6
    assert roc_auc_score(cohort.target, cohort.data["cardiac"].notna()) > 0.55


def test_without_signal_nothing_tells():
    cohort = make_icu_cohort(1000, signal=0, random_state=0)
    means = [np.nanmean(cell[0]) for cell in cohort.data["vitals"]]
    assert distance_from_chance(cohort.target, means) < 0.06
    assert distance_from_chance(cohort.target, cohort.data["cardiac"].notna()) < 0.06


def test_prevalence_is_met_and_stays_without_a_group_exist(cohort):
    assert cohort.target.sum() == 300
    missing = cohort.data.isna().mean()
    assert missing["vitals"] == missing["neuro"] == 0 < missing["labs"] < missing["cardiac"]
    assert (cohort.outcomes["length_of_stay"] > 0).all()


def test_same_seed_gives_same_stays_and_leaves_global_randomness_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, other = make_icu_cohort(20, random_state=3), make_icu_cohort(20, random_state=3)
    pd.testing.assert_frame_equal(one.events, other.events)
    assert not one.events.equals(make_icu_cohort(20, random_state=4).events)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_every_event_is_used_and_the_preprocessor_takes_the_table(cohort):
    assert cohort.report.counts["used"] == cohort.report.counts["events"] == len(cohort.events)
    done = SeriesPreprocessor().fit_transform(cohort.data)
    stacked = np.stack(done["vitals"].to_list())
    assert stacked.shape == (1000, 3, 48)
    assert np.isfinite(stacked).all()


def test_cohorts_that_cannot_be_are_refused():
    for options in ({"n_stays": 0}, {"prevalence": 1.5}):
        with pytest.raises(ParameterError):
            make_icu_cohort(**options)
