"""TGMMSurvival: scikit-learn's checks, outcomes, curves and losses."""

from __future__ import annotations

import pickle
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils import check_array
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from medfusion_sdk import TGMMSurvival
from medfusion_sdk.exceptions import DataError, ModalityError, ParameterError
from medfusion_sdk.metrics import SurvivalScorer, concordance_index
from medfusion_sdk.model_selection import EventStratifiedKFold
from medfusion_sdk.persistence import load_estimator, save_estimator
from medfusion_sdk.survival import BaselineHazard, SurvivalTimes, survival_target
from medfusion_sdk.testing import multimodal_checks
from tests.estimators.survivors import cohort, quick


@pytest.fixture(scope="module")
def data():
    return cohort()


@pytest.fixture(scope="module")
def fitted(data):
    return quick(expert=True).fit(*data)


# -- scikit-learn's own checks, none excused


class AllObserved(TGMMSurvival):
    """Takes the checks' plain y as times of observed events."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(X, _outcome(y), sample_weight)

    def score(self, X, y):
        return super().score(X, _outcome(y))


def _outcome(y):
    if y is None:
        return None
    time = np.unique(check_array(y, ensure_2d=False), return_inverse=True)[1].ravel()
    return survival_target(np.ones(len(time)), time)


# The checks that hand over no y, or no usable one; each of the others makes a plain one.
WITHOUT_Y = frozenset(
    {
        "check_complex_data",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_sparse_array",
        "check_estimator_sparse_matrix",
        "check_estimator_sparse_tag",
        "check_estimator_tags_renamed",
        "check_estimators_empty_data_messages",
        "check_estimators_unfitted",
        "check_fit1d",
        "check_get_params_invariance",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_requires_y_none",
        "check_set_params",
        "check_transformer_n_iter",
        "check_transformers_unfitted",
        "check_valid_tag_types",
    }
)


# Nothing that an estimator of survival could have.
ASK_FOR_CLASSES = {
    "check_balanced_class_weight_is_sample_weight",
    "check_multilabel_probabilities",
    "check_probabilities_are_distributions",
    "check_small_model_is_frozen",
    "check_string_labels_and_column_order",
}


def name_of(check):
    return getattr(getattr(check, "func", check), "__name__", "")


def checks_without_y():
    made = estimator_checks_generator(TGMMSurvival(max_epochs=5))
    return [(estimator, check) for estimator, check in made if name_of(check) in WITHOUT_Y]


@pytest.mark.filterwarnings("ignore:30 columns without names")
@parametrize_with_checks([AllObserved(max_epochs=5)])
def test_every_check_passes_on_plain_times(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "check"), checks_without_y(), ids=lambda x: name_of(x))
def test_every_check_that_sets_no_y_passes_as_it_is(estimator, check):
    check(estimator)


def test_checks_without_y_are_those_named():
    assert {name_of(check) for _, check in checks_without_y()} == WITHOUT_Y


@pytest.mark.parametrize("name", multimodal_checks())
def test_multimodal_check_passes(name):
    try:
        multimodal_checks()[name](TGMMSurvival(max_epochs=5))
    except SkipTest:
        assert name in ASK_FOR_CLASSES


def test_two_dimensional_input_stays_switched_on():
    assert TGMMSurvival().__sklearn_tags__().input_tags.two_d_array


# -- outcomes


def test_every_form_of_outcome_gives_the_same_fit(data):
    X, y = data
    frame = pd.DataFrame({"days": y["time"], "died": y["event"].astype(int)})
    expected = quick().fit(X, y).predict(X)
    for form in (frame, frame.to_numpy(), pd.DataFrame(y)):
        np.testing.assert_array_equal(quick().fit(X, form).predict(X), expected)


def test_only_the_order_of_times_decides_the_risks(data):
    X, y = data
    squared = survival_target(y["event"], np.expm1(y["time"]))
    np.testing.assert_array_equal(quick().fit(X, y).predict(X), quick().fit(X, squared).predict(X))


@pytest.mark.parametrize("y", [None, np.ones(140), pd.DataFrame({"censored": [1] * 140, "t": 1.0})])
def test_what_is_no_outcome_raises(data, y):
    with pytest.raises(DataError):
        quick().fit(data[0], y)


def test_outcome_of_another_length_raises(data):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick().fit(data[0], data[1][:-1])


@pytest.mark.parametrize("loss", ["cox", "margin", "both"])
@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_cohorts_without_events_or_of_one_time_are_safe(loss, ties):
    X, y = cohort(30)
    for outcome in (
        survival_target(np.zeros(30), y["time"]),
        survival_target(np.ones(30), np.ones(30)),
    ):
        model = quick(prognosis_loss=loss, ties=ties).fit(X, outcome)
        assert np.isfinite(model.predict(X)).all()
        survival = model.predict_survival_function(X, return_array=True)
        assert ((survival >= 0) & (survival <= 1)).all()


# -- curves


def test_curves_are_step_functions_and_arrays_of_their_values(data, fitted):
    X, y = data
    functions = fitted.predict_survival_function(X)
    values = fitted.predict_survival_function(X, return_array=True)
    np.testing.assert_array_equal(fitted.unique_times_, np.unique(y["time"]))
    assert functions.shape == (len(X),)
    for function, row in zip(functions[:5], values, strict=False):
        np.testing.assert_array_equal(function.x, fitted.unique_times_)
        np.testing.assert_array_equal(function.y, row)
        np.testing.assert_array_equal(function(function.x), row)
        assert function(0.0) == 1.0
    hazards = fitted.predict_cumulative_hazard_function(X, return_array=True)
    np.testing.assert_allclose(values, np.exp(-hazards))
    assert fitted.predict_cumulative_hazard_function(X)[0](0.0) == 0.0


def test_curves_follow_breslows_estimate_from_the_risks(data):
    X, y = data
    model = quick(expert=False).fit(X, y)
    baseline = BaselineHazard.fit(model.predict(X), SurvivalTimes.of(y))
    np.testing.assert_allclose(
        model.predict_survival_function(X, return_array=True),
        baseline.survival(model.predict(X)),
        rtol=1e-5,
    )


def test_mean_curve_of_the_training_rows_is_near_kaplan_meier(data, fitted):
    from medfusion_sdk.survival import kaplan_meier

    X, y = data
    mean = fitted.predict_survival_function(X, return_array=True).mean(axis=0)
    early = np.quantile(y["time"], [0.25, 0.5, 0.75])
    at = np.searchsorted(fitted.unique_times_, early)
    np.testing.assert_allclose(mean[at], kaplan_meier(y)(early), atol=0.08)


def test_score_is_the_concordance_index(data, fitted):
    X, y = data
    assert fitted.score(X, y) == concordance_index(y, fitted.predict(X))


# -- what is learnt


@pytest.mark.parametrize(
    "parameters",
    [
        {"prognosis_loss": "cox"},
        {"prognosis_loss": "margin"},
        {"prognosis_loss": "both", "ties": "efron"},
        {"batch_size": 32},
    ],
    ids=str,
)
def test_network_alone_orders_unseen_patients(parameters):
    X, y = cohort(300)
    best = concordance_index(y[200:], (X["ecg__0"] + X["labs__0"])[200:])
    model = TGMMSurvival(expert=False, random_state=0, **parameters).fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > best - 0.06


def test_outlying_values_do_not_carry_the_fit(data):
    X, y = data
    wild = X.copy()
    wild.iloc[3, 0] = 1e6

    def likeness(**parameters):
        risks = [quick(**parameters).fit(table, y).predict(X)[10:] for table in (X, wild)]
        return np.corrcoef(risks)[0, 1]

    assert likeness(clip=3.0) > 0.95 > likeness(clip=None)


# -- scikit-learn's tools


def test_grid_search_and_cross_validation_need_no_scorer(data):
    X, y = data
    folds = EventStratifiedKFold(3)
    search = GridSearchCV(quick(), {"prognosis_loss": ["cox", "margin"]}, cv=folds).fit(X, y)
    assert 0.5 < search.best_score_ < 1.0
    scores = cross_val_score(quick(), X, y, cv=folds, scoring=SurvivalScorer("neg_brier"))
    assert (scores > -0.25).all()


@pytest.mark.parametrize("parameters", [{}, {"expert": True, "early_stopping": True}], ids=str)
def test_saved_and_pickled_models_predict_the_same_bits(parameters, data, tmp_path):
    X, y = data
    model = quick(**parameters).fit(X, y)
    save_estimator(model, tmp_path / "model")
    stored = skops.io.dumps(model)
    trusted = skops.io.get_untrusted_types(data=stored)
    assert all(name.startswith("medfusion_sdk.") for name in trusted)
    for loaded in (
        load_estimator(tmp_path / "model"),
        pickle.loads(pickle.dumps(model)),
        skops.io.loads(stored, trusted=trusted),
    ):
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
        np.testing.assert_array_equal(
            loaded.predict_survival_function(X, return_array=True),
            model.predict_survival_function(X, return_array=True),
        )


def test_clone_of_fitted_fits_to_the_same_bits(data, fitted):
    X, y = data
    np.testing.assert_array_equal(clone(fitted).fit(X, y).predict(X), fitted.predict(X))


def test_held_out_rows_have_their_share_of_events():
    X, y = cohort(200)
    model = quick(early_stopping=True, validation_fraction=0.25)
    model.fit(X, y)
    assert "valid_loss" in model.history_


# -- explanations


def test_explain_tells_gates_and_what_each_modality_adds(data, fitted):
    X, _ = data
    table = fitted.explain(X)
    parts = ["log_risk_expert", "log_risk_network"]
    told = {"gate", "attention", "prompt", "log_risk", "drop_one", *parts}
    assert set(table["quantity"]) == told
    risk = {name: table[table["quantity"] == name].set_index("row")["value"] for name in told}
    np.testing.assert_allclose(risk["log_risk"][X.index], fitted.predict(X))
    made_of = np.column_stack([np.ones(len(X)), *(risk[name] for name in parts)])
    weights, *_ = np.linalg.lstsq(made_of, risk["log_risk"], rcond=None)
    np.testing.assert_allclose(made_of @ weights, risk["log_risk"], atol=1e-6)
    assert (weights[1:] > 0).all()
    gates = table[table["quantity"] == "gate"].groupby("row")["value"].sum()
    np.testing.assert_allclose(gates, 1.0)
    without = X.copy()
    without.loc[X.index[:20], [name for name in X if name.startswith("labs")]] = np.nan
    change = table[(table["quantity"] == "drop_one") & (table["modality"] == "labs")]
    expected = (fitted.predict(X) - fitted.predict(without))[:20]
    np.testing.assert_allclose(change["value"][:20], expected, atol=1e-6)


# -- refusals


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"prognosis_loss": "hinge"}, "prognosis_loss"),
        ({"ties": "exact"}, "ties"),
        ({"margin": 0}, "margin"),
        ({"clip": -1.0}, "clip"),
        ({"clip": "never"}, "clip"),
        ({"expert": "maybe"}, "expert"),
        ({"n_heads": 3}, "n_heads"),
    ],
)
def test_parameters_out_of_range_are_named(parameters, message, data):
    with pytest.raises(ParameterError, match=message):
        quick(**parameters).fit(*data)


def test_row_without_modality_is_named(data):
    X, y = data
    empty = X.copy()
    empty.iloc[7] = np.nan
    with pytest.raises(ModalityError, match="p7"):
        quick().fit(empty, y)
