"""TGMMMultiTask: what y may be, what is learnt from which rows, what each task answers."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import GridSearchCV

from medfusion_sdk import TGMMMultiTask, TGMMSurvival
from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.metrics import concordance_index
from medfusion_sdk.persistence import load_estimator, save_estimator
from medfusion_sdk.survival import survival_target
from tests.estimators.cohorts import MODALITIES, cohort, tgmm

QUICK = {"max_epochs": 5, "d_model": 8, "n_heads": 2, "random_state": 0}


def multitask(**parameters):
    return TGMMMultiTask(**QUICK | parameters)


def outcomes(X, target, seed=0):
    """A diagnosis, and a time that is shorter for those who have it."""
    rng = np.random.default_rng(seed)
    time = rng.exponential(np.where(target == 1, 0.5, 8.0))
    left = rng.exponential(9.0, size=len(X))
    y = pd.DataFrame({"hf": target.astype(float), "event": time <= left}, index=X.index)
    return y.assign(event=y["event"].astype(float), time=np.minimum(time, left))


@pytest.fixture(scope="module")
def data():
    X, target = cohort(120)
    y = outcomes(X, target)
    y.iloc[:50, 0] = np.nan
    y.iloc[80:, 1:] = np.nan
    return X, y


@pytest.fixture(scope="module")
def fitted(data):
    return multitask(max_epochs=40).fit(*data)


# -- what is learnt


def test_diagnosis_alone_is_the_classifier(data):
    X, target = cohort()
    expected = tgmm().fit(X, target).predict_proba(X)
    for y in (target, pd.Series(target, name="hf"), pd.DataFrame({"hf": target})):
        model = multitask().fit(X, y)
        assert model.tasks_ == ["diagnosis"]
        np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_prognosis_alone_is_the_survival_estimator():
    X, target = cohort()
    y = outcomes(X, target)[["event", "time"]]
    alike = {"alpha": 1.0, "learning_rate": 1e-2, "n_learned_tokens": 4}
    model, alone = multitask(**alike).fit(X, y), TGMMSurvival(**QUICK | alike).fit(X, y)
    assert model.tasks_ == ["prognosis"]
    np.testing.assert_array_equal(model.predict_risk(X), alone.predict(X))
    np.testing.assert_array_equal(
        model.predict_survival_function(X, return_array=True),
        alone.predict_survival_function(X, return_array=True),
    )


def test_tasks_of_the_parameter_leave_the_other_columns_alone(data):
    X, y = data
    model = multitask(tasks=["diagnosis"]).fit(X, y)
    other = multitask(tasks=["diagnosis"]).fit(X, y.assign(time=1.0, event=1.0))
    assert model.tasks_ == ["diagnosis"]
    np.testing.assert_array_equal(model.predict_proba(X), other.predict_proba(X))


def test_both_tasks_are_learnt_from_cohorts_that_overlap_in_part(data, fitted):
    X, _ = data
    truth = cohort(120)[1]
    assert roc_auc_score(truth[:50], fitted.predict_proba(X)[:50, 1]) > 0.75
    unseen = outcomes(X, truth).iloc[80:]
    risk = fitted.predict_risk(X)[80:]
    assert concordance_index(unseen[["event", "time"]], risk) > 0.6
    assert {"train_diagnosis", "train_prognosis"} <= set(fitted.history_)


def test_what_stands_where_a_label_is_unknown_is_of_no_matter(data, fitted):
    X, y = data
    order = np.r_[50:120, 0:50]
    again = multitask(max_epochs=40).fit(X.iloc[order], y.iloc[order])
    np.testing.assert_allclose(again.predict_proba(X), fitted.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(again.predict_risk(X), fitted.predict_risk(X), atol=1e-6)


def test_task_of_weight_zero_learns_nothing(data):
    X, y = data
    model = multitask(task_weights={"prognosis": 0.0}, expert=False, alpha=0.0).fit(X, y)
    assert np.ptp(model.predict_risk(X)) == 0
    assert np.ptp(model.predict_proba(X)) > 0


# -- what y may be


def test_whole_numbers_stay_whole_beside_unknown_ones(fitted):
    assert fitted.classes_.dtype.kind == "i"
    assert fitted.diagnosis_ == "hf"


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_named_classes_beside_unknown_ones(data, missing):
    X, y = data
    named = y["hf"].map({0.0: "well", 1.0: "ill"}).astype(object)
    named[y["hf"].isna()] = missing
    model = multitask().fit(X, y.assign(hf=named))
    assert model.classes_.tolist() == ["ill", "well"]
    assert set(model.predict(X)["hf"]) <= {"ill", "well"}


@pytest.mark.parametrize("kind", ["boolean", "Int64", object])
def test_nullable_events_are_read(data, fitted, kind):
    X, y = data
    event = y["event"].map({0.0: False, 1.0: True}).astype("boolean").astype(kind)
    model = multitask(max_epochs=40).fit(X, y.assign(event=event))
    np.testing.assert_array_equal(model.predict_risk(X), fitted.predict_risk(X))


def test_columns_of_other_names(data, fitted):
    X, y = data
    renamed = y.rename(columns={"event": "died", "time": "days"})
    model = multitask(max_epochs=40, event="died", time="days").fit(X, renamed)
    np.testing.assert_array_equal(model.predict_risk(X), fitted.predict_risk(X))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda y: y.assign(time=y["time"].mask(y.index == y.index[3])), r"row 3 has event"),
        (lambda y: y.drop(columns="time"), "'time'"),
        (lambda y: y.assign(other=1), "one may be a diagnosis"),
        (lambda y: y.assign(hf=np.nan), "every diagnosis in 'hf'"),
        (lambda y: y.assign(event=np.nan, time=np.nan), "every event"),
        (lambda y: y.assign(time=-y["time"]), "negative"),
        (lambda y: y.assign(event=y["event"] * 2), "events"),
        (lambda y: y.to_numpy(), "shape"),
        (lambda y: None, "requires y"),
    ],
)
def test_outcome_that_cannot_be_read_is_refused(data, spoil, complaint):
    X, y = data
    X, y = X.reset_index(drop=True), y.reset_index(drop=True)
    with pytest.raises(DataError, match=complaint):
        multitask().fit(X, spoil(y))


def test_task_without_columns_is_refused(data):
    X, y = data
    with pytest.raises(DataError, match="prognosis"):
        multitask(tasks=["prognosis"]).fit(X, y[["hf"]])
    with pytest.raises(ParameterError, match="tasks"):
        multitask(tasks=["retrieve"]).fit(X, y)


# -- what is answered


def test_prediction_has_a_column_per_task(data, fitted):
    X, _ = data
    answers = fitted.predict(X)
    assert list(answers) == ["hf", "log_risk"]
    assert answers.index.equals(X.index)
    called = fitted.classes_[fitted.predict_proba(X).argmax(axis=1)]
    np.testing.assert_array_equal(answers["hf"], called)
    np.testing.assert_array_equal(answers["log_risk"], fitted.predict_risk(X))


def test_curves_fall_from_one_and_faster_for_higher_risk(data, fitted):
    X, _ = data
    curves = fitted.predict_survival_function(X, return_array=True)
    assert ((curves >= 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) <= 0).all()
    risk = fitted.predict_risk(X)
    assert (curves[risk.argmax()] <= curves[risk.argmin()]).all()
    hazard = fitted.predict_cumulative_hazard_function(X, return_array=True)
    np.testing.assert_allclose(np.exp(-hazard), curves)


def test_question_that_was_not_learnt_is_refused(data):
    X, y = data
    diagnosis, prognosis = multitask().fit(X, y[["hf"]]), multitask().fit(X, y[["event", "time"]])
    for ask in (diagnosis.predict_risk, diagnosis.predict_survival_function):
        with pytest.raises(DataError, match="no prognosis was learnt"):
            ask(X)
    with pytest.raises(DataError, match="no diagnosis was learnt"):
        prognosis.predict_proba(X)
    assert list(prognosis.predict(X)) == ["log_risk"]


def test_score_is_the_mean_of_accuracy_and_concordance(data, fitted):
    X, y = data
    known, followed = y["hf"].notna(), y["time"].notna()
    accuracy = accuracy_score(y["hf"][known], fitted.predict(X)["hf"][known])
    outcome = survival_target(y["event"][followed], y["time"][followed])
    concordance = concordance_index(outcome, fitted.predict_risk(X)[followed])
    assert fitted.score(X, y) == pytest.approx((accuracy + concordance) / 2)
    assert fitted.score(X, y[["hf"]]) == pytest.approx(accuracy)


def test_explanation_has_every_task_and_modality(data, fitted):
    X, _ = data
    table = fitted.explain(X)
    assert set(table["task"]) == {"diagnosis", "prognosis"}
    lines = table.query("quantity == 'drop_one'").groupby("task")["modality"].unique()
    for task in lines.index:
        assert set(lines[task]) == set(MODALITIES)
    risk = table.query("quantity == 'log_risk'")["value"]
    np.testing.assert_array_equal(risk, fitted.predict_risk(X))


def test_representation_is_that_of_all_tasks(data, fitted):
    assert fitted.transform(data[0]).shape == (120, 2 * 8)
    assert len(fitted.get_feature_names_out()) == 16


def test_search_pickle_and_saved_model(data, fitted, tmp_path):
    X, y = data
    search = GridSearchCV(multitask(), {"fusion": ["mffm", "mean"]}, cv=2).fit(X, y)
    assert search.best_params_["fusion"] in ("mffm", "mean")
    save_estimator(fitted, tmp_path / "model")
    for model in (pickle.loads(pickle.dumps(fitted)), load_estimator(tmp_path / "model")):
        np.testing.assert_array_equal(model.predict_proba(X), fitted.predict_proba(X))
        np.testing.assert_array_equal(
            model.predict_survival_function(X, return_array=True),
            fitted.predict_survival_function(X, return_array=True),
        )


def test_early_stopping_holds_rows_of_both_tasks_out(data):
    X, y = data
    model = multitask(early_stopping=True, max_epochs=30).fit(X, y)
    assert {"valid_diagnosis", "valid_prognosis"} <= set(model.history_)
