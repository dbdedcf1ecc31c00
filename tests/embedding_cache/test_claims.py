"""Claims within one process: failures, skipped items, threads."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from medfusion_sdk.embedding_cache import CacheStats
from tests.embedding_cache.items import encode, key, value


def claims_left(cache, sql):
    return len(sql("SELECT * FROM claims")) + len(list(cache.path.glob("*.owner")))


def test_failing_compute_keeps_its_batches_and_frees_the_rest(cache, sql):
    def fail(positions):
        yield positions[:2], np.stack([value(0), value(1)])
        raise RuntimeError("out of luck")

    keys = [key(n) for n in range(4)]
    with pytest.raises(RuntimeError, match="out of luck"):
        cache.get_or_compute(keys, fail)
    assert claims_left(cache, sql) == 0
    asked = []

    def compute(positions):
        asked.extend(positions)
        yield from encode(positions)

    np.testing.assert_array_equal(cache.get_or_compute(keys, compute), [value(n) for n in range(4)])
    assert asked == [2, 3]


def test_position_that_compute_skips_is_none_and_free_again(cache, sql):
    keys = [key(0), key(1)]
    first = cache.get_or_compute(keys, lambda positions: [([1], value(1)[None])])
    assert first[0] is None
    assert claims_left(cache, sql) == 0
    assert cache.stats().misses == 1
    np.testing.assert_array_equal(cache.get_or_compute(keys, encode), [value(0), value(1)])


def test_two_threads_that_skip_each_others_keys_both_come_to_an_end(cache):
    meeting = threading.Barrier(2, timeout=20)
    results = {}

    def work(name, keys, fresh):
        met = []

        def give_up(positions):
            if not met:
                met.append(meeting.wait())
            return iter(())

        results[name] = cache.get_or_compute([*fresh, *keys], give_up)

    threads = [
        threading.Thread(target=work, args=("a", [key(1)], [key(0)]), daemon=True),
        threading.Thread(target=work, args=("b", [key(0)], [key(1)]), daemon=True),
    ]
    # Each claims its first key alone, because a round takes one key.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medfusion_sdk.embedding_cache._request._KEYS_PER_ROUND", 1)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert results == {"a": [None, None], "b": [None, None]}


def test_threads_with_overlapping_keys_compute_each_key_once(cache):
    computed = []

    def work(start):
        numbers = list(range(start, start + 60))

        def compute(positions):
            for position in positions:
                time.sleep(0.0005)
                computed.append(numbers[position])
                yield [position], value(numbers[position])[None]

        values = cache.get_or_compute([key(n) for n in numbers], compute)
        np.testing.assert_array_equal(values, [value(n) for n in numbers])
        done.append(start)

    done = []
    threads = [threading.Thread(target=work, args=(20 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 4
    assert sorted(computed) == list(range(120))
    assert cache.stats() == CacheStats(hits=240 - 120, misses=120, items=120, bytes=120 * 24)
