"""The folder and its files: permissions, handles, damage, errors that help."""

from __future__ import annotations

import os
import pickle
import sqlite3
import stat

import numpy as np
import pytest

from medfusion_sdk.embedding_cache import EmbeddingCache
from medfusion_sdk.exceptions import CacheError, MedFusionError
from tests.embedding_cache.actors import open_files
from tests.embedding_cache.items import encode, key, value


def database(cache):
    (path,) = cache.path.glob("*.sqlite")
    return path


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


def test_value_too_large_for_the_store_raises_error_and_stores_nothing(cache):
    with cache._store.file.reading() as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2000)
    with pytest.raises(CacheError, match="larger than 1 GB; pool it"):
        cache.put_many([key(0), key(1)], [value(0), np.zeros(1000)])
    assert cache.stats().items == 0


def test_path_of_a_file_raises_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CacheError, match=r"folder .*file can't be used"):
        EmbeddingCache(tmp_path / "file").stats()
    with pytest.raises(CacheError, match=r"folder .*below can't be used"):
        EmbeddingCache(tmp_path / "file" / "below").stats()


def test_cache_error_is_ours_and_an_os_error():
    assert issubclass(CacheError, MedFusionError)
    assert issubclass(CacheError, OSError)
