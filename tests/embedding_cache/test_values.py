"""Values: what goes in comes out, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medfusion_sdk.embedding_cache import CacheStats, EmbeddingCache
from tests.embedding_cache.items import encode, key, no_encode, value


def test_second_request_of_overlapping_keys_computes_only_the_new_ones(cache):
    asked = []

    def compute(positions):
        asked.append(positions)
        yield from encode(positions)

    cache.get_or_compute([key(0), key(1), key(2)], compute)
    values = cache.get_or_compute([key(0), key(1), key(2), key(3)], compute)
    assert asked == [[0, 1, 2], [3]]
    np.testing.assert_array_equal(values, [value(n) for n in range(4)])
    assert cache.stats() == CacheStats(hits=3, misses=4, items=4, bytes=4 * 24)


def test_values_survive_closing_and_opening_again(cache):
    cache.get_or_compute([key(0)], encode)
    cache.close()
    np.testing.assert_array_equal(
        EmbeddingCache(cache.path).get_or_compute([key(0)], no_encode), [value(0)]
    )


def test_batches_in_any_order_arrive_at_their_positions(cache):
    def backwards(positions):
        for position in reversed(positions):
            yield [position], value(position)[None]

    values = cache.get_or_compute([key(n) for n in range(5)], backwards)
    np.testing.assert_array_equal(values, [value(n) for n in range(5)])
    np.testing.assert_array_equal(cache.get_many([key(n) for n in range(5)]), values)


def test_values_are_read_only_and_apart_from_the_encoders_buffer(cache):
    buffer = np.ones((1, 3), dtype=np.float32)
    (computed,) = cache.get_or_compute([key(0)], lambda positions: [(positions, buffer)])
    buffer[:] = 0
    (stored,) = cache.get_many([key(0)])
    assert computed.tolist() == stored.tolist() == [1, 1, 1]
    assert not computed.flags.writeable
    assert not stored.flags.writeable


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.data(),
    dtype=st.sampled_from(["<f2", "<f4", "<f8", ">f4"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
def test_any_float_array_comes_back_bit_for_bit(cache, data, dtype, shape):
    array = data.draw(hnp.arrays(dtype, shape))
    cache.clear()
    (computed,) = cache.get_or_compute([key(0)], lambda positions: [(positions, array[None])])
    (stored,) = cache.get_many([key(0)])
    for found in (computed, stored):
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()


def test_put_many_on_known_key_keeps_the_first_value(cache):
    cache.put_many([key(0)], [value(0)])
    cache.put_many([key(0), key(1)], [value(7), value(1)])
    np.testing.assert_array_equal(cache.get_many([key(1), key(0)]), [value(1), value(0)])


def test_lookup_of_more_keys_than_one_query_holds_finds_all(cache):
    numbers = np.random.default_rng(0).permutation(1300).tolist()
    cache.put_many([key(n) for n in numbers], [value(n) for n in numbers])
    found = cache.get_many([key(n) for n in range(1301)])
    np.testing.assert_array_equal(found[:1300], [value(n) for n in range(1300)])
    assert found[1300] is None


@pytest.mark.parametrize("dtype", [np.int64, np.complex64, np.longdouble, bool])
def test_array_that_is_no_ieee_float_is_refused(cache, dtype):
    with pytest.raises(TypeError, match=r"float16, float32 and float64 arrays, not \w+"):
        cache.put_many([key(0)], [np.zeros(2, dtype=dtype)])


def test_repeated_keys_are_refused(cache):
    with pytest.raises(ValueError, match="1 of 3 keys are repeated"):
        cache.get_or_compute([key(0), key(1), key(0)], encode)


@pytest.mark.parametrize(
    ("positions", "rows"), [([0], 2), ([5], 1), ([0, 0, 1], 2)], ids=["rows", "foreign", "twice"]
)
def test_batch_that_does_not_fit_its_positions_is_refused(cache, positions, rows):
    with pytest.raises(ValueError, match="positions it was asked for and a row for each"):
        cache.get_or_compute([key(0), key(1)], lambda _: [(positions, np.zeros((rows, 2)))])
    assert cache.stats().items == 0


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vectors SET payload = zeroblob(24) WHERE id = 2",
        "UPDATE vectors SET payload = substr(payload, 1, 20) WHERE id = 2",
        "UPDATE vectors SET layout = CAST('<f4 3 2' AS BLOB) WHERE id = 2",
        "UPDATE vectors SET layout = CAST('<i4 2 3' AS BLOB) WHERE id = 2",
        "UPDATE vectors SET checksum = zeroblob(8) WHERE id = 2",
        "UPDATE items SET id = 1 WHERE id = 2",
        "DELETE FROM vectors WHERE id = 2",
    ],
    ids=["zeroed", "truncated", "shape", "dtype", "checksum", "other item's", "gone"],
)
def test_damaged_value_is_computed_again_and_never_returned(cache, sql, damage):
    keys = [key(0), key(1), key(2)]
    cache.get_or_compute(keys, encode)
    sql(damage)
    assert cache.get_many(keys)[1] is None
    sql("UPDATE totals SET hits = 0, misses = 0")
    asked = []

    def compute(positions):
        asked.extend(positions)
        yield from encode(positions)

    np.testing.assert_array_equal(cache.get_or_compute(keys, compute), [value(n) for n in range(3)])
    assert 1 in asked
    np.testing.assert_array_equal(
        cache.get_or_compute(keys, no_encode), [value(n) for n in range(3)]
    )
    assert cache.stats().misses == len(asked)


def test_value_found_damaged_after_the_claim_is_computed(cache, sql, monkeypatch):
    store = cache._store
    claim = store.claim

    def claim_after_someone_stored_a_value_that_broke(*arguments):
        monkeypatch.setattr(store, "claim", claim)
        cache.put_many([key(0)], [value(0)])
        sql("UPDATE vectors SET payload = zeroblob(24)")
        return claim(*arguments)

    monkeypatch.setattr(store, "claim", claim_after_someone_stored_a_value_that_broke)
    np.testing.assert_array_equal(cache.get_or_compute([key(0)], encode), [value(0)])
    assert cache.stats().misses == 2
