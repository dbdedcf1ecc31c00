"""TGMMRetriever: where rows lie, what it learns, scores and tells."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from medfusion_sdk import TGMMRetriever, load_estimator, save_estimator
from medfusion_sdk.exceptions import DataError, ModalityError, ModalityWarning, ParameterError
from medfusion_sdk.metrics import lrap, recall_at_k
from medfusion_sdk.testing import check_multimodal_estimator
from tests.estimators.cohorts import MODALITIES, cohort
from tests.estimators.retrievers import labelled_table
from tests.estimators.retrievers import quick_retriever as retriever

SAME = {"shared": 6.0, "private": 0.0, "noise": 0.2}


@pytest.fixture(scope="module")
def table():
    return labelled_table()


@pytest.fixture(scope="module")
def fitted(table):
    X, _, patients = table
    return retriever().fit(X, groups=patients)


def without(X, *modalities):
    gone = X.copy()
    for modality in modalities:
        gone[[name for name in X if name.startswith(f"{modality}__")]] = np.nan
    return gone


# -- places


def test_places_have_length_one_and_names(fitted, table):
    places = fitted.set_output(transform="default").transform(table[0])
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 1, atol=1e-6)
    assert places.shape == (90, 12)
    assert fitted.get_feature_names_out()[0] == "tgmmretriever0"


def test_place_by_a_modality_is_that_of_a_row_that_has_nothing_else(fitted, table):
    X = table[0]
    with pytest.warns(ModalityWarning, match=r"\['labs', 'note'\]"):
        alone = fitted.transform(without(X, "note", "labs"))
    np.testing.assert_allclose(fitted.transform(X, "ecg"), alone, atol=1e-6)
    two = fitted.transform(X, ["note", "ecg"])
    np.testing.assert_array_equal(two, fitted.transform(X, ["ecg", "note"]))
    assert not np.allclose(two, alone)


def test_row_without_the_modality_has_no_place(fitted, table):
    X = table[0]
    places = fitted.transform(X, "note")
    lacking = X["note__0000"].isna().to_numpy()
    assert np.isnan(places[lacking]).all()
    assert np.isfinite(places[~lacking]).all()


def test_hidden_content_never_counts(fitted, table):
    X = table[0]
    changed = X.copy()
    changed[[name for name in X if not name.startswith("ecg__")]] = 1e6
    np.testing.assert_array_equal(fitted.transform(changed, "ecg"), fitted.transform(X, "ecg"))


def test_equal_content_lies_in_equal_places_to_the_last_bit(fitted, table):
    X = table[0].copy()
    columns = [name for name in X if name.startswith("ecg__")]
    X.iloc[::7, [X.columns.get_loc(name) for name in columns]] = X[columns].iloc[0].to_numpy()
    places = fitted.transform(X, "ecg")[::7]
    assert (places == places[0]).all()


def test_order_of_modalities_is_of_no_matter(table):
    X = table[0]
    moved = X[[n for m in reversed(MODALITIES) for n in X if n.startswith(f"{m}__")]]
    np.testing.assert_allclose(
        retriever().fit(moved).transform(moved), retriever().fit(X).transform(X), atol=1e-6
    )


# -- score


def test_score_is_the_mean_recall_over_pairs_of_modalities(fitted, table):
    X = table[0]
    recalls = []
    for query in MODALITIES:
        for target in set(MODALITIES) - {query}:
            cosines = fitted.similarity(X, X, query=query, target=target)
            has = ~np.isnan(cosines).all(axis=1) & ~np.isnan(np.diag(cosines))
            recalls.append(recall_at_k(np.eye(90)[has], cosines[has], k=5))
    assert fitted.score(X) == pytest.approx(np.mean(recalls))
    assert fitted.score(X, table[1]) == fitted.score(X)


def test_score_of_random_places_is_chance():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        rng.normal(size=(400, 8)), columns=[f"{m}__{i}" for m in ("a", "b") for i in range(4)]
    )
    model = retriever(cca_ridge=None, max_epochs=1).fit(X[:100])
    assert model.score(X[100:]) == pytest.approx(5 / 300, abs=0.015)


def test_row_that_others_equal_counts_with_its_chance(table):
    X = table[0].dropna()[[n for n in table[0] if not n.startswith("labs")]].copy()
    X[[n for n in X if n.startswith("note__")]] = 1.0
    X.iloc[0, -1] = 2.0
    model = retriever(n_neighbors=5).fit(X)
    # By the ECG: one note of its own and n - 1 equal ones.
    cosines = model.similarity(X, X, query="ecg", target="note")
    n = len(X)
    recall = recall_at_k(np.eye(n), cosines, k=5)
    assert recall < 6 / n + 1 / n


def test_score_serves_cross_validation(table):
    X, y, patients = table
    scores = cross_val_score(retriever(), X, y, groups=patients, cv=GroupKFold(3))
    assert ((scores > 0) & (scores <= 1)).all()


def test_rows_with_one_modality_each_have_nothing_to_score(fitted, table):
    X = without(table[0], "note", "labs")
    with pytest.warns(ModalityWarning), pytest.raises(DataError, match="two modalities"):
        fitted.score(X)


# -- learning


def test_modalities_that_tell_the_same_are_found_by_each_other():
    X, _ = cohort(300, missing=0.0, n_features=10, n_classes=6, **SAME)
    model = TGMMRetriever(random_state=0).fit(X[:200])
    recall = model.score(X[200:])
    plain = retriever(cca_ridge=None, max_epochs=1).fit(X[:200]).score(X[200:])
    assert recall > 4 * 5 / 100
    assert recall > 2 * plain


def test_training_teaches_what_the_start_does_not_know():
    X, _ = cohort(300, missing=0.0, n_features=10, n_classes=6, **SAME)
    untrained = TGMMRetriever(cca_ridge=None, max_epochs=1, random_state=0)
    trained = TGMMRetriever(
        cca_ridge=None, max_epochs=40, learning_rate=3e-3, d_model=32, random_state=0
    )
    assert trained.fit(X[:200]).score(X[200:]) > 1.5 * untrained.fit(X[:200]).score(X[200:])


def test_labels_bring_rows_of_one_class_together(table):
    X, y = cohort(200, missing=0.0, private=1.5)
    labelled = partial(lrap, y[150:, None] == y[None, :150])

    def precision(model):
        return labelled(model.similarity(X[150:], query="ecg", target="note"))

    assert precision(retriever().fit(X[:150], y[:150])) > precision(retriever().fit(X[:150]))
    ignoring = retriever(label_share=0.0)
    np.testing.assert_array_equal(
        ignoring.fit(X[:150], y[:150]).transform(X), retriever().fit(X[:150]).transform(X)
    )


def test_multilabel_targets_are_learnt_from(table):
    X, _, _ = table
    Y = np.column_stack([np.arange(90) % 2, np.arange(90) % 3 == 0]).astype(int)
    model = retriever().fit(X, Y)
    assert np.isfinite(model.transform(X)).all()
    assert not np.allclose(model.transform(X), retriever().fit(X).transform(X))


def test_weight_two_is_two_rows(table):
    X, y, _ = table
    counts = np.random.default_rng(0).integers(0, 3, len(X))
    weighted = retriever().fit(X, y, sample_weight=counts)
    repeated = retriever().fit(X.loc[X.index.repeat(counts)], np.repeat(y, counts))
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-6)
    assert len(weighted.gallery_.rows) == (counts > 0).sum()


def test_same_seed_gives_the_same_bits_whatever_the_global_seeds(table):
    X, _, _ = table
    np.random.seed(1)  # noqa: NPY002
    first = retriever().fit(X)
    np.random.seed(2)  # noqa: NPY002
    second = retriever().fit(X)
    for name, array in first.state_.items():
        np.testing.assert_array_equal(array, second.state_[name])


def test_warm_start_goes_on_from_the_last_weights(table):
    X = table[0]
    model = retriever(warm_start=True, learning_rate=1e-12).fit(X)
    before = model.transform(X)
    np.testing.assert_allclose(model.fit(X).transform(X), before, atol=1e-6)


def test_early_stopping_judges_by_rows_that_nothing_was_learnt_from(table):
    model = retriever(early_stopping=True, max_epochs=4).fit(*table[:2])
    assert model.history_["valid_loss"].notna().all()


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": "concat"},
        {"fusion": "mean", "guidance": "none"},
        {"guidance_at": "fusion"},
        {"guidance": "both", "prompt_encoder": "standin-text"},
        {"token_shapes": {"labs": (2, 2)}},
        {"cca_ridge": None},
        {"embed_size": 40},
    ],
    ids=str,
)
def test_every_form_of_the_network_learns_and_searches(table, options):
    X, y, patients = table
    model = retriever(**options).fit(X, y, groups=patients)
    distances, indices = model.kneighbors(X, query="ecg", target="labs")
    assert np.isfinite(distances).all()
    assert X["labs__0000"].iloc[indices.ravel()].notna().all()


def test_one_modality_is_placed_too():
    X, _ = cohort(40, modalities=("ecg",), missing=0.0)
    model = retriever().fit(X)
    assert np.isfinite(model.transform(X)).all()
    assert model.score(X) == 1.0


# -- what it tells


def test_explanation_says_how_near_each_modality_comes_to_the_whole(fitted, table):
    X = table[0]
    told = fitted.explain(X)
    near = told[told["quantity"] == "similarity"].pivot(
        index="row", columns="label", values="value"
    )
    near = near.loc[X.index]
    whole = fitted.transform(X)
    for modality in MODALITIES:
        expected = (fitted.transform(X, modality) * whole).sum(axis=1)
        np.testing.assert_allclose(near[modality], expected, atol=1e-6)
    gates = told[told["quantity"] == "gate"].groupby("row")["value"].sum()
    np.testing.assert_allclose(gates, 1, atol=1e-6)
    assert {"drop_one", "attention", "prompt"} <= set(told["quantity"])


def test_multimodal_checks_pass_in_front_of_a_linear_classifier():
    model = make_pipeline(retriever(max_epochs=2), LogisticRegression())
    records = check_multimodal_estimator(model, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in records if r["status"] == "failed"}
    assert failed == {}
    assert sum(r["status"] == "passed" for r in records) >= 20


def test_saved_and_loaded_retriever_finds_the_same(fitted, table, tmp_path):
    X, _, patients = table
    save_estimator(fitted, tmp_path / "model")
    for copy in (load_estimator(tmp_path / "model"), pickle.loads(pickle.dumps(fitted))):
        for options in ({}, {"exclude_self": True}, {"groups": patients}):
            expected = fitted.kneighbors(X, target="note", **options)
            found = copy.kneighbors(X, target="note", **options)
            np.testing.assert_array_equal(found[1], expected[1])
            np.testing.assert_array_equal(found[0], expected[0])


# -- refusals


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, X: m.transform(X, "mri"), ModalityError, "'mri': the modalities are"),
        (lambda m, X: m.kneighbors(X, target="mri"), ModalityError, "'mri'"),
        (lambda m, X: m.kneighbors(X, target=["ecg", "note"]), ModalityError, "single modalities"),
        (lambda m, X: m.kneighbors(X, query=[]), ModalityError, "the modalities are"),
        (lambda m, X: m.kneighbors(X, 0), ParameterError, "n_neighbors"),
        (lambda m, X: m.kneighbors(X, groups=[1]), DataError, "1 entries for 90 rows"),
        (lambda m, X: m.kneighbors(X, groups=[None] * 90), DataError, "missing in 90 rows"),
        (lambda m, X: m.index(X, groups=[1, 2]), DataError, "2 entries"),
        (lambda m, X: m.transform(without(X[:1], *MODALITIES)), ModalityError, "'r0'"),
    ],
)
def test_impossible_request_is_refused(fitted, table, call, error, message):
    with pytest.raises(error, match=message):
        call(fitted, table[0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": 0}, "temperature"),
        ({"label_share": 1.5}, "label_share"),
        ({"cca_ridge": 0}, "cca_ridge"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"d_model": 18}, "n_heads=4 must divide"),
    ],
)
def test_impossible_parameter_is_refused(table, parameters, message):
    with pytest.raises(ParameterError, match=message):
        retriever(**parameters).fit(table[0])


def test_unfitted_retriever_says_so(table):
    with pytest.raises(NotFittedError):
        retriever().transform(table[0])
    with pytest.raises(NotFittedError):
        retriever().kneighbors(table[0])
    with pytest.raises(NotFittedError):
        retriever().kneighbors()
