"""Damaged cache files: sound values, absent ones, or a CacheError that names the file."""

from __future__ import annotations

import os
import sqlite3

import numpy as np
import pytest

from medfusion_sdk import EmbeddingCache
from medfusion_sdk.exceptions import CacheError
from tests.damage import damaged

KEYS = [bytes([i]) * 8 for i in range(40)]


def fill(folder):
    """Write a cache of forty values and return its file, settled."""
    with EmbeddingCache(folder) as cache:
        cache.put_many(KEYS, [np.full(24, i, np.float32) for i in range(len(KEYS))])
        path = cache._store.file.path
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()
    return path


def use(folder):
    """Everything that a cache is asked for; values have to be those that were stored."""
    with EmbeddingCache(folder) as cache:
        found = cache.get_many(KEYS)
        for i, value in enumerate(found):
            assert value is None or np.array_equal(value, np.full(24, i, np.float32))
        again = cache.get_or_compute(
            KEYS, lambda positions: [(positions, np.array([[p] * 24 for p in positions], "f4"))]
        )
        np.testing.assert_array_equal(again, np.repeat(np.arange(40.0)[:, None], 24, axis=1))
        cache.stats()
        cache.clear()


def test_damaged_file_gives_sound_values_or_a_typed_error(tmp_path):
    path = fill(tmp_path)
    content, refused = path.read_bytes(), []
    for variant in damaged(content, 120, seed=1):
        for beside in tmp_path.iterdir():
            beside.unlink()
        path.write_bytes(variant)
        try:
            use(tmp_path)
        except CacheError as told:
            refused.append(str(told))
    assert len(refused) > 30
    assert all(str(tmp_path) in message for message in refused)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vectors SET payload = 'text' WHERE id < 9",
        "UPDATE vectors SET checksum = 3",
        "UPDATE vectors SET layout = 'x'",
        "UPDATE items SET used = 'never'",
        "UPDATE items SET size = 'large'",
        "UPDATE totals SET bytes = 'many'",
        "DELETE FROM totals",
        "DROP TABLE claims",
        "DROP TABLE items",
        "INSERT INTO claims VALUES (x'00', 'nobody/../../..')",
    ],
)
def test_row_of_another_type_is_a_typed_error_or_no_value(tmp_path, damage):
    path = fill(tmp_path)
    with sqlite3.connect(path) as database:
        database.execute(damage)
    database.close()
    told = None
    try:
        use(tmp_path)
    except CacheError as error:
        told = str(error)
    assert told is None or path.name in told


@pytest.mark.parametrize("kind", ["folder", "pipe", "text", "empty", "short"])
def test_something_else_in_place_of_the_file_is_a_typed_error_or_a_new_cache(tmp_path, kind):
    path = fill(tmp_path)
    content = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes({"text": b"notes" * 300, "empty": b"", "short": content[:50]}[kind])
    if kind == "empty":
        use(tmp_path)
        return
    with pytest.raises(CacheError, match=path.name):
        use(tmp_path)


def test_file_in_place_of_the_folder_is_a_typed_error(tmp_path):
    (tmp_path / "cache").write_text("notes")
    with pytest.raises(CacheError, match="cache"):
        use(tmp_path / "cache")
