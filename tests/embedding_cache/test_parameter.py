"""The cache as a parameter of estimators: copies, pickles, equality."""

from __future__ import annotations

import copy
import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone

from medfusion_sdk.embedding_cache import EmbeddingCache, as_cache
from medfusion_sdk.encoders.text import TextEncoder
from tests.embedding_cache.items import encode, key, value


def test_constructor_copies_and_repr_touch_no_file(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", max_bytes=10)
    assert repr(cache) == f"EmbeddingCache({str(tmp_path / 'cache')!r}, max_bytes=10)"
    assert repr(EmbeddingCache(tmp_path)) == f"EmbeddingCache({str(tmp_path)!r})"
    pickle.dumps(cache)
    copy.deepcopy(cache)
    assert not cache.path.exists()


def test_clone_copy_and_pickle_give_an_equal_cache(cache):
    cache.get_or_compute([key(0)], encode)
    copies = [
        clone(TextEncoder(cache=cache)).cache,
        copy.copy(cache),
        copy.deepcopy(cache),
        pickle.loads(pickle.dumps(cache)),
    ]
    for other in copies:
        assert (other, hash(other), other.max_bytes) == (cache, hash(cache), cache.max_bytes)
        np.testing.assert_array_equal(other.get_many([key(0)]), [value(0)])
    assert len(pickle.dumps(cache)) < 300


def test_equality_depends_on_path_and_limit_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = EmbeddingCache("cache")
    assert relative == EmbeddingCache(tmp_path / "cache")
    assert relative != EmbeddingCache("cache", max_bytes=5)
    assert relative != EmbeddingCache("other")
    assert relative != "cache"
    assert joblib.hash(relative) == joblib.hash(EmbeddingCache(tmp_path / "cache"))


def test_relative_path_stays_where_it_was_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = EmbeddingCache("cache")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pickle.loads(pickle.dumps(cache)) as other:
        other.stats()
    assert (tmp_path / "cache").is_dir()


def test_as_cache_takes_paths_caches_and_none(tmp_path):
    cache = EmbeddingCache(tmp_path)
    assert as_cache(None) is None
    assert as_cache(cache) is cache
    assert as_cache(tmp_path) == as_cache(str(tmp_path)) == cache


@pytest.mark.parametrize("wrong", [5, True, b"bytes", ["list"]])
def test_as_cache_refuses_anything_else(wrong):
    with pytest.raises(TypeError, match="must be a folder, an EmbeddingCache or None"):
        as_cache(wrong)
