"""The size limit, counters, warming and clearing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from medfusion_sdk.embedding_cache import CacheStats, EmbeddingCache
from tests.embedding_cache.items import encode, key, no_encode, value


class NumberEncoder(BaseEstimator):
    """Encodes a list of numbers through a cache."""

    def __init__(self, cache=None):
        self.cache = cache

    def transform(self, numbers):
        def compute(positions):
            yield positions, np.stack([value(numbers[position]) for position in positions])

        return np.stack(self.cache.get_or_compute([key(n) for n in numbers], compute))


def test_limit_evicts_values_used_longest_ago(tmp_path, monkeypatch):
    now = [1_000_000]
    monkeypatch.setattr("medfusion_sdk.embedding_cache._store.time.time", lambda: now[0])
    with EmbeddingCache(tmp_path, max_bytes=10 * 24) as cache:
        for number in range(10):
            now[0] += 3600
            cache.put_many([key(number)], [value(number)])
        now[0] += 3600
        cache.get_many([key(0), key(1)])
        cache.put_many([key(10)], [value(10)])
        there = [found is not None for found in cache.get_many([key(n) for n in range(11)])]
        assert there == [True, True, False, False, *[True] * 7]
        assert cache.stats().bytes == 9 * 24


def test_limit_holds_while_one_call_computes_more_and_returns_all(tmp_path):
    with EmbeddingCache(tmp_path, max_bytes=5 * 24) as cache:

        def compute(positions):
            for position in positions:
                yield [position], value(position)[None]
                assert cache.stats().bytes <= 5 * 24

        values = cache.get_or_compute([key(n) for n in range(20)], compute)
        np.testing.assert_array_equal(values, [value(n) for n in range(20)])


def test_value_above_the_limit_is_returned_and_drives_nothing_out(tmp_path):
    with EmbeddingCache(tmp_path, max_bytes=100) as cache:
        cache.put_many([key(0)], [value(0)])
        (large,) = cache.get_or_compute([key(1)], lambda p: [(p, np.ones((1, 50)))])
        assert large.shape == (50,)
        assert cache.get_many([key(1)]) == [None]
        assert cache.stats().items == 1


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_that_is_not_positive_is_refused(limit):
    with pytest.raises(ValueError, match="max_bytes must be positive"):
        EmbeddingCache("anywhere", max_bytes=limit)


def test_reset_stats_zeroes_counts_and_keeps_values(cache):
    cache.get_or_compute([key(0)], encode)
    cache.reset_stats()
    assert cache.stats() == CacheStats(hits=0, misses=0, items=1, bytes=24)


def test_clear_leaves_no_bytes_of_the_values_in_the_folder(cache, sql):
    secret = np.frombuffer(b"patient-derived!" * 64, dtype=np.float32)
    cache.put_many([key(n) for n in range(50)], [secret] * 50)
    sql("UPDATE items SET id = 1000 WHERE id = 7")
    full = sum(path.stat().st_size for path in cache.path.iterdir())
    cache.clear()
    left = b"".join(path.read_bytes() for path in cache.path.iterdir())
    assert b"patient-derived!" not in left
    assert len(left) < full / 2
    assert cache.stats() == CacheStats(hits=0, misses=0, items=0, bytes=0)
    np.testing.assert_array_equal(cache.get_or_compute([key(0)], encode), [value(0)])


def test_warm_counts_new_items_and_leaves_the_encoder_alone(cache):
    encoder = NumberEncoder()
    assert cache.warm(encoder, [0, 1, 2]) == 3
    assert cache.warm(encoder, [1, 2, 3]) == 1
    assert encoder.cache is None
    np.testing.assert_array_equal(cache.get_or_compute([key(0)], no_encode), [value(0)])


def test_warm_uses_a_fitted_encoder_as_fitted(cache):
    class FittedEncoder(NumberEncoder):
        def transform(self, numbers):
            return super().transform([number + self.offset_ for number in numbers])

    encoder = FittedEncoder()
    encoder.offset_ = 5
    cache.warm(encoder, [0])
    np.testing.assert_array_equal(cache.get_many([key(5)]), [value(5)])
