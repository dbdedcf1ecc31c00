"""AdaCoMed on a cohort table in scikit-learn's tools, with a cache, and stored."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import check_no_attributes_set_in_init

from medfusion_sdk import (
    AdaCoMedClassifier,
    EmbeddingCache,
    SignalEncoder,
    TextEncoder,
    load_estimator,
    save_estimator,
)
from medfusion_sdk.model_selection import compare
from tests.estimators.adacomed_cohorts import (
    adacomed,
    blocks,
    labs,
    raw_cohort,
)


@pytest.fixture(scope="module")
def cohort():
    return raw_cohort()


@pytest.fixture(scope="module")
def fitted(cohort):
    return adacomed().fit(*cohort)


# -- scikit-learn --------------------------------------------------------------------------------


def test_nested_parameters_are_reached_and_cloned():
    model = adacomed().set_params(
        large__note__max_length=16, small__smallmultimodalclassifier__embed_size=4
    )
    copy = clone(model)
    assert copy.get_params()["large__note__max_length"] == 16
    assert copy.small[-1].embed_size == 4
    check_no_attributes_set_in_init("AdaCoMedClassifier", AdaCoMedClassifier())


def test_diagram_shows_both_paths():
    html = adacomed()._repr_html_()
    assert "SignalEncoder" in html
    assert "SmallMultimodalClassifier" in html


def counted(monkeypatch):
    """Items that encoders compute, as against those that the cache has."""
    encoded = []
    for encoder in (SignalEncoder, TextEncoder):
        own = encoder._encode

        def count(self, cells, run, own=own):
            encoded.extend(type(self).__name__ for _ in cells)
            return own(self, cells, run)

        monkeypatch.setattr(encoder, "_encode", count)
    return encoded


def test_refits_encode_nothing(cohort, tmp_path, monkeypatch):
    X, y = cohort
    encoded = counted(monkeypatch)
    with EmbeddingCache(tmp_path) as cache:
        model = adacomed(large=blocks(cache)).fit(X, y)
        n_items = cache.stats().items
        assert len(encoded) == n_items > 0
        model.set_params(strategy="inverse").fit(X.iloc[::-1], y[::-1])
        model.predict_proba(X.iloc[:9])
        assert len(encoded) == n_items
        assert cache.stats().misses == n_items


def test_grid_over_both_paths_encodes_each_item_once(cohort, tmp_path, monkeypatch):
    X, y = cohort
    encoded = counted(monkeypatch)
    grid = {
        "small__smallmultimodalclassifier__embed_size": [4, 8],
        "strategy": ["gaussian", "inverse"],
    }
    with EmbeddingCache(tmp_path) as cache:
        search = GridSearchCV(adacomed(large=blocks(cache), max_epochs=2), grid, cv=2).fit(X, y)
        assert len(encoded) == cache.stats().items
    assert search.best_estimator_.small_[-1].embed_size in (4, 8)
    assert search.cv_results_["mean_test_score"].shape == (4,)


def test_grid_ablates_a_modality(cohort, tmp_path):
    X, y = cohort
    X, y = X.drop(index="p4"), y[X.index != "p4"]
    grid = {"large__note": ["drop", TextEncoder("standin-text", dtype="float32", cache=tmp_path)]}
    search = GridSearchCV(adacomed(max_epochs=2), grid, cv=2, refit=False).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_pipeline_cross_validation_and_compare_take_the_cohort_table(cohort):
    X, y = cohort
    proba = cross_val_predict(
        Pipeline([("fuse", adacomed(max_epochs=2))]), X, y, cv=2, method="predict_proba"
    )
    assert proba.shape == (48, 2)
    plain = make_pipeline(labs(), SimpleImputer(), LogisticRegression())
    table = compare({"AdaCoMed": adacomed(max_epochs=2), "labs": plain}, X, y, cv=2)
    assert "AdaCoMed" in str(table)


# -- storage -------------------------------------------------------------------------------------


def test_pickle_has_neither_encoder_weights_nor_rows(cohort, fitted):
    X, _ = cohort
    stored = pickle.dumps(fitted)
    own = sum(a.nbytes for a in [*fitted.state_.values(), *fitted.small_[-1].state_.values()])
    assert len(stored) < own + 60_000
    assert b"st elevation" not in stored
    loaded = pickle.loads(stored)
    assert loaded._cohort.large is loaded.large_
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))


def test_saved_and_loaded_model_predicts_the_same_bits(cohort, fitted, tmp_path):
    X, _ = cohort
    save_estimator(fitted, tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    pd.testing.assert_frame_equal(loaded.explain(X), fitted.explain(X))
    assert loaded._cohort.large is loaded.large_


def test_skops_stores_the_model(cohort, fitted):
    import skops.io as sio

    X, _ = cohort
    stored = sio.dumps(fitted)
    trusted = sio.get_untrusted_types(data=stored)
    assert all(name.startswith(("medfusion_sdk.", "sklearn.")) for name in trusted), trusted
    loaded = sio.loads(stored, trusted=trusted)
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
