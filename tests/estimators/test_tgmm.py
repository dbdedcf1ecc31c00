"""TGMM as a classifier: prompts, tokens, the expert, explanations; what all its tasks share."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from medfusion_sdk.estimators import _prompts
from medfusion_sdk.estimators._content import content_codes
from medfusion_sdk.estimators._expert import fit_expert
from medfusion_sdk.exceptions import (
    GateCollapseWarning,
    ParameterError,
    WeightsNotFoundError,
)
from medfusion_sdk.persistence import load_estimator, save_estimator
from tests.estimators.cohorts import MODALITIES, cohort, tgmm

PROMPTED = {"guidance": "both", "prompt_encoder": "standin-text"}


@pytest.fixture(scope="module")
def table():
    return cohort()


@pytest.fixture(scope="module")
def fitted(table):
    return tgmm(max_epochs=15, expert=True, **PROMPTED).fit(*table)


@pytest.fixture
def no_language_model(monkeypatch):
    def refuse(*_):
        raise AssertionError("a language model was asked")

    monkeypatch.setattr("medfusion_sdk.backbones.text.borrow_text_backbone", refuse)
    monkeypatch.setattr("medfusion_sdk.backbones.text_source.find_text_source", refuse)


def told(model, X, quantity, *axes):
    lines = model.explain(X).query(f"quantity == {quantity!r}")
    return lines.pivot(index="row", columns=list(axes), values="value").loc[X.index]


# -- modalities


def test_order_of_modalities_in_the_table_changes_nothing(table):
    X, y = table
    blocks = [X.filter(like=f"{name}__") for name in reversed(MODALITIES)]
    moved = pd.concat(blocks, axis=1)
    one, other = tgmm().fit(X, y), tgmm().fit(moved, y)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(moved))
    given = {name: f"{name}__" for name in MODALITIES}
    mapped = tgmm(modalities=dict(reversed(given.items()))).fit(X, y)
    np.testing.assert_array_equal(mapped.predict_proba(X), one.predict_proba(X))


@pytest.mark.parametrize("fusion", ["mffm", "attention_only", "gate_only", "mean", "concat"])
@pytest.mark.parametrize("guidance_at", ["readout", "fusion"])
def test_content_of_an_absent_modality_cannot_matter(table, fusion, guidance_at):
    # A row without notes is predicted alike by a table in which nobody has any.
    X, y = table
    model = tgmm(fusion=fusion, guidance_at=guidance_at).fit(X, y)
    absent = X["note__0000"].isna()
    nobody = X[absent].assign(**dict.fromkeys(X.filter(like="note__"), np.nan))
    with pytest.warns(UserWarning, match="note"):
        alone = model.predict_proba(nobody)
    np.testing.assert_allclose(alone, model.predict_proba(X)[absent], atol=1e-12)


def test_collapsed_gates_are_told_with_the_modality_and_a_way_out():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"good__0": rng.normal(size=80), **{f"noise__{i}": rng.normal(size=80) for i in range(9)}}
    )
    y = (X["good__0"] > 0).astype(int)
    hasty = {"modality_dropout": 0.0, "alpha": 0.0, "dropout": 0.0, "learning_rate": 0.1}
    with pytest.warns(GateCollapseWarning, match=r"'good'.*modality_dropout"):
        tgmm(max_epochs=200, guidance="none", **hasty).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", GateCollapseWarning)
        tgmm(max_epochs=200, fusion="mean", **hasty).fit(X, y)


# -- prompts


def test_default_fit_and_any_prediction_ask_no_language_model(
    table, fitted, tmp_path, no_language_model
):
    X, y = table
    tgmm().fit(X, y)
    expected = fitted.predict_proba(X)
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    save_estimator(fitted, tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)


def test_prompt_embeddings_are_the_language_models_last_states(fitted):
    (sentence,) = fitted.prompts_.values()
    found, tokens = _prompts.embed_prompts({"diagnosis": sentence}, "standin-text")
    kept = fitted.state_["network.guides.diagnosis.fixed"]
    np.testing.assert_allclose(kept, found["diagnosis"], atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1.0, atol=1e-6)
    assert tokens["diagnosis"][1:5] == ["does", "this", "patient", "have"]


def test_another_prompt_is_another_model_where_fixed_tokens_are_asked(table):
    X, y = table
    ask = {"prompt_encoder": "standin-text", "max_epochs": 20}
    for guidance, differs in (("both", True), ("fixed", True), ("learned", False)):
        one, other = (
            tgmm(guidance=guidance, prompts=prompt, **ask).fit(X, y).predict_proba(X)
            for prompt in ("Is this heart failing?", {"diagnosis": "What is wrong?"})
        )
        assert (np.abs(one - other).max() > 1e-4) == differs


def test_prompt_of_a_task_that_is_not_there_is_refused(table):
    with pytest.raises(ParameterError, match=r"'prognosis'.*'diagnosis'"):
        tgmm(prompts={"prognosis": "How long?"}, **PROMPTED).fit(*table)


def test_prompt_encoder_that_is_not_there_is_an_error_that_names_it(table):
    with pytest.raises(WeightsNotFoundError, match="nowhere"):
        tgmm(guidance="fixed", prompt_encoder="/nowhere/at/all").fit(*table)


def test_guided_fusion_and_every_guidance_learn(table):
    X, y = table
    ask = {"prompt_encoder": "standin-text", "max_epochs": 40, "learning_rate": 1e-2}
    for guidance in ("both", "fixed", "learned", "none"):
        model = tgmm(guidance=guidance, guidance_at="fusion", **ask).fit(X, y)
        assert model.score(X, y) > 0.8
        assert told(model, X, "gate", "modality").shape == (60, 3)


# -- tokens


def tokens(n_tokens=3, width=2):
    """Sequences of tokens, some shorter than others, beside a pooled modality."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    values = rng.normal(size=(40, n_tokens, width)) + y[:, None, None]
    for row in range(0, 40, 3):
        values[row, 2:] = np.nan
    names = [f"text__{t}_{i}" for t in range(n_tokens) for i in range(width)]
    X = pd.DataFrame(values.reshape(40, -1), columns=names)
    return X.assign(labs__0=rng.normal(size=40), labs__1=rng.normal(size=40)), y


def test_order_of_tokens_changes_no_prediction_of_their_mean_and_keys():
    X, y = tokens()
    model = tgmm(token_shapes={"text": (3, 2)}).fit(X, y)
    moved = X.copy()
    moved.iloc[:, [4, 5, 0, 1, 2, 3]] = X.iloc[:, :6].to_numpy()
    np.testing.assert_allclose(model.predict_proba(moved), model.predict_proba(X), atol=1e-10)


def test_single_token_is_a_pooled_modality():
    X, y = tokens()
    X = X.dropna().reset_index(drop=True)
    y = y[: len(X)]
    pooled = tgmm(clip=None).fit(X, y).predict_proba(X)
    one = tgmm(clip=None, token_shapes={"text": (1, 6)}).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(one, pooled, atol=1e-10)


def test_tokens_are_scaled_alike_whatever_their_place():
    X, y = tokens()
    model = tgmm(token_shapes={"text": (3, 2)}).fit(X, y)
    scale = model._scaling.scale[-6:].reshape(3, 2)
    assert (scale == scale[0]).all()


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [({"text": (4, 2)}, "8 columns; the table has 6"), ({"note": (1, 2)}, "'note'")],
)
def test_token_shape_that_is_not_the_blocks_is_refused(shapes, complaint):
    with pytest.raises(ParameterError, match=complaint):
        tgmm(token_shapes=shapes).fit(*tokens())


# -- the expert


@pytest.fixture(scope="module")
def many():
    return cohort(500)


@pytest.fixture(scope="module")
def with_trees(many):
    return tgmm(max_epochs=1).fit(*many)


def test_log_odds_of_network_and_trees_count_alike_and_no_more_than_is_warranted(many, with_trees):
    X, y = many
    alone = clone(with_trees).set_params(expert=False).fit(X, y)
    trees = with_trees.expert_.scores(X[sorted(X)].to_numpy())
    network = alone.decision_function(X)[:, None] * [-0.5, 0.5]
    both, found = np.diff(network + trees)[:, 0], with_trees.decision_function(X)
    scale, origin = np.polyfit(both, found, 1)
    np.testing.assert_allclose(found, scale * both + origin, atol=1e-9)
    # On the training rows, what trees say of those left out tells how far apart they may be.
    seed, codes = with_trees._seed, content_codes(X.to_numpy(float))
    x, weight = X[sorted(X)].to_numpy(), np.ones(len(X))
    own = np.diff(fit_expert(x, y, weight, codes, kind="classes", seed=seed)[1])[:, 0]
    by_trees = LogisticRegression(C=1.0, tol=1e-10).fit(own[:, None] / own.std(), y)
    warranted = by_trees.decision_function(own[:, None] / own.std())
    seen = scale * (np.diff(network)[:, 0] + own) + origin
    np.testing.assert_allclose(seen.std(), warranted.std(), rtol=1e-3)
    np.testing.assert_allclose(seen.mean(), warranted.mean(), atol=1e-3)
    for part, scores in {"network": network, "expert": trees}.items():
        found = told(with_trees, X, f"probability_{part}", "label")
        np.testing.assert_allclose(found, softmax(scores, axis=1), atol=1e-12)


def test_trees_are_there_from_500_rows_on(many, with_trees):
    X, y = many
    assert tgmm(max_epochs=1).fit(X[:499], y[:499]).expert_ is None
    assert with_trees.expert_ is not None
    assert with_trees.ridge_expert_ is None


# -- explanations


def test_gates_of_present_modalities_sum_to_one(table, fitted):
    X, _ = table
    gates = told(fitted, X, "gate", "modality")
    np.testing.assert_allclose(gates.sum(axis=1), 1.0)
    assert (gates["note"][X["note__0000"].isna()] == 0).all()


def test_attention_goes_to_other_modalities_and_prompts_look_at_what_is_there(table, fitted):
    X, _ = table
    attention = told(fitted, X, "attention", "modality", "source")
    assert (attention[[(name, name) for name in MODALITIES]] == 0).all(axis=None)
    np.testing.assert_allclose(attention["ecg"].sum(axis=1), X.notna().sum(axis=1) > 4)
    prompt = told(fitted, X, "prompt", "source", "token")
    names = prompt["fused"].columns
    assert {"failure", "learned 0", "learned 3"} - set(names) == {"failure"}
    assert {"condition", "patient"} <= set(names)
    for token in names:
        np.testing.assert_allclose(prompt.xs(token, axis=1, level="token").sum(axis=1), 1.0)
    assert (prompt["note"][X["note__0000"].isna()] == 0).all(axis=None)


def test_told_probability_is_the_prediction(table, fitted):
    X, _ = table
    np.testing.assert_array_equal(told(fitted, X, "probability", "label"), fitted.predict_proba(X))


def test_network_and_expert_are_told_by_themselves(table, fitted):
    X, y = table
    alone = clone(fitted).set_params(expert=False).fit(X, y)
    own = told(fitted, X, "probability_network", "label")
    np.testing.assert_allclose(own, alone.predict_proba(X), atol=1e-6)
    assert "probability_network" not in set(alone.explain(X)["quantity"])


def test_drop_one_is_the_difference_to_predicting_without(table, fitted):
    X, _ = table
    change = told(fitted, X, "drop_one", "modality", "label")
    present = np.column_stack([X[f"{name}__0000"].notna() for name in MODALITIES])
    usual = fitted.predict_proba(X).mean(axis=0)
    for m, name in enumerate(MODALITIES):
        several = present[:, m] & (present.sum(axis=1) > 1)
        without = X[several].assign(**dict.fromkeys(X.filter(like=f"{name}__"), np.nan))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rest = fitted.predict_proba(without)
        expected = fitted.predict_proba(X)[several] - rest
        np.testing.assert_allclose(change[name][several], expected, atol=1e-12)
        assert (change[name][~present[:, m]] == 0).all(axis=None)
        alone = present[:, m] & ~several
        expected = fitted.predict_proba(X)[alone] - usual
        np.testing.assert_allclose(change[name][alone], expected, atol=1e-12)
