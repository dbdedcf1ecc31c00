"""AMFN's classifier and regressor on cohort tables."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import r2_score, roc_auc_score

from medfusion_sdk import AMFNClassifier, AMFNRegressor, load_estimator, save_estimator
from medfusion_sdk.estimators._expert import fit_expert
from medfusion_sdk.exceptions import ModalityError, ModalityWarning, ParameterError
from tests.estimators.cohorts import quantity


def stays(n=80, seed=0, images=False):
    """Two series groups of unequal lengths, two columns, perhaps images; a severity behind all."""
    rng = np.random.default_rng(seed)
    severity = rng.normal(size=n)
    table = {}
    for name, n_channels in (("vitals", 3), ("labs", 2)):
        column = []
        for one in severity:
            series = rng.normal(one, 1.0, size=(n_channels, rng.integers(4, 13)))
            series[rng.random(series.shape) < 0.4] = np.nan
            missing = rng.random() < 0.15 or np.isnan(series).all()
            column.append(None if missing else series.astype(np.float32))
        table[name] = pd.Series(column, dtype=object)
    if images:
        table["scan"] = pd.Series(list(rng.normal(severity[:, None, None], 1, (n, 8, 8))))
    table["static__age"] = rng.normal(60, 9, n)
    table["static__sex"] = rng.integers(0, 2, n).astype(float)
    return pd.DataFrame(table), severity


def classifier(**parameters):
    quick = {"max_epochs": 15, "d_model": 16, "encoder_width": 8, "ensemble_size": 2}
    quick |= {"learning_rate": 3e-3, "encoder": "gru"}
    return AMFNClassifier(**quick | {"random_state": 0} | parameters)


def regressor(**parameters):
    quick = {"max_epochs": 40, "d_model": 16, "encoder_width": 8, "ensemble_size": 2}
    quick |= {"learning_rate": 3e-3, "encoder": "gru"}
    return AMFNRegressor(**quick | {"random_state": 0} | parameters)


@pytest.fixture(scope="module")
def fitted():
    X, severity = stays()
    return X, severity, classifier().fit(X, severity > 0)


@pytest.fixture(scope="module")
def regressed():
    X, severity = stays(150)
    return X, severity, regressor().fit(X, severity)


@pytest.mark.parametrize("encoder", ["gru", "tcn", "transformer", "mlp"])
def test_classifier_learns_from_series_by_every_encoder(encoder):
    X, severity = stays(100)
    model = classifier(encoder=encoder, max_epochs=30).fit(X, severity > 0)
    other, truth = stays(100, seed=1)
    assert roc_auc_score(truth > 0, model.predict_proba(other)[:, 1]) > 0.8


@pytest.mark.parametrize("summaries", [True, False])
@pytest.mark.parametrize("image_head", ["pooled", "multiscale"])
def test_encoders_mix_with_images_and_one_for_each_modality(summaries, image_head):
    X, severity = stays(60, images=True)
    encoder = {"vitals": "tcn", "labs": "transformer", "scan": "cnn"}
    model = classifier(
        encoder=encoder, summaries=summaries, image_head=image_head, lambda_rec=0.1
    ).fit(X, severity > 0)
    assert model.encoders_ == ["tcn", "transformer", "cnn", "mlp"]
    assert roc_auc_score(severity > 0, model.predict_proba(X)[:, 1]) > 0.85


def test_dense_series_are_read_step_by_step_and_sparse_ones_by_their_summary():
    X, severity = stays(40)
    X["monitor"] = list(np.random.default_rng(0).normal(size=(40, 2, 6)))
    X["labs"] = pd.Series(
        [None if one is None else np.vstack([one, 0 * one + np.nan]) for one in X["labs"]],
        dtype=object,
    )
    model = classifier(max_epochs=1, encoder="auto").fit(X, severity > 0)
    chosen = dict(zip(model.modalities_, model.encoders_, strict=True))
    assert chosen == {"vitals": "mlp", "labs": "mlp", "monitor": "gru", "static": "mlp"}


def test_prediction_of_a_row_is_its_own(fitted):
    X, _, model = fitted
    whole = model.predict_proba(X)
    for row in (0, 17):
        np.testing.assert_allclose(model.predict_proba(X.iloc[[row]])[0], whole[row], atol=1e-6)
    model = clone(model).set_params(batch_size=7).fit(*stays(30)[:1], np.arange(30) % 2)
    pieces = model.predict_proba(X)
    model.set_params(batch_size=64)
    np.testing.assert_allclose(model.predict_proba(X), pieces, atol=1e-6)


def test_longer_neighbours_change_no_prediction(fitted):
    # A table is padded to its longest series.
    X, _, model = fitted
    longer = X.copy()
    longer.at[3, "vitals"] = np.ones((3, 40), dtype=np.float32)
    others = np.arange(len(X)) != 3
    np.testing.assert_allclose(
        model.predict_proba(longer)[others], model.predict_proba(X)[others], atol=1e-6
    )


def test_equal_seeds_give_equal_bits_and_others_do_not(fitted):
    X, severity, model = fitted
    again = classifier().fit(X, severity > 0)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert all((again.state_[name] == value).all() for name, value in model.state_.items())
    other = classifier(random_state=1).fit(X, severity > 0)
    assert not np.array_equal(other.predict_proba(X), model.predict_proba(X))


def test_nothing_observed_is_a_missing_modality(fitted):
    X, _, model = fitted
    empty, absent = X.copy(), X.copy()
    empty.at[0, "labs"] = np.full((2, 5), np.nan, dtype=np.float32)
    absent.at[0, "labs"] = None
    np.testing.assert_array_equal(model.predict_proba(empty), model.predict_proba(absent))


def test_row_without_any_modality_is_named(fitted):
    X, _, model = fitted
    X = X.set_axis([f"stay {i}" for i in range(len(X))])
    X.loc["stay 4", ["static__age", "static__sex"]] = np.nan
    X.at["stay 4", "vitals"] = X.at["stay 4", "labs"] = None
    with pytest.raises(ModalityError, match="stay 4"):
        model.predict_proba(X)


def test_modality_wholly_absent_elsewhere_is_warned_of_and_predicted_without(fitted):
    X, severity, model = fitted
    there = X.assign(labs=pd.Series([None] * len(X), dtype=object))
    with pytest.warns(ModalityWarning, match="labs"):
        proba = model.predict_proba(there)
    assert roc_auc_score(severity > 0, proba[:, 1]) > 0.8
    numbers = X.assign(labs=np.nan)  # what a table of no cells becomes on the way
    with pytest.warns(ModalityWarning, match="labs"):
        np.testing.assert_array_equal(model.predict_proba(numbers), proba)


def test_channel_wholly_absent_elsewhere_leaves_predictions(fitted):
    X, severity, model = fitted
    there = X.copy()
    there["vitals"] = pd.Series(
        [
            None if v is None else np.where([[True], [False], [True]], v, np.nan)
            for v in X["vitals"]
        ],
        dtype=object,
    )
    assert roc_auc_score(severity > 0, model.predict_proba(there)[:, 1]) > 0.8


def test_explanation_sums_to_one_and_to_the_prediction(fitted):
    X, _, model = fitted
    told = model.explain(X)
    names = ["vitals", "labs", "static"]
    gated = told[told["quantity"] == "gate"]
    assert model.modalities_ == list(gated["modality"].unique()) == names
    np.testing.assert_allclose(quantity(told, "fusion").sum(1), 1, atol=1e-6)
    gates = told[told["quantity"] == "gate"].pivot(index="row", columns="modality", values="value")
    missing = [cell is None for cell in X["labs"]]
    assert (gates.loc[missing, "labs"] == 0).all()
    graph = told[told["quantity"] == "graph"].groupby(["row", "modality"])["value"].sum().unstack()
    np.testing.assert_allclose(graph["labs"], ~np.array(missing), atol=1e-6)
    np.testing.assert_allclose(quantity(told, "probability"), model.predict_proba(X), atol=1e-6)
    entropy = quantity(told, "entropy_data") + quantity(told, "entropy_model")
    np.testing.assert_allclose(quantity(told, "entropy"), entropy, atol=1e-6)


def test_contributions_differ_from_the_networks_scores_by_a_constant(fitted):
    X, _, model = fitted
    told = model.explain(X)
    added = quantity(told, "contribution").reshape(len(X), 5, 2)[:, :3]
    rest = quantity(told, "network") - added.sum(axis=1)
    np.testing.assert_allclose(rest, np.broadcast_to(rest[0], rest.shape), atol=1e-5)
    assert (added[[cell is None for cell in X["labs"]], 1] == 0).all()
    assert added.std() > 0.05


def test_contributions_to_a_regression_are_in_the_units_of_the_targets(regressed):
    X, severity, model = regressed
    told = regressor().fit(X, 1000 + 50 * severity).explain(X)
    added, bias = np.split(quantity(told, "contribution"), [3], axis=1)
    np.testing.assert_allclose(bias, np.broadcast_to(bias[0], bias.shape), atol=1e-2)
    unscaled = quantity(model.explain(X), "contribution")[:, :3]
    np.testing.assert_allclose(added, 50 * unscaled, atol=1e-2)


@pytest.mark.parametrize("calibrate", [True, False])
def test_contributions_with_the_experts_sum_to_the_decision(calibrate):
    X, severity = stays(120)
    model = classifier(expert=True, max_epochs=2, calibrate=calibrate).fit(X, severity > 0)
    told = model.explain(X)
    parts = told[told["quantity"] == "contribution"]
    names = ["vitals", "labs", "static", "expert", "bias", "averaging"]
    assert list(parts["modality"].unique()) == names
    each = parts.pivot(index=["row", "modality"], columns="label", values="value").astype(float)
    sums = each.groupby(level="row").sum().loc[X.index]
    decision = model.decision_function(X)
    np.testing.assert_allclose(sums[True] - sums[False], decision, atol=1e-6)
    # The bias is one for all rows: nothing that a row brings is hidden in it.
    bias = each.xs("bias", level="modality")
    np.testing.assert_allclose(bias, np.broadcast_to(bias.iloc[0], bias.shape), atol=1e-5)
    scores = quantity(told, "expert") + quantity(told, "network")
    close = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(close, model.predict_proba(X), atol=0.02)


def test_contributions_with_the_experts_sum_to_a_regression():
    X, severity = stays(120)
    model = regressor(expert=True, max_epochs=2).fit(X, 1000 + 50 * severity)
    parts = model.explain(X).query("quantity == 'contribution'")
    assert list(parts["modality"].unique()) == ["vitals", "labs", "static", "expert", "bias"]
    sums = parts.groupby("row")["value"].sum().loc[X.index]
    np.testing.assert_allclose(sums, model.predict(X), rtol=1e-6)
    bias = parts.loc[parts["modality"] == "bias", "value"]
    np.testing.assert_allclose(bias, bias.iloc[0], atol=1e-2)


@pytest.mark.parametrize("kind", ["fitted", "regressed"])
def test_saved_model_predicts_the_same(kind, request, tmp_path):
    X, _, model = request.getfixturevalue(kind)
    save_estimator(model, tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


def test_saved_expert_predicts_the_same(tmp_path):
    X, severity = stays(120)
    model = classifier(expert=True, max_epochs=2).fit(X, severity > 0)
    assert model.expert_ is not None
    save_estimator(model, tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    told = model.explain(X)
    scores = quantity(told, "expert") + quantity(told, "network")
    close = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(close, model.predict_proba(X), atol=0.02)


def test_expert_is_there_by_default_from_five_hundred_rows_on():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 2))
    y = (X[:, 0] > 0).astype(int)
    quick = {"max_epochs": 1, "ensemble_size": 1, "random_state": 0}
    assert AMFNClassifier(**quick).fit(X, y).expert_ is not None
    assert AMFNClassifier(**quick, expert=False).fit(X, y).expert_ is None
    assert AMFNClassifier(**quick).fit(X[:499], y[:499]).expert_ is None
    assert AMFNRegressor(**quick).fit(X, X[:, 1]).expert_ is not None


def test_expert_learns_nothing_from_rows_held_out_for_early_stopping(monkeypatch):
    X, severity = stays(120)
    seen = []

    def spy(x, *arguments, **options):
        seen.append(len(x))
        return fit_expert(x, *arguments, **options)

    monkeypatch.setattr("medfusion_sdk.estimators._expert.fit_expert", spy)
    model = classifier(expert=True, early_stopping=True, validation_fraction=0.25, max_epochs=4)
    model.fit(X, severity > 0)
    assert seen == [90]
    assert "valid_loss" in model.history_


def test_warm_start_goes_on_from_the_last_fit():
    X, severity = stays()
    model = classifier(warm_start=True, max_epochs=40).fit(X, severity > 0)
    first = model.history_["train_task"]
    second = model.fit(X, severity > 0).history_["train_task"]
    assert second.iloc[0] < (first.iloc[0] + first.iloc[-1]) / 2


def test_class_weight_and_sample_weight_count():
    X, severity = stays()
    y = (severity > 0).astype(int)
    plain = classifier().fit(X, y).predict_proba(X)[:, 1].mean()
    assert classifier(class_weight={0: 1, 1: 10}).fit(X, y).predict_proba(X)[:, 1].mean() > plain
    weight = np.where(np.arange(len(X)) < 60, 1.0, 0.0)
    left_out = classifier().fit(X, y, sample_weight=weight).predict_proba(X)
    np.testing.assert_array_equal(left_out, classifier().fit(X[:60], y[:60]).predict_proba(X))


def test_multiclass_and_multilabel_have_a_column_for_each():
    X, severity = stays()
    three = classifier().fit(X, np.digitize(severity, [-0.5, 0.5]))
    np.testing.assert_allclose(three.predict_proba(X).sum(1), 1, atol=1e-6)
    labels = pd.DataFrame({"septic": severity > 0, "dies": severity > 1}, index=X.index).astype(int)
    model = classifier(task_loss="focal").fit(X, labels)
    assert model.predict(X).shape == labels.shape
    assert set(model.explain(X)["label"].dropna()) == {"septic", "dies"}


def test_transform_is_as_wide_as_it_says(fitted):
    X, _, model = fitted
    assert model.transform(X).shape == (len(X), len(model.get_feature_names_out()))


# -- regression -------------------------------------------------------------------------------


def test_regressor_predicts_in_the_units_of_the_targets(regressed):
    X, severity, model = regressed
    assert r2_score(severity, model.predict(X)) > 0.6
    other = regressor().fit(X, 1000 + 50 * severity)
    np.testing.assert_allclose(other.predict(X), 1000 + 50 * model.predict(X), rtol=0, atol=1e-2)
    mean, spread = other.predict(X, return_std=True)
    np.testing.assert_allclose(spread, 50 * model.predict(X, return_std=True)[1], rtol=1e-3)
    np.testing.assert_array_equal(mean, other.predict(X))


def test_spread_tells_noisy_rows_from_quiet_ones():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a__x": rng.normal(size=400), "b__noisy": rng.integers(0, 2, 400) * 1.0})
    y = X["a__x"] + np.where(X["b__noisy"] == 1, 1.0, 0.1) * rng.normal(size=400)
    spread = regressor(max_epochs=60, dropout=0.0).fit(X, y).predict(X, return_std=True)[1]
    noisy, quiet = (np.median(spread[X["b__noisy"] == flag]) for flag in (1, 0))
    assert noisy > 2 * quiet


def test_dropped_passes_add_to_the_models_part_of_the_spread(regressed):
    X, _, model = regressed
    alone = quantity(model.explain(X), "std_model").mean()
    sampled = copy.deepcopy(model).set_params(mc_samples=10)
    assert quantity(sampled.explain(X), "std_model").mean() > alone


def test_several_targets_keep_their_shape_and_names(regressed):
    X, severity, _ = regressed
    y = pd.DataFrame({"los": severity, "cost": -3 * severity}, index=X.index)
    model = regressor(task_loss="mse").fit(X, y)
    mean, spread = model.predict(X, return_std=True)
    assert mean.shape == spread.shape == y.shape
    assert r2_score(y, mean) > 0.6
    assert set(model.explain(X)["label"].dropna()) == {"los", "cost"}


def test_constant_target_is_predicted_as_it_is(regressed):
    X = regressed[0]
    np.testing.assert_allclose(
        regressor(max_epochs=3).fit(X, np.full(150, 7.0)).predict(X), 7.0, atol=0.5
    )


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"encoder": "lstm"}, "encoder must be"),
        ({"encoder": {"vital": "gru"}}, "vital"),
        ({"encoder": {"static": "gru"}}, "static"),
        ({"adjacency": "cosine"}, "adjacency"),
        ({"alignment": "triplet"}, "alignment"),
        ({"readout": "mean"}, "readout"),
        ({"norm": "instance"}, "norm"),
        ({"image_head": "vit"}, "image_head"),
        ({"task_loss": "hinge"}, "task_loss"),
        ({"expert": "xgboost"}, "expert"),
        ({"d_model": 18}, "n_heads"),
        ({"encoder_width": 6}, "encoder_width"),
        ({"ensemble_size": 0}, "ensemble_size"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_value_that_a_parameter_cannot_have_is_refused_by_name(parameters, complaint):
    X, severity = stays(20)
    with pytest.raises(ParameterError, match=complaint):
        classifier(**parameters).fit(X, severity > 0)


def test_numbers_alone_cannot_be_predicted_after_series(fitted):
    with pytest.raises(ModalityError, match="vitals"):
        fitted[2].predict(np.ones((3, 4)))
