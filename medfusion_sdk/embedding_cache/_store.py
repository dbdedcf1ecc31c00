"""What is asked of the database file: look up, claim, put, count, evict, clear.

Every value carries a checksum over its key, type, shape and bytes: whatever doesn't match is
deleted and reported as absent.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from medfusion_sdk.embedding_cache import _locks as locks
from medfusion_sdk.embedding_cache._file import CacheFile

_KEYS_PER_QUERY = 500
# Renewing a stamp of last use is a write; one in this many seconds is exact enough.
_STAMP_SECONDS = 600
# Evicting a little more than needed keeps the next batches from evicting again.
_KEPT_BY_EVICTION = 0.9


@dataclass(frozen=True)
class CacheStats:
    """Totals of a cache folder, over all processes that used it.

    Attributes
    ----------
    hits : int
        Values served from the file.
    misses : int
        Values computed and stored: one for each item that an encoder had to encode.
    items : int
        Values in the file now.
    bytes : int
        Size of these values, in bytes; the file is larger by keys and bookkeeping.
    """

    hits: int
    misses: int
    items: int
    bytes: int


class CacheStore:
    """Queries on one cache file, safe in any thread of any process."""

    def __init__(self, folder: Path) -> None:
        self.file = CacheFile(folder)

    def fetch(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Return the sound values among the keys, and count them as hits."""
        found: dict[bytes, np.ndarray] = {}
        damaged, aged = [], []
        now = int(time.time())
        columns = "key, used, layout, checksum, payload"
        query = f"SELECT {columns} FROM items LEFT JOIN vectors USING (id) WHERE key IN "
        with self.file.reading() as database:
            # In key order neighbours share pages of the index.
            for key, used, layout, *packed in _rows(database, query, sorted(set(keys))):
                value = None if layout is None else _unpack(key, layout, *packed)
                if value is None:
                    damaged.append((key,))
                    continue
                found[key] = value
                if used < now - _STAMP_SECONDS:
                    aged.append((now, key))
        if (found or damaged) and not self.file.read_only:
            with self.file.writing() as database:
                database.executemany("DELETE FROM items WHERE key = ?", damaged)
                database.executemany("UPDATE items SET used = ? WHERE key = ?", aged)
                database.execute("UPDATE totals SET hits = hits + ?", (len(found),))
        return found

    def put(
        self, keys: Sequence[bytes], values: Iterable[np.ndarray], *, max_bytes: int | None = None
    ) -> None:
        """Store values that were computed, end the claims on them, count them as misses."""
        packed = dict(zip(keys, map(_pack, keys, values), strict=True))
        now = int(time.time())
        with self.file.writing() as database:
            for key in _stored(database, packed):
                del packed[key]
            for key, (*described, payload) in packed.items():
                if max_bytes is None or len(payload) <= max_bytes:
                    row = database.execute(
                        "INSERT INTO vectors (layout, checksum, payload) VALUES (?, ?, ?)",
                        (*described, payload),
                    ).lastrowid
                    database.execute(
                        "INSERT INTO items VALUES (?, ?, ?, ?)", (key, row, len(payload), now)
                    )
            database.executemany("DELETE FROM claims WHERE key = ?", [(key,) for key in keys])
            database.execute("UPDATE totals SET misses = misses + ?", (len(keys),))
            if max_bytes is not None:
                _evict(database, max_bytes)

    @contextmanager
    def owner(self) -> Iterator[str]:
        """Give a name to claim keys under; what isn't computed in the block is free again."""
        with self.file.reading():
            owner = locks.Owner(self.file.folder)
        try:
            yield owner.name
        finally:
            if owner.is_mine:
                try:
                    with self.file.writing() as database:
                        database.execute("DELETE FROM claims WHERE owner = ?", (owner.name,))
                finally:
                    owner.end()

    def claim(
        self, keys: Sequence[bytes], owner: str, at_most: int
    ) -> tuple[list[bytes], list[bytes]]:
        """Return which keys got stored meanwhile, and which ones the owner may now compute."""
        stored: list[bytes] = []
        claimed: list[bytes] = []
        alive = {owner: True}
        with self.file.writing() as database:
            for some in _chunks(keys):
                there = set(_stored(database, some))
                owners = dict(_rows(database, "SELECT key, owner FROM claims WHERE key IN ", some))
                for other in set(owners.values()) - alive.keys():
                    alive[other] = locks.is_alive(self.file.folder, other)
                stored += [key for key in some if key in there]
                free = (key for key in some if not alive.get(owners.get(key, ""), False))
                claimed += [key for key in free if key not in there]
                if len(claimed) >= at_most:
                    break
            del claimed[at_most:]
            database.executemany(
                "INSERT OR REPLACE INTO claims VALUES (?, ?)", [(key, owner) for key in claimed]
            )
        return stored, claimed

    def owner_of(self, key: bytes) -> str | None:
        """Return who has claimed a key."""
        with self.file.reading() as database:
            row = database.execute("SELECT owner FROM claims WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def is_alive(self, owner: str) -> bool:
        """Tell whether an owner may still compute what it claimed."""
        return locks.is_alive(self.file.folder, owner)

    def totals(self) -> CacheStats:
        """Return the counters."""
        with self.file.reading() as database:
            row = database.execute("SELECT hits, misses, items, bytes FROM totals").fetchone()
            return CacheStats(*row)  # in here, where a damaged row is told of

    def reset_counts(self) -> None:
        """Count hits and misses from zero again."""
        with self.file.writing() as database:
            database.execute("UPDATE totals SET hits = 0, misses = 0")

    def clear(self) -> None:
        """Delete all values and give their disk space back."""
        with self.file.writing() as database:
            database.execute("DELETE FROM items")
            # Damage may have parted some vectors from their items.
            database.execute("DELETE FROM vectors")
            database.execute("UPDATE totals SET hits = 0, misses = 0, items = 0, bytes = 0")
        with self.file.reading() as database:
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


_stores: weakref.WeakValueDictionary[Path, CacheStore] = weakref.WeakValueDictionary()


def shared_store(folder: Path) -> CacheStore:
    """Return this process's only store of a folder, so that copies share one connection."""
    with locks.PROCESS_LOCK:
        return _stores.setdefault(folder, CacheStore(folder))


def _pack(key: bytes, value: np.ndarray) -> tuple[bytes, bytes, bytes]:
    if value.dtype.kind != "f" or value.dtype.itemsize > 8:
        raise TypeError(
            f"an embedding cache stores float16, float32 and float64 arrays, not {value.dtype}"
        )
    layout = " ".join([value.dtype.str, *map(str, value.shape)]).encode()
    payload = value.tobytes()
    return layout, _checksum(key, layout, payload), payload


def _unpack(key: bytes, layout: bytes, checksum: bytes, payload: bytes) -> np.ndarray | None:
    if checksum != _checksum(key, layout, payload):
        return None
    return np.ndarray(*_shape_and_type(layout), payload)


@lru_cache
def _shape_and_type(layout: bytes) -> tuple[tuple[int, ...], np.dtype]:
    dtype, *shape = layout.decode().split(" ")
    return tuple(map(int, shape)), np.dtype(dtype)


def _checksum(key: bytes, layout: bytes, payload: bytes) -> bytes:
    state = hashlib.blake2b(key + layout, digest_size=8)
    state.update(payload)
    return state.digest()


def _stored(database: sqlite3.Connection, keys: Iterable[bytes]) -> list[bytes]:
    return [key for (key,) in _rows(database, "SELECT key FROM items WHERE key IN ", list(keys))]


def _rows(database: sqlite3.Connection, query: str, keys: Sequence[bytes]) -> Iterator[tuple]:
    for some in _chunks(keys):
        yield from database.execute(f"{query}({', '.join('?' * len(some))})", some)


def _chunks(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        yield keys[start : start + _KEYS_PER_QUERY]


def _evict(database: sqlite3.Connection, max_bytes: int) -> None:
    (size,) = database.execute("SELECT bytes FROM totals").fetchone()
    if size <= max_bytes:
        return
    oldest = []
    for key, freed in database.execute("SELECT key, size FROM items ORDER BY used, id"):
        oldest.append((key,))
        size -= freed
        if size <= _KEPT_BY_EVICTION * max_bytes:
            break
    database.executemany("DELETE FROM items WHERE key = ?", oldest)
