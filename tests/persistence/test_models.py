"""Models come back from a folder as they were: ours, pipelines around them, unfitted ones."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk import (
    AdaCoMedClassifier,
    EmbeddingCache,
    LabTextEncoder,
    SignalEncoder,
    SkipMissing,
    TextEncoder,
    load_estimator,
    make_modality_transformer,
    save_estimator,
)
from medfusion_sdk.encoders.lab_text import LabTest
from medfusion_sdk.exceptions import MedFusionWarning

LABS = {"k": LabTest("mmol/L", 3.5, 5.1), "crp": ("mg/L", None, 5)}


def saved_and_loaded(estimator, folder):
    save_estimator(estimator, folder / "model")
    return load_estimator(folder / "model")


def make_records(n=24):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    words = np.array(["sinus rhythm, no change", "acute st elevation in lead v2"])
    note = words[y].astype(object)
    note[::5] = None
    table = pd.DataFrame(
        {
            "ecg": [*rng.normal(size=(n, 2, 200)).astype(np.float32)],
            "note": note,
            "k": rng.normal(4, 1, n).round(1),
            "crp": rng.normal(5, 3, n).round(1),
        },
        index=pd.Index([f"patient-{i}" for i in range(n)]),
    )
    return table, np.array(["healthy", "ill"])[y]


def make_model(cache=None):
    ngrams = make_pipeline(TfidfVectorizer(), TruncatedSVD(3, random_state=0))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    encode = make_modality_transformer(
        ecg=(SignalEncoder(n_features=84), ["ecg"]),
        note=(TextEncoder("standin-text", missing="mean"), "note"),
        words=(SkipMissing(ngrams), "note"),
        labs=(LabTextEncoder(LABS, backbone="standin-text"), ["k", "crp"]),
        numbers=(numbers, ["k", "crp"]),
        cache=cache,
    )
    fuse = AdaCoMedClassifier(max_epochs=2, random_state=0, large_modalities=["ecg", "note"])
    return Pipeline([("encode", encode), ("fuse", fuse)])


def test_classifier_loaded_predicts_the_same_bits(classifier, cohort, tmp_path):
    loaded = saved_and_loaded(classifier, tmp_path)
    for method in ("predict_proba", "predict", "transform"):
        expected = getattr(classifier, method)(cohort.data)
        np.testing.assert_array_equal(getattr(loaded, method)(cohort.data), expected)
    pd.testing.assert_frame_equal(loaded.explain(cohort.data), classifier.explain(cohort.data))


def test_classifier_loaded_has_equal_parameters_history_and_state(classifier, tmp_path):
    loaded = saved_and_loaded(classifier, tmp_path)
    assert loaded.get_params() == classifier.get_params()
    pd.testing.assert_frame_equal(loaded.history_, classifier.history_)
    assert loaded.architecture_ == classifier.architecture_
    for name, weight in classifier.state_.items():
        np.testing.assert_array_equal(loaded.state_[name], weight, strict=True)
        assert loaded.state_[name].flags.writeable


def test_shared_small_model_loaded_is_still_one_object(adacomed, tmp_path):
    loaded = saved_and_loaded(adacomed, tmp_path)
    assert loaded._small.model is loaded.small_


def test_classifier_loaded_clones_shows_html_and_fits_to_equal_weights(small, cohort, tmp_path):
    loaded = saved_and_loaded(small, tmp_path)
    again = clone(loaded).fit(cohort.data, cohort.target)
    np.testing.assert_equal(again.state_, small.state_)
    assert "SmallMultimodalClassifier" in loaded._repr_html_()


@pytest.mark.parametrize("strategy", ["inverse", "threshold"])
def test_adacomed_with_trained_small_path_and_bank_loaded_predicts_the_same_bits(
    strategy, cohort, tmp_path
):
    model = AdaCoMedClassifier(
        freeze_small=False,
        inference_similarity="bank",
        strategy=strategy,
        strategy_params={"threshold": 0.4} if strategy == "threshold" else None,
        max_epochs=1,
        random_state=np.random.RandomState(3),
    ).fit(cohort.data, cohort.target)
    loaded = saved_and_loaded(model, tmp_path)
    np.testing.assert_array_equal(
        loaded.predict_proba(cohort.data), model.predict_proba(cohort.data)
    )


def test_unfitted_classifier_loaded_is_unfitted_and_fits_alike(small, cohort, tmp_path):
    loaded = saved_and_loaded(clone(small), tmp_path)
    with pytest.raises(NotFittedError):
        check_is_fitted(loaded)
    np.testing.assert_equal(loaded.fit(cohort.data, cohort.target).state_, small.state_)


def test_model_from_raw_columns_loaded_predicts_the_same_bits(tmp_path):
    X, y = make_records()
    model = make_model(EmbeddingCache(tmp_path / "cache")).fit(X, y)
    loaded = saved_and_loaded(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    pd.testing.assert_frame_equal(loaded[:-1].transform(X), model[:-1].transform(X))
    assert loaded[0].transformers_[0][1].cache == EmbeddingCache(tmp_path / "cache")


def test_model_loaded_in_a_fresh_process_predicts_the_same_bits(tmp_path):
    X, y = make_records()
    model = make_model().fit(X, y)
    save_estimator(model, tmp_path / "model")
    X.to_pickle(tmp_path / "X.pkl")
    program = (
        "import sys, numpy, pandas\n"
        "from medfusion_sdk import load_estimator\n"
        "home = sys.argv[1]\n"
        "X = pandas.read_pickle(home + '/X.pkl')\n"
        "proba = load_estimator(home + '/model').predict_proba(X)\n"
        "numpy.save(home + '/proba.npy', proba)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "proba.npy"), model.predict_proba(X))


def test_search_loaded_keeps_its_results_and_best_model(small, cohort, tmp_path):
    grid = {"fusion": ["joint", "late"]}
    search = GridSearchCV(clone(small), grid, cv=2).fit(cohort.data, cohort.target)
    loaded = saved_and_loaded(search, tmp_path)
    np.testing.assert_array_equal(loaded.predict(cohort.data), search.predict(cohort.data))
    pd.testing.assert_frame_equal(
        pd.DataFrame(loaded.cv_results_), pd.DataFrame(search.cv_results_)
    )


def test_plain_scikit_learn_model_loaded_predicts_the_same_bits(cohort, tmp_path):
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    model.fit(cohort.data, cohort.target)
    loaded = saved_and_loaded(model, tmp_path)
    np.testing.assert_array_equal(
        loaded.predict_proba(cohort.data), model.predict_proba(cohort.data)
    )


def test_rows_of_an_encoders_last_call_are_not_stored(tmp_path):
    X, _ = make_records()
    X.loc["patient-3", "note"] = 7
    encoder = TextEncoder("standin-text", on_error="missing")
    with pytest.warns(Warning, match="1 of 24 cells"):
        encoder.fit_transform(X["note"])
    assert list(encoder.errors_.index) == ["patient-3"]
    save_estimator(encoder, tmp_path / "model")
    assert "patient-3" not in (tmp_path / "model" / "manifest.json").read_text()


def test_live_network_is_not_stored(small, cohort, tmp_path):
    small.predict(cohort.data)
    assert small._module is not None
    loaded = saved_and_loaded(small, tmp_path)
    assert not hasattr(loaded, "_module")


def test_two_saves_of_one_model_are_equal_files(adacomed, tmp_path):
    for name in ("one", "two"):
        save_estimator(adacomed, tmp_path / name)
    for file in ("manifest.json", "weights.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_other_scikit_learn_version_draws_scikit_learns_warning(tmp_path, monkeypatch):
    with monkeypatch.context() as other:
        other.setattr("sklearn.base.__version__", "1.2.3")
        save_estimator(StandardScaler().fit([[0.0], [1.0]]), tmp_path / "model")
    with pytest.warns(InconsistentVersionWarning, match=r"StandardScaler from version 1\.2\.3"):
        load_estimator(tmp_path / "model")


def test_other_package_version_draws_a_warning_naming_both(small, tmp_path, monkeypatch):
    with monkeypatch.context() as other:
        other.setattr("medfusion_sdk.__version__", "0.0.9")
        save_estimator(small, tmp_path / "model")
    with pytest.warns(MedFusionWarning, match=r"medfusion_sdk 0\.0\.9 and is loaded with"):
        load_estimator(tmp_path / "model")
