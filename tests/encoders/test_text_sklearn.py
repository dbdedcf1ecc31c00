"""TextEncoder and LabTextEncoder inside scikit-learn."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from medfusion_sdk.backbones.text import TextBackbone
from medfusion_sdk.embedding_cache import EmbeddingCache
from medfusion_sdk.encoders.lab_text import LabTest, LabTextEncoder
from medfusion_sdk.encoders.text import TextEncoder

LABS = {"k": LabTest("mmol/L", 3.5, 5.1), "crp": ("mg/L", None, 5)}
ENCODERS = [
    TextEncoder("standin-text"),
    LabTextEncoder(LABS, backbone="standin-text"),
]
IDS = ["text", "labs"]

# Of scikit-learn's common checks, those that a column of texts can't pass, and why. The others run
# on texts: the checks' matrices are turned into a column of numbers written out.
NOT_FOR_TEXT = {
    "check_n_features_in": "a column, not a matrix with a number of features",
    "check_n_features_in_after_fitting": "a column, not a matrix with a number of features",
    "check_fit1d": "one-dimensional input is welcome: it is a column",
    "check_fit2d_predict1d": "one-dimensional input is welcome: it is a column",
    "check_dtype_object": "cells are objects; bad ones raise when encoded, not in fit",
    "check_complex_data": "cells are looked at when encoded, not in fit",
    "check_estimators_empty_data_messages": "an empty column gives an empty block",
    "check_estimators_dtypes": "the check converts the texts back to numbers",
    "check_transformer_preserve_dtypes": "the check converts the texts back to numbers",
    "check_positive_only_tag_during_fit": "the check divides the texts",
    "check_transformer_data_not_an_array": "the check wraps the numbers before they are texts",
    "check_estimator_sparse_tag": "there are no sparse texts",
    "check_estimator_sparse_array": "there are no sparse texts",
    "check_estimator_sparse_matrix": "there are no sparse texts",
}
# A table of laboratory columns by name is far from the checks' bare matrices: these ask for none.
WITHOUT_DATA = [
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_estimator_tags_renamed,
    estimator_checks.check_valid_tag_types,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_set_params,
    estimator_checks.check_mixin_order,
    estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
]


@pytest.fixture
def cohort():
    generator = np.random.default_rng(0)
    sick = generator.random(60) < 0.5
    word = np.where(sick, "fibrillation", "sinus")
    return (
        pd.DataFrame(
            {
                "note": [f"{w} rhythm, record {i}" for i, w in enumerate(word)],
                "k": generator.normal(4.3, 1, 60).round(1),
                "crp": np.where(generator.random(60) < 0.3, np.nan, 3.0),
                "age": generator.normal(60, 9, 60),
            },
            index=[f"p{i}" for i in range(60)],
        ),
        sick.astype(int),
    )


def X_of(encoder, cohort):
    return cohort[0][["k", "crp"]] if isinstance(encoder, LabTextEncoder) else cohort[0]["note"]


def test_common_checks_pass_on_texts_but_those_with_a_reason(monkeypatch):
    def as_texts(estimator, X, **kwargs):
        X = np.asarray(X.todense() if hasattr(X, "todense") else X, dtype=float)
        return np.array([[str(int(10_000 * row[0]))] for row in X], dtype=object)

    monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", as_texts)
    with warnings.catch_warnings(action="ignore"):
        results = estimator_checks.check_estimator(
            TextEncoder("standin-text"), on_fail=None, on_skip=None
        )
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed == set(NOT_FOR_TEXT)
    assert sum(result["status"] == "passed" for result in results) >= 30


@pytest.mark.parametrize("check", WITHOUT_DATA, ids=lambda check: check.__name__)
def test_common_checks_without_data_pass_for_labs(check):
    check("LabTextEncoder", clone(ENCODERS[1]))


@pytest.mark.parametrize("encoder", ENCODERS, ids=IDS)
def test_clone_has_equal_parameters_and_embeddings(encoder, cohort):
    X, copied = X_of(encoder, cohort), clone(encoder)
    assert repr(copied.get_params()) == repr(encoder.get_params())
    np.testing.assert_array_equal(copied.fit_transform(X), encoder.fit_transform(X))


@pytest.mark.parametrize("encoder", ENCODERS, ids=IDS)
def test_transform_needs_no_fit_and_changes_nothing(encoder, cohort):
    X, fresh = X_of(encoder, cohort), clone(encoder)
    before = X.copy()
    parameters = copy.deepcopy(fresh.get_params())
    fresh.transform(X)
    assert repr(fresh.get_params()) == repr(parameters)
    assert X.equals(before)


def test_read_only_array_of_texts_is_accepted():
    texts = np.array(["sinus", "rhythm"], dtype=object)
    texts.flags.writeable = False
    assert TextEncoder("standin-text").fit_transform(texts).shape == (2, 64)
    assert TextEncoder("standin-text").fit_transform(texts[:, None]).shape == (2, 64)


@pytest.mark.parametrize("encoder", ENCODERS, ids=IDS)
def test_pandas_output_has_the_names_and_the_index(encoder, cohort):
    X = X_of(encoder, cohort)
    frame = clone(encoder).set_output(transform="pandas").fit_transform(X)
    assert frame.columns.tolist() == encoder.get_feature_names_out().tolist()
    assert frame.columns[[0, 1]].tolist() == ["0000", "0001"]
    assert frame.index.equals(X.index)
    assert (frame.dtypes == np.float32).all()


def test_column_transformer_makes_named_blocks_on_shuffled_rows(cohort):
    encode = ColumnTransformer(
        [
            ("note", TextEncoder("standin-text"), "note"),
            ("labs", LabTextEncoder(LABS, backbone="standin-text"), ["k", "crp"]),
            ("age", StandardScaler(), ["age"]),
        ]
    ).set_output(transform="pandas")
    X = cohort[0].sample(frac=1, random_state=0)
    blocks = encode.fit_transform(X)
    assert blocks.index.equals(X.index)
    assert [blocks.columns[i] for i in (0, 64, 128)] == ["note__0000", "labs__0000", "age__age"]
    row = encode.transform(X.iloc[[7]])
    np.testing.assert_allclose(row, blocks.iloc[[7]], atol=1e-6)


@pytest.mark.parametrize("encoder", ENCODERS, ids=IDS)
def test_pickle_holds_no_weights_and_gives_the_same_embeddings(encoder, cohort):
    X, used = X_of(encoder, cohort), clone(encoder)
    expected = used.fit_transform(X)
    for copied in (pickle.loads(pickle.dumps(used)), copy.deepcopy(used)):
        np.testing.assert_array_equal(copied.transform(X), expected)
    used.transform(X.iloc[:1])
    assert len(pickle.dumps(used)) < 10_000


def test_pickle_loads_without_importing_torch():
    encoder = TextEncoder("standin-text")
    encoder.transform(["sinus"])
    code = (
        "import pickle, sys; "
        f"encoder = pickle.loads({pickle.dumps(encoder)!r}); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_grid_search_with_cache_encodes_each_distinct_text_once(cohort, tmp_path, monkeypatch):
    encoded = []
    forward = TextBackbone.forward

    def counted(self, token_ids):
        encoded.extend(map(tuple, token_ids))
        return forward(self, token_ids)

    monkeypatch.setattr(TextBackbone, "forward", counted)
    X, y = cohort
    X = pd.concat([X, X.iloc[:10]], ignore_index=True)
    y = np.concatenate([y, y[:10]])
    cache = EmbeddingCache(tmp_path)
    search = GridSearchCV(
        make_pipeline(TextEncoder("standin-text", cache=cache), LogisticRegression()),
        {"logisticregression__C": [0.1, 1.0, 10.0]},
        cv=4,
        error_score="raise",
    )
    search.fit(X["note"], y)
    assert search.best_score_ > 0.9
    assert len(encoded) == len(set(encoded)) == 60
    search.fit(X["note"], y)
    assert len(encoded) == 60


def test_backbone_can_be_searched_over(cohort, tmp_path):
    X, y = cohort
    search = GridSearchCV(
        make_pipeline(TextEncoder("standin-text", cache=tmp_path), LogisticRegression()),
        {"textencoder__pooling": ["mean", "cls"], "textencoder__long": ["cut", "chunks"]},
        cv=2,
        error_score="raise",
    ).fit(X["note"], y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_two_worker_processes_encode_each_text_once(cohort, tmp_path):
    X, y = cohort
    X = pd.concat([X, X.iloc[:20]], ignore_index=True)
    y = np.concatenate([y, y[:20]])
    cache = EmbeddingCache(tmp_path)
    model = make_pipeline(TextEncoder("standin-text", cache=cache), LogisticRegression())
    result = cross_validate(model, X["note"], y, cv=4, n_jobs=2, error_score="raise")
    assert np.isfinite(result["test_score"]).all()
    assert cache.stats().items == cache.stats().misses == 60
