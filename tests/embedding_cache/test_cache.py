"""One process: values, counters, limits, errors, copies, threads."""

from __future__ import annotations

import copy
import os
import pickle
import sqlite3
import stat
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import BaseEstimator, clone

from medfusion_sdk.embedding_cache import CacheStats, EmbeddingCache, as_cache
from medfusion_sdk.exceptions import CacheError, MedFusionError


def key(number):
    return number.to_bytes(32, "big")


def value(number):
    return np.arange(6, dtype=np.float32).reshape(2, 3) * (number + 1)


def encode(positions):
    yield positions, np.stack([value(position) for position in positions])


def no_encode(positions):
    raise AssertionError(f"asked to compute {positions}")


class NumberEncoder(BaseEstimator):
    """The least an encoder must have for `warm`."""

    def __init__(self, cache=None):
        self.cache = cache

    def transform(self, numbers):
        def compute(positions):
            yield positions, np.stack([value(numbers[position]) for position in positions])

        return np.stack(self.cache.get_or_compute([key(n) for n in numbers], compute))


@pytest.fixture
def cache(tmp_path):
    with EmbeddingCache(tmp_path / "cache") as cache:
        yield cache


@pytest.fixture
def sql(cache):
    """Run SQL on the file behind the cache's back."""

    def sql(statement, *parameters):
        connection = sqlite3.connect(database(cache), isolation_level=None)
        rows = connection.execute(statement, parameters).fetchall()
        connection.close()
        return rows

    return sql


def database(cache):
    (path,) = cache.path.glob("*.sqlite")
    return path


# ---------------------------------------------------------------- values


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


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vectors SET payload = zeroblob(24) WHERE id = 2",
        "UPDATE vectors SET payload = substr(payload, 1, 20) WHERE id = 2",
        "UPDATE vectors SET shape = '3,2' WHERE id = 2",
        "UPDATE vectors SET dtype = '<i4' WHERE id = 2",
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


# ---------------------------------------------------------------- claims


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


# ---------------------------------------------------------------- limit, counters, warm, clear


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


def test_clear_leaves_no_bytes_of_the_values_in_the_folder(cache):
    secret = np.frombuffer(b"patient-derived!" * 64, dtype=np.float32)
    cache.put_many([key(n) for n in range(50)], [secret] * 50)
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


# ---------------------------------------------------------------- folder and files


def open_files():
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_folder_and_files_are_closed_to_other_users(cache):
    umask = os.umask(0)
    try:
        cache.get_or_compute([key(0)], encode)
        modes = {}

        def look(positions):
            modes.update({p.name: stat.S_IMODE(p.stat().st_mode) for p in cache.path.iterdir()})
            yield from encode(positions)

        cache.get_or_compute([key(1)], lambda _: look([0]))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o700
    suffixes = {name.partition(".")[2] for name in modes}
    assert suffixes == {"sqlite", "sqlite-wal", "sqlite-shm", "lock", "owner"}
    assert set(modes.values()) == {0o600}


def test_closing_leaves_no_open_file_and_no_log(cache):
    before = open_files()
    cache.get_or_compute([key(0)], encode)
    assert open_files() > before
    cache.close()
    assert open_files() == before
    assert not list(cache.path.glob("*-wal"))


def test_copies_share_one_connection(cache):
    cache.stats()
    before = open_files()
    others = [pickle.loads(pickle.dumps(cache)) for _ in range(5)]
    assert [other.stats() for other in others] == [cache.stats()] * 5
    assert open_files() == before


def test_file_that_is_no_database_raises_error_that_names_it(cache):
    cache.stats()
    cache.close()
    database(cache).write_bytes(b"something else entirely" * 100)
    with pytest.raises(CacheError, match=r"embeddings-v1\.sqlite: it isn't an embedding cache"):
        cache.get_many([key(0)])
    assert database(cache).read_bytes().startswith(b"something else")


@pytest.mark.parametrize("statement", ["CREATE TABLE other (x)", "PRAGMA user_version = 7"])
def test_database_of_another_program_or_format_is_refused(cache, sql, statement):
    cache.path.mkdir()
    (cache.path / "embeddings-v1.sqlite").touch()
    if "PRAGMA" in statement:
        cache.stats()
        cache.close()
    sql(statement)
    with pytest.raises(CacheError, match="not an embedding cache of format 1"):
        cache.get_many([key(0)])


def test_damaged_file_raises_error_that_says_what_to_do(cache):
    cache.put_many([key(n) for n in range(200)], [value(n) for n in range(200)])
    cache.close()
    path = database(cache)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"is damaged; delete it"):
        cache.get_or_compute([key(n) for n in range(200)], encode)


def test_full_disk_raises_error_and_keeps_what_is_stored(cache):
    cache.put_many([key(0)], [value(0)])
    with cache._store.file.reading() as connection:
        connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(CacheError, match="the disk is full; free some space"):
        cache.put_many([key(1)], [np.zeros(100_000)])
    np.testing.assert_array_equal(cache.get_many([key(0)]), [value(0)])
    assert cache.stats().items == 1


def test_path_of_a_file_raises_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CacheError, match=r"folder .*file can't be used"):
        EmbeddingCache(tmp_path / "file").stats()
    with pytest.raises(CacheError, match=r"folder .*below can't be used"):
        EmbeddingCache(tmp_path / "file" / "below").stats()


def test_cache_error_is_ours_and_an_os_error():
    assert issubclass(CacheError, MedFusionError)
    assert issubclass(CacheError, OSError)


# ---------------------------------------------------------------- as a parameter


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
        clone(NumberEncoder(cache)).cache,
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
