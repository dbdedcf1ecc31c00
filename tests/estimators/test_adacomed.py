"""AdaCoMed as an estimator: stages, missing paths, explanation, parameters."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone

from medfusion_sdk import AdaCoMedClassifier
from medfusion_sdk.exceptions import ModalityError, ModalityWarning, ParameterError
from medfusion_sdk.nn.weighting import STRATEGIES
from tests.estimators.cohorts import MODALITIES, adacomed, cohort, quantity, small

# A step so short that stage 2 leaves everything where stage 1 put it.
STANDSTILL = {"max_epochs": 1, "learning_rate": 1e-30, "alpha": 0.0}


@pytest.fixture(scope="module")
def table():
    return cohort()


# -- stage 1 and the start of stage 2 -----------------------------------------------------------


@pytest.mark.parametrize("match_norm", [True, False])
def test_small_only_before_training_is_the_small_model(table, match_norm):
    X, y = table
    model = adacomed(strategy="small_only", match_norm=match_norm, **STANDSTILL).fit(X, y)
    alone = small().fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))


@pytest.mark.parametrize("proj_dim", [24, 40])
def test_projected_head_starts_as_the_small_models(table, proj_dim):
    X, y = table
    model = adacomed(strategy="small_only", proj_dim=proj_dim, **STANDSTILL).fit(X, y)
    alone = small().fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), alone.predict_proba(X), rtol=0, atol=1e-10)


def test_narrow_projection_starts_head_afresh_and_says_so(table):
    with pytest.warns(ModalityWarning, match="proj_dim=5"):
        adacomed(proj_dim=5).fit(*table)


def test_head_started_afresh_differs_from_the_small_models(table):
    X, y = table
    model = adacomed(strategy="small_only", init_head_from_small=False, **STANDSTILL).fit(X, y)
    assert not np.allclose(model.predict_proba(X), small().fit(X, y).predict_proba(X), atol=1e-3)


def test_stage_two_moves_the_head_and_leaves_the_small_model(table):
    X, y = table
    model, alone = adacomed().fit(X, y), small().fit(X, y)
    for name, array in alone.state_.items():
        np.testing.assert_array_equal(model.small_.state_[name], array, err_msg=name)
    assert not np.allclose(model.state_["head.weight"], alone.state_["head.weight"])
    assert not any(name.startswith("small_encoder") for name in model.state_)


def test_unfrozen_small_encoder_is_trained_within_the_network_only(table):
    X, y = table
    model, alone = adacomed(freeze_small=False).fit(X, y), small().fit(X, y)
    for name, array in alone.state_.items():
        np.testing.assert_array_equal(model.small_.state_[name], array, err_msg=name)
    trained = model.state_["small_encoder.encoders.0.weight"]
    assert not np.allclose(trained, alone.state_["encoders.0.weight"])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_given_small_model_is_cloned_never_fitted(table):
    given = small()
    model = adacomed(small=given).fit(*table)
    assert not hasattr(given, "state_")
    assert model.small_ is not given


def test_default_small_model_follows_random_state(table):
    X, y = table
    first, second = (
        adacomed(small=None, random_state=seed).fit(X, y).small_.state_["head.weight"]
        for seed in (0, 1)
    )
    assert not np.array_equal(first, second)


def test_precomputed_embedding_is_the_named_block_as_it_is(table):
    X, y = table
    X = X[X["note__0000"].notna()]
    model = adacomed(
        small="precomputed",
        small_modalities=["note"],
        large_modalities=["ecg", "labs"],
        strategy="small_only",
    ).fit(X, y[X.index])
    weight, bias = model.state_["head.weight"], model.state_["head.bias"]
    scores = X.filter(like="note__").to_numpy() @ weight.T + bias
    np.testing.assert_allclose(model.predict_proba(X), softmax(scores, axis=1), atol=1e-10)
    assert model.small_ is None


# -- paths and modalities -----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_fits_and_predicts(table, strategy):
    X, y = table
    proba = adacomed(strategy=strategy).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)


@pytest.mark.parametrize("freeze_small", [True, False])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_row_of_one_path_is_predicted_by_it(table, strategy, freeze_small):
    X, y = table
    split = {"large_modalities": ["ecg"], "small_modalities": ["note", "labs"]}
    model = adacomed(strategy=strategy, freeze_small=freeze_small, **split).fit(X, y)
    only_large, only_small = X.iloc[:9].copy(), X.iloc[:9].copy()
    only_large[[c for c in X if not c.startswith("ecg")]] = np.nan
    only_small[[c for c in X if c.startswith("ecg")]] = np.nan
    only_small["labs__0000"] = 0.0
    for rows, w_large, path in ((only_large, 1.0, "large"), (only_small, 0.0, "small")):
        with pytest.warns(ModalityWarning, match="no row has"):
            told = model.explain(rows)
        assert (quantity(told, "w_large") == w_large).all()
        np.testing.assert_allclose(
            quantity(told, "probability"), quantity(told, f"probability_{path}"), atol=1e-12
        )


def test_rows_of_one_path_only_are_trained_on_too():
    X, y = cohort(modalities=("ecg", "labs"), missing=0.4)
    model = adacomed(large_modalities=["ecg"], small_modalities=["labs"]).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    assert np.isfinite(model.history_["train_loss"]).all()


def test_more_than_six_modalities_need_a_bound_on_subsets():
    names = tuple("abcdefg")
    X, y = cohort(modalities=names, missing=0.0)
    with pytest.raises(ParameterError, match="127 experts"):
        adacomed().fit(X, y)
    model = adacomed(max_subset_size=2).fit(X, y)
    assert quantity(model.explain(X), "router").shape[1] == 7 + 21


def test_unknown_modality_of_a_path_is_named(table):
    with pytest.raises(ModalityError, match=r"large_modalities.*xray"):
        adacomed(large_modalities=["xray"]).fit(*table)


def test_row_without_any_modality_is_named_by_its_place_in_the_callers_table(table):
    X, y = table
    empty = X.copy()
    empty.iloc[7] = np.nan
    weight = np.ones(len(X))
    weight[:3] = 0.0
    for model in (adacomed(), small()):
        with pytest.raises(ModalityError, match=r"\b7\b"):
            model.fit(empty, y, sample_weight=weight)


# -- similarity ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("kind", ["softmax", "softmax_mean"])
@pytest.mark.parametrize("attention", ["tokens", "concat"])
def test_every_reading_fits(table, attention, kind, scope):
    X, y = table
    model = adacomed(attention=attention, similarity=kind, similarity_scope=scope).fit(X, y)
    told = model.explain(X)
    assert 0 < model.similarity_ <= 1
    np.testing.assert_allclose(quantity(told, "similarity"), model.similarity_, rtol=1e-6)


def test_bank_gives_rows_similarities_of_their_own(table):
    X, y = table
    model = adacomed(inference_similarity="bank", similarity_scope="sample").fit(X, y)
    assert model.state_["bank"].shape == (len(X) - 1, 24)
    assert len(np.unique(quantity(model.explain(X), "similarity"))) > len(X) / 2
    alone = np.concatenate([model.predict_proba(X.iloc[[i]]) for i in range(8)])
    np.testing.assert_allclose(alone, model.predict_proba(X)[:8], atol=1e-12)


def test_bank_smaller_than_a_batch_survives_pickling(table):
    # Fewer rows have a note than a batch has rows, so fewer vectors can be stored.
    X, y = table
    model = adacomed(inference_similarity="bank", small_modalities=["note"]).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_bank_of_small_batches_holds_one_less_than_a_batch(table):
    model = adacomed(inference_similarity="bank", batch_size=16).fit(*table)
    assert len(model.state_["bank"]) == 15


def test_threshold_outside_the_range_of_similarities_warns(table):
    with pytest.warns(ModalityWarning, match="threshold=2"):
        adacomed(strategy="threshold", strategy_params={"threshold": 2.0}).fit(*table)


# -- training -----------------------------------------------------------------------------------


def test_history_shows_both_losses_and_their_sum(table):
    history = adacomed(alpha=0.0, lambda_contrast=0.25).fit(*table).history_
    total = history["train_task"] + 0.25 * history["train_contrast"]
    np.testing.assert_allclose(history["train_loss"], total, rtol=1e-6)
    assert list(history["epoch"]) == [1, 2, 3, 4, 5]
    assert history["train_contrast"].iloc[-1] < history["train_contrast"].iloc[0]


def test_contrastive_loss_draws_the_paths_together(table):
    without, with_ = (
        adacomed(lambda_contrast=weight, max_epochs=40, alpha=0.01, dropout=0.0).fit(*table)
        for weight in (0.0, 2.0)
    )
    last = [model.history_["train_contrast"].iloc[-1] for model in (without, with_)]
    assert last[1] < last[0] - 0.2
    assert with_.similarity_ > without.similarity_


def test_learnable_weights_leave_their_start(table):
    theta = adacomed(strategy="learnable").fit(*table).state_["theta"]
    assert (theta != 1.0).all()


def test_warm_start_goes_on_from_the_last_fit(table):
    X, y = table
    model = adacomed(warm_start=True, max_epochs=30, modality_dropout=0.0, dropout=0.0).fit(X, y)
    first = model.history_["train_task"]
    second = model.fit(X, y).history_["train_task"]
    assert second.iloc[0] < (first.iloc[0] + first.iloc[-1]) / 2


def test_early_stopping_ends_before_the_last_epoch(table):
    X, y = cohort(120)
    model = adacomed(early_stopping=True, max_epochs=200, n_iter_no_change=3, learning_rate=0.05)
    model.fit(X, y)
    assert model.n_iter_ < 200
    assert "valid_loss" in model.history_


# -- explanation --------------------------------------------------------------------------------


def test_explanation_adds_up(table):
    X, y = table
    told = adacomed().fit(X, y).explain(X)
    for name in ("router", "responsibility", "probability", "probability_large"):
        np.testing.assert_allclose(quantity(told, name).sum(axis=1), 1.0, err_msg=name)
    np.testing.assert_allclose(quantity(told, "w_large") + quantity(told, "w_small"), 1.0)


def test_responsibility_is_router_weight_shared_within_subsets(table):
    X, y = table
    told = adacomed().fit(X, y).explain(X)
    experts = told[told["quantity"] == "router"]["modality"].unique()
    share = np.array(
        [[(m in e.split("+")) / len(e.split("+")) for m in MODALITIES] for e in experts]
    )
    expected = quantity(told, "router") @ share
    np.testing.assert_allclose(quantity(told, "responsibility"), expected, atol=1e-12)


def test_absent_modality_has_no_responsibility_and_no_attention(table):
    X, y = table
    told = adacomed().fit(X, y).explain(X)
    absent = X["note__0000"].isna().to_numpy()
    assert (quantity(told, "responsibility")[absent, 1] == 0).all()
    attention = quantity(told, "attention").reshape(len(X), 3, 3)
    np.testing.assert_allclose(attention[~absent].sum(axis=2)[:, 1], 1.0)
    assert (attention[absent, 1] == 0).all()
    assert (attention[absent, :, 1] == 0).all()


def test_explanation_follows_the_rows_whatever_their_labels(table):
    X, y = table
    model = adacomed().fit(X, y)
    labels = ["b", "a", "b", *range(len(X) - 3)]
    told, relabelled = model.explain(X), model.explain(X.set_axis(labels))
    assert relabelled["row"].drop_duplicates().to_list() == ["b", "a", *range(len(X) - 3)]
    pd.testing.assert_frame_equal(relabelled.drop(columns="row"), told.drop(columns="row"))


def test_head_of_the_representation_gives_the_scores(table):
    X, y = table
    model = adacomed().fit(X, y)
    scores = model.transform(X) @ model.state_["head.weight"].T + model.state_["head.bias"]
    np.testing.assert_allclose(softmax(scores, axis=1), model.predict_proba(X), atol=1e-10)
    difference = scores[:, 1] - scores[:, 0]
    np.testing.assert_allclose(model.decision_function(X), difference, atol=1e-10)


# -- parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"strategy": "loudest"}, "strategy"),
        ({"attention": "full"}, "attention"),
        ({"similarity": "cosine"}, "similarity"),
        ({"similarity_scope": "epoch"}, "similarity_scope"),
        ({"inference_similarity": "none"}, "inference_similarity"),
        ({"small": "pretrained"}, "small"),
        ({"small": "precomputed"}, "small_modalities"),
        (
            {"small": "precomputed", "small_modalities": ["labs"], "freeze_small": False},
            "freeze_small",
        ),
        ({"small": AdaCoMedClassifier()}, "SmallMultimodalClassifier"),
        ({"n_heads": 3}, "n_heads"),
        ({"dtype": "float16"}, "dtype"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"scaling": "minmax"}, "scaling"),
    ],
)
def test_value_that_a_parameter_cannot_have_is_refused_by_name(table, parameters, complaint):
    with pytest.raises(ParameterError, match=complaint):
        adacomed(**parameters).fit(*table)


def test_parameters_set_after_fit_leave_the_fitted_model(table):
    X, y = table
    model = adacomed().fit(X, y)
    expected = model.predict_proba(X)
    changed = pickle.loads(pickle.dumps(model))
    changed.set_params(strategy="large_only", hidden_dim=16, attention="concat", temperature=1.0)
    np.testing.assert_array_equal(changed.predict_proba(X), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_that_of_the_weights(table, dtype):
    model = clone(adacomed(dtype=dtype)).fit(*table)
    assert {array.dtype.name for name, array in model.state_.items()} == {dtype}
    assert torch.get_default_dtype() is torch.float32


def test_single_and_double_precision_agree(table):
    X, y = table
    single, double = (
        adacomed(dtype=dtype, small=small(dtype=dtype)).fit(X, y).predict_proba(X)
        for dtype in ("float32", "float64")
    )
    np.testing.assert_allclose(single, double, atol=1e-3)


@pytest.mark.filterwarnings("ignore:30 columns without names")
@pytest.mark.parametrize("make", [small, adacomed])
def test_early_stopping_judges_by_rows_that_nothing_was_learnt_from(make):
    # On labels that are pure noise no held-out loss is better than ln 2, but for luck.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 30)), rng.integers(0, 2, 200)
    model = make(early_stopping=True, validation_fraction=0.3, max_epochs=5).fit(X, y)
    assert model.history_.filter(regex="valid_(task|loss)").iloc[:, -1].min() > 0.6


def test_class_that_the_small_path_never_sees_can_be_predicted():
    X, _ = cohort(60, modalities=("a", "b"), missing=0.0)
    y = np.arange(60) % 3
    X.loc[X.index[y == 2], [name for name in X if name.startswith("b__")]] = np.nan
    model = adacomed(large_modalities=["a"], small_modalities=["b"]).fit(X, y)
    assert model.predict_proba(X).shape == (60, 3)


def test_seed_reaches_a_given_small_model():
    X, y = cohort()
    fits = [adacomed(small=small(random_state=None)).fit(X, y) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))


@pytest.mark.parametrize("make", [small, adacomed])
def test_one_number_is_a_weight_for_all_rows(make):
    X, y = cohort()
    alike = make().fit(X, y, sample_weight=1.0)
    np.testing.assert_array_equal(alike.predict_proba(X), make().fit(X, y).predict_proba(X))


@pytest.mark.parametrize("make", [small, adacomed])
def test_modality_that_no_predicted_row_has_is_told(make):
    X, y = cohort()
    model = make().fit(X, y)
    without = X.copy()
    without[[name for name in X if name.startswith("note__")]] = np.nan
    with pytest.warns(ModalityWarning, match=r"\['note'\]"):
        model.predict_proba(without)
    model.predict_proba(without.iloc[[0]])  # one patient may lack it
