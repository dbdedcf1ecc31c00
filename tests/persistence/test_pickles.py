"""Fitted classifiers through pickle, joblib, deepcopy and skops."""

from __future__ import annotations

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io

from medfusion_sdk import EmbeddingCache, TextEncoder


def through_joblib(model, folder):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def through_skops(model, folder):
    content = skops.io.dumps(model)
    unknown = skops.io.get_untrusted_types(data=content)
    assert all(name.startswith("medfusion_sdk.") for name in unknown)
    return skops.io.loads(content, trusted=unknown)


WAYS = {
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "joblib": through_joblib,
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "skops": through_skops,
}


@pytest.mark.parametrize("way", WAYS)
def test_cache_of_an_encoder_travels_without_its_connection(way, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", max_bytes=10**6)
    encoder = TextEncoder("standin-text", cache=cache)
    expected = encoder.fit_transform(["sinus rhythm"])
    back = WAYS[way](encoder, tmp_path)
    assert back.cache == cache
    before = cache.stats().hits
    np.testing.assert_array_equal(back.transform(["sinus rhythm"]), expected)
    assert cache.stats().hits == before + 1


@pytest.mark.parametrize("way", WAYS)
def test_classifier_through_another_way_predicts_the_same_bits(way, classifier, cohort, tmp_path):
    back = WAYS[way](classifier, tmp_path)
    np.testing.assert_array_equal(
        back.predict_proba(cohort.data), classifier.predict_proba(cohort.data)
    )
    pd.testing.assert_frame_equal(back.history_, classifier.history_)


def test_pickle_of_a_classifier_holds_little_beside_its_weights(small, cohort):
    small.predict(cohort.data)  # the network is at hand and must not travel
    bare = copy.copy(small).__getstate__()
    weights = sum(weight.nbytes for weight in bare.pop("state_").values())
    assert len(pickle.dumps(small)) <= weights + len(pickle.dumps(bare)) + 1000
