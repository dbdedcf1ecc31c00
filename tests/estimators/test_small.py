"""The small model as an estimator, and what the classifiers on block tables share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from medfusion_sdk import SmallMultimodalClassifier
from medfusion_sdk.exceptions import ParameterError
from tests.estimators.cohorts import MODALITIES, adacomed, cohort, small, tgmm

FUSIONS = ("joint", "early", "late")
EACH = pytest.mark.parametrize("make", [small, adacomed, tgmm], ids=lambda make: make.__name__)


@pytest.fixture(scope="module")
def table():
    return cohort()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_contributions_and_bias_sum_to_the_scores(table, fusion):
    X, y = table
    model = small(fusion=fusion).fit(X, y)
    told = model.explain(X)
    assert list(told["modality"].unique()) == [*MODALITIES, "bias"]
    sums = told.groupby(["row", "label"])["contribution"].sum().unstack()
    np.testing.assert_allclose(softmax(sums, axis=1), model.predict_proba(X), atol=1e-10)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_prediction_is_the_published_forward_pass(table, fusion):
    # From the arrays of state_ alone: scale, one hidden layer per modality, one linear head.
    X, y = table
    X = X.dropna()
    model = small(fusion=fusion, scaling="none").fit(X, y[X.index])
    state = model.state_
    hidden = [
        np.maximum(
            X.filter(like=f"{name}__").to_numpy() @ state[f"encoders.{m}.weight"].T
            + state[f"encoders.{m}.bias"],
            0,
        )
        for m, name in enumerate(MODALITIES)
    ]
    fused = np.concatenate(hidden, axis=1) / (3 if fusion == "late" else 1)
    if fusion == "early":
        fused = fused @ state["stack.weight"].T + state["stack.bias"]
    scores = fused @ state["head.weight"].T + state["head.bias"]
    np.testing.assert_allclose(model.predict_proba(X), softmax(scores, axis=1), atol=1e-10)


def test_early_fusion_trains_encoders_first_and_head_after(table, monkeypatch):
    X, y = table
    seen = []
    train = SmallMultimodalClassifier._train

    def spy(self, module, *arguments):
        trained = train(self, module, *arguments)
        weights = [layer.weight.detach().clone() for layer in module.encoders]
        seen.append((module.fusion, weights, module.head.weight.detach().clone()))
        return trained

    monkeypatch.setattr(SmallMultimodalClassifier, "_train", spy)
    small(fusion="early").fit(X, y)
    (first, encoders, head), (second, kept, later_head) = seen
    assert (first, second) == ("late", "early")
    assert all((a == b).all() for a, b in zip(encoders, kept, strict=True))
    assert not (head == later_head).all()


@EACH
def test_multilabel_probabilities_are_sigmoids_of_the_scores(make):
    X, y = cohort(task="multilabel", n_classes=3, n_features=6)
    model = make().fit(X, y)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba, expit(model.decision_function(X)), atol=1e-10)
    np.testing.assert_array_equal(model.predict(X), proba > 0.5)


@EACH
def test_label_names_of_a_frame_reach_the_explanation(make):
    X, y = cohort(task="multilabel", n_classes=2)
    names = ["afib", "mi"]
    told = make().fit(X, pd.DataFrame(y, columns=names, index=X.index)).explain(X)
    assert set(names) <= set(told["label"])


@EACH
def test_single_column_of_targets_is_one_target(make, table):
    X, y = table
    with pytest.warns(Warning, match="column-vector"):
        wide = make().fit(X, y[:, None])
    np.testing.assert_array_equal(wide.predict_proba(X), make().fit(X, y).predict_proba(X))


@EACH
def test_several_multiclass_targets_are_refused_with_a_way_out(make, table):
    X, y = table
    with pytest.raises((ParameterError, ValueError), match=r"MultiOutputClassifier|multioutput"):
        make().fit(X, np.column_stack([y, y + 1]))


@EACH
def test_decision_function_of_three_classes_is_the_log_of_probabilities(make):
    X, y = cohort(n_classes=3, n_features=4)
    model = make().fit(X, y)
    scores = softmax(model.decision_function(X), axis=1)
    np.testing.assert_allclose(scores, model.predict_proba(X), atol=1e-10)


@EACH
def test_class_weight_raises_the_probability_of_its_class(make, table):
    X, y = table
    plain, weighted = (
        make(class_weight=weight, max_epochs=40).fit(X, y).predict_proba(X)[:, 1].mean()
        for weight in (None, {0: 1.0, 1: 10.0})
    )
    assert weighted > plain + 0.1


@EACH
def test_history_has_one_row_per_epoch_and_the_loss_falls(make, table):
    model = make(max_epochs=30).fit(*table)
    assert len(model.history_) == model.n_iter_ == 30
    (loss,) = [
        model.history_[name] for name in ("train_task", "train_diagnosis") if name in model.history_
    ]
    assert loss.iloc[-1] < loss.iloc[0]
    assert {"epoch", "train_loss", "lr", "seconds"} <= set(model.history_)


@EACH
def test_doubled_rows_are_weight_two_to_the_last_digits(make, table):
    X, y = table
    weight = np.where(np.arange(len(X)) % 3 == 0, 2.0, 1.0)
    twice = pd.concat([X, X[::3]], ignore_index=True)
    weighted = make(max_epochs=20).fit(X, y, sample_weight=weight).predict_proba(X)
    repeated = make(max_epochs=20).fit(twice, np.concatenate([y, y[::3]])).predict_proba(X)
    np.testing.assert_allclose(weighted, repeated, rtol=0, atol=1e-7)


@EACH
def test_rows_in_another_order_fit_alike(make, table):
    X, y = table
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = make(max_epochs=20).fit(X.iloc[order], y[order]).predict_proba(X)
    np.testing.assert_allclose(
        shuffled, make(max_epochs=20).fit(X, y).predict_proba(X), rtol=0, atol=1e-7
    )


@EACH
def test_batches_of_training_are_rows_of_one_table(make, table):
    X, y = table
    model = make(batch_size=16, max_epochs=20).fit(X, y)
    assert log_loss(y, model.predict_proba(X)) < np.log(2)


@EACH
def test_wide_blocks_are_trained_in_the_span_of_their_rows(make):
    # Directions that no training row has don't move a prediction.
    X, y = cohort(30, n_features=50, missing=0.0)
    as_it_is = {"scaling": "none"} | ({"clip": None} if make is tgmm else {})
    model = make(max_epochs=20, **as_it_is).fit(X, y)
    ecg = X.filter(like="ecg__")
    rng = np.random.default_rng(0)
    aside = rng.normal(size=50)
    basis = np.linalg.qr(ecg.to_numpy().T)[0]
    aside -= basis @ (basis.T @ aside)
    moved = X.copy()
    moved[ecg.columns] += 10.0 * aside
    if make is adacomed:
        assert model.state_["experts.projections.0.weight"].shape[1] == 50
    np.testing.assert_allclose(model.predict_proba(moved), model.predict_proba(X), atol=1e-6)


def test_warm_start_goes_on_from_the_last_fit(table):
    X, y = table
    model = small(warm_start=True, max_epochs=30, modality_dropout=0.0).fit(X, y)
    first = model.history_["train_task"]
    second = model.fit(X, y).history_["train_task"]
    assert second.iloc[0] < (first.iloc[0] + first.iloc[-1]) / 2


@EACH
def test_warm_start_of_another_shape_starts_afresh(make, table):
    X, y = table
    model = make(warm_start=True).fit(X, y)
    narrow = X.drop(columns="labs__0003")
    fresh = make(warm_start=True).fit(narrow, y).predict_proba(narrow)
    np.testing.assert_array_equal(model.fit(narrow, y).predict_proba(narrow), fresh)


def test_early_stopping_keeps_the_best_epoch():
    X, y = cohort(150)
    model = small(early_stopping=True, max_epochs=300, n_iter_no_change=5, learning_rate=0.05)
    history = model.fit(X, y).history_
    assert model.n_iter_ < 300
    assert len(history) - 1 - history["valid_loss"].idxmin() == 5


@EACH
@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"dtype": "float16"}, "dtype"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"learning_rate": -1.0}, "lr|learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"device": "abacus"}, "device|abacus"),
        ({"scaling": {"note": "minmax"}}, "'note'"),
    ],
)
def test_value_that_a_parameter_cannot_have_is_refused_by_name(make, table, parameters, complaint):
    with pytest.raises(ParameterError, match=complaint):
        make(**parameters).fit(*table)


def test_unknown_fusion_is_refused_with_the_known_ones(table):
    with pytest.raises(ParameterError, match="late"):
        small(fusion="middle").fit(*table)


def test_every_weight_zero_is_refused(table):
    X, y = table
    with pytest.raises(ValueError, match="zero"):
        small().fit(X, y, sample_weight=np.zeros(len(y)))
