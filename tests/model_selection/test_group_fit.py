"""Groups reach a model's fit, alone, in a pipeline, a search, a comparison."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import TGMMClassifier
from medfusion_sdk.model_selection import compare, few_shot_table
from medfusion_sdk.model_selection._group_fit import fit_with_groups

FITS = []


class Spy(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Notes whose rows each fit is given, told by column 0, and the groups that came with them."""

    def __init__(self, size=1):
        self.size = size

    def fit(self, X, y=None, sample_weight=None, groups=None):
        self.classes_ = np.array([0, 1])
        self.n_features_in_ = X.shape[1]
        FITS.append((np.asarray(X)[:, -1].round(), groups))
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)

    def transform(self, X):
        return np.asarray(X)


@pytest.fixture
def data():
    FITS.clear()
    patient = np.repeat(np.arange(20), 3)
    X = np.column_stack([np.random.default_rng(0).normal(size=60), patient.astype(float)])
    return X, patient % 2, patient


def fits_had_their_groups(scaled=False):
    assert FITS
    for own, groups in FITS:
        assert groups is not None
        if not scaled:
            np.testing.assert_array_equal(own, groups)
        assert len(own) == len(groups)
    return True


WRAPPED = {
    "alone": Spy(),
    "pipeline": make_pipeline("passthrough", Spy()),
    "search": GridSearchCV(Spy(), {"size": [1, 2]}, cv=GroupKFold(2), scoring="accuracy"),
    "search over a pipeline": GridSearchCV(
        make_pipeline("passthrough", Spy()), {"spy__size": [1, 2]}, cv=2, scoring="accuracy"
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_groups_reach_the_fit_inside(data, name):
    fit_with_groups(clone(WRAPPED[name]), *data)
    assert fits_had_their_groups()


@pytest.mark.parametrize("name", WRAPPED)
def test_compare_hands_each_fold_its_groups(data, name):
    X, y, patient = data
    compare({"it": WRAPPED[name], "prior": DummyClassifier()}, X, y, groups=patient, n_resamples=9)
    assert fits_had_their_groups()
    assert len(FITS) >= 5


def test_few_shot_table_hands_each_fold_its_groups(data):
    X, y, patient = data
    few_shot_table({"it": Spy()}, X, y, groups=patient, shots=(3,), n_draws=1, n_resamples=9, cv=3)
    assert fits_had_their_groups()


def test_models_without_groups_are_fitted_as_ever(data):
    X, y, patient = data
    plain = make_pipeline(StandardScaler(), LogisticRegression())
    fitted = fit_with_groups(clone(plain), X, y, patient)
    np.testing.assert_array_equal(fitted.predict_proba(X), plain.fit(X, y).predict_proba(X))


def test_users_request_of_no_groups_is_kept(data):
    X, y, patient = data
    with config_context(enable_metadata_routing=True):
        model = Spy().set_fit_request(groups=False)
    fit_with_groups(model, X, y, patient)
    assert FITS[0][1] is None


# -- scikit-learn's own ways


def test_search_and_cross_validation_pass_groups_by_metadata_routing(monkeypatch):
    given = []
    fit = TGMMClassifier.fit

    def spy(self, X, y, sample_weight=None, groups=None):
        given.append((len(X), groups))
        return fit(self, X, y, sample_weight=sample_weight, groups=groups)

    patient = np.repeat(np.arange(20), 3)
    X = np.random.default_rng(0).normal(size=(60, 4))
    y = patient % 2
    with config_context(enable_metadata_routing=True):
        model = TGMMClassifier(max_epochs=1, d_model=8).set_fit_request(groups=True)
        monkeypatch.setattr(TGMMClassifier, "fit", spy)
        search = GridSearchCV(model, {"alpha": [0.1, 1.0]}, cv=GroupKFold(2))
        search.fit(X, y, groups=patient)
        cross_validate(model, X, y, cv=GroupKFold(2), params={"groups": patient})
    assert [n for n, _ in given] == [30, 30, 30, 30, 60, 30, 30]
    for n, groups in given:
        assert len(groups) == n
        assert len(np.unique(groups)) == n // 3


def test_pipeline_in_a_search_passes_groups_without_routing(data):
    X, y, patient = data
    search = GridSearchCV(
        make_pipeline("passthrough", Spy()),
        {"spy__size": [1, 2]},
        cv=GroupKFold(2),
        scoring="accuracy",
    )
    search.fit(X, y, groups=patient, spy__groups=patient)
    assert fits_had_their_groups()
