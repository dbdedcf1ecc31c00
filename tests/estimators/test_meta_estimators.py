"""scikit-learn's meta-estimators around fusion models: which keep the modalities, which say so."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from medfusion_sdk import TGMMClassifier, make_modality_transformer
from medfusion_sdk.datasets import make_multimodal_cohort
from medfusion_sdk.exceptions import ModalityError, ModalityWarning

MADE = make_multimodal_cohort(60, n_features=4, random_state=0)
X, Y = MADE.data, np.asarray(MADE.target)
MODALITIES = ["ecg", "labs", "note"]
FUSE = TGMMClassifier(max_epochs=1, random_state=0)
NAMED = [name.partition("__")[0] for name in X]
SLICES = {
    name: slice(NAMED.index(name), len(NAMED) - NAMED[::-1].index(name)) for name in MODALITIES
}


def member(fitted):
    """The first fitted fusion model inside."""
    while not hasattr(fitted, "modalities_"):
        for name in ("estimators_", "calibrated_classifiers_", "best_estimator_", "estimator_"):
            if hasattr(fitted, name):
                found = getattr(fitted, name)
                fitted = found[0] if isinstance(found, list) else found
                break
        else:
            fitted = fitted.estimator
    return fitted


KEEP = {
    "voting": VotingClassifier([("a", FUSE)], voting="soft"),
    "stacking": StackingClassifier([("a", FUSE)], LogisticRegression(), cv=2),
    "calibrated": CalibratedClassifierCV(FUSE, cv=2),
    "one against the rest": OneVsRestClassifier(FUSE),
    "several outputs": MultiOutputClassifier(FUSE),
    "grid": GridSearchCV(FUSE, {"dropout": [0.1]}, cv=2),
    "threshold": FixedThresholdClassifier(FUSE),
}
LOSE = {
    "bagging": BaggingClassifier(FUSE, n_estimators=1, random_state=0),
    "boosting": AdaBoostClassifier(FUSE, n_estimators=1, random_state=0),
    "self-training": SelfTrainingClassifier(FUSE, max_iter=1),
    "chain": ClassifierChain(FUSE),
}


def targets(name):
    if name in ("several outputs", "chain"):
        return np.column_stack([Y, 1 - Y])
    return np.where(np.arange(60) % 4, Y, -1) if name == "self-training" else Y


@pytest.mark.parametrize("name", KEEP)
def test_meta_estimator_that_hands_on_the_table_keeps_the_modalities(name):
    fitted = KEEP[name].fit(X, targets(name))
    assert sorted(member(fitted).modalities_) == MODALITIES
    assert len(fitted.predict(X)) == 60


@pytest.mark.parametrize("name", LOSE)
def test_meta_estimator_that_hands_on_an_array_is_warned_of(name):
    with pytest.warns(ModalityWarning, match=r"without names are taken as one modality"):
        LOSE[name].fit(X, targets(name))


@pytest.mark.parametrize("name", ["bagging", "boosting", "self-training"])
def test_modalities_given_by_position_survive_every_meta_estimator(name):
    meta = LOSE[name].set_params(estimator=FUSE.__class__(SLICES, max_epochs=1, random_state=0))
    fitted = meta.fit(X, targets(name))
    assert sorted(member(fitted).modalities_) == MODALITIES
    assert len(fitted.predict(X)) == 60


def test_few_columns_that_are_missing_together_are_warned_of_in_an_array():
    values = np.random.default_rng(0).normal(size=(40, 3))
    values[:5, :2] = np.nan
    with pytest.warns(ModalityWarning, match="2 of 3 columns without names"):
        TGMMClassifier(max_epochs=1).fit(values, np.arange(40) % 2)
    values[:5, 1] = 0  # one column with gaps is a value that is missing
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModalityWarning)
        TGMMClassifier(max_epochs=1).fit(values, np.arange(40) % 2)


def test_importance_and_selection_of_columns_see_the_modalities():
    model = FUSE.fit(X, Y)
    assert permutation_importance(model, X, Y, n_repeats=1).importances_mean.shape == (12,)
    chosen = SequentialFeatureSelector(FUSE, n_features_to_select=1, cv=2).fit(X.iloc[:, ::4], Y)
    assert chosen.get_support().sum() == 1


def test_array_is_refused_where_training_had_names_of_several_modalities():
    model = FUSE.fit(X, Y)
    with pytest.raises(ModalityError, match=r"\['ecg', 'labs', 'note'\] apart.*ndarray"):
        model.predict(X.to_numpy())
    alone = TGMMClassifier(max_epochs=1).fit(X.filter(like="ecg__"), Y)
    with pytest.warns(UserWarning, match="valid feature names"):  # scikit-learn's own
        alone.predict(X.filter(like="ecg__").to_numpy())


def cohort():
    table = pd.DataFrame({"note": np.where(Y == 1, "st elevation", "sinus rhythm")})
    table["age"], table["bmi"] = np.arange(60.0), np.arange(60.0)[::-1]
    table.loc[3, "note"] = None
    return table


def encoder():
    return make_modality_transformer(
        note=(TfidfVectorizer(), "note"), labs=(StandardScaler(), ["age", "bmi"])
    )


def test_pipeline_on_a_cohort_table_in_bagging_equals_its_member_by_hand():
    bag = BaggingClassifier(
        make_pipeline(encoder(), FUSE), n_estimators=1, bootstrap=False, random_state=0
    )
    with pytest.warns(ModalityWarning, match=r"\['note', 'age', 'bmi'\]"):
        bag.fit(cohort(), Y)
    pipe = bag.estimators_[0]
    assert sorted(pipe[-1].modalities_) == ["labs", "note"]
    by_hand = make_pipeline(encoder(), FUSE).set_params(
        tgmmclassifier__random_state=pipe[-1].random_state
    )
    expected = by_hand.fit(cohort(), Y).predict_proba(cohort())
    np.testing.assert_array_equal(bag.predict_proba(cohort()), expected)


def test_encoder_of_names_refuses_arrays_that_it_cannot_read():
    table = cohort()
    with pytest.raises(ModalityError, match="lost its names and has shape"):
        encoder().fit(table.assign(ward="a").to_numpy())
    fitted = encoder().fit(table)
    with pytest.raises(ModalityError, match="which column is which"):
        fitted.transform(table.to_numpy())
