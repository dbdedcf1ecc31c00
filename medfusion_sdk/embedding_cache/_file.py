"""The database file of a cache folder: made, opened, shared by threads, closed around forks."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from medfusion_sdk.embedding_cache import _locks as locks
from medfusion_sdk.exceptions import CacheError

FORMAT_VERSION = 1

_APPLICATION_ID = 0x6D666563
_BUSY_SECONDS = 60.0

_SCHEMA = f"""
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE items (
    key BLOB PRIMARY KEY, id INTEGER NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY, layout BLOB NOT NULL, checksum BLOB NOT NULL, payload BLOB NOT NULL
);
CREATE TABLE claims (key BLOB PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE totals (
    hits INTEGER NOT NULL, misses INTEGER NOT NULL, items INTEGER NOT NULL, bytes INTEGER NOT NULL
);
INSERT INTO totals VALUES (0, 0, 0, 0);
CREATE TRIGGER item_added AFTER INSERT ON items BEGIN
    UPDATE totals SET items = items + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER item_removed AFTER DELETE ON items BEGIN
    DELETE FROM vectors WHERE id = old.id;
    UPDATE totals SET items = items - 1, bytes = bytes - old.size;
END;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
COMMIT;
"""

_ADVICE = {
    "SQLITE_NOTADB": "it isn't an embedding cache; name another folder, or move that file away",
    "SQLITE_CORRUPT": "it is damaged; delete it, and its values are computed again",
    "SQLITE_FULL": "the disk is full; free some space, set max_bytes, or name another folder",
    "SQLITE_IOERR": "the disk failed to read or write it; check the disk and its free space",
    "SQLITE_BUSY": f"another process has held it for {_BUSY_SECONDS:.0f} seconds; let it finish",
    "SQLITE_TOOBIG": "a value is larger than 1 GB; pool it, or encode smaller items",
    "SQLITE_READONLY": "it can't be written; check its permissions, or name another folder",
    "SQLITE_CANTOPEN": "it can't be opened; check the folder's permissions, or name another one",
}


class CacheFile:
    """One SQLite database, opened at first use; one connection serves all threads of a process.

    SQLite lets one writer in at a time anyway, and every access is short: encoders never run
    while the process-wide lock is held.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Releases with another layout get another name, so they never read each other's values.
        self.path = folder / f"embeddings-v{FORMAT_VERSION}.sqlite"
        self._connections: list[sqlite3.Connection] = []
        weakref.finalize(self, _close, self._connections)
        _opened_here.add(self)

    @property
    def read_only(self) -> bool:
        """Whether values can be looked up but not added."""
        return self.path.exists() and not (
            os.access(self.path, os.W_OK) and os.access(self.folder, os.W_OK)
        )

    def close(self) -> None:
        """Close the connection; the next access opens a new one."""
        with locks.PROCESS_LOCK:
            _close(self._connections)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection, alone in this process, with errors that name the file."""
        with locks.PROCESS_LOCK, self._named_errors():
            if self.read_only:
                with closing(self._open_read_only()) as database:
                    yield database
            else:
                if not self._connections:
                    self._connections.append(self._open())
                yield self._connections[0]

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside one transaction: all of the block happens, or nothing."""
        with self.reading() as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locks.folder_lock(self.folder):
            if not self.path.exists():
                # SQLite gives its side files the mode of the main one.
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
            database = self._connect("rw")
            try:
                self._set_up(database)
                self._sweep(database)
            except BaseException:
                database.close()
                raise
        return database

    def _open_read_only(self) -> sqlite3.Connection:
        # Without a log beside it the file is complete. Somebody else may begin to write to it
        # at any time, so such a connection serves one access only.
        settled = not self.path.with_name(self.path.name + "-wal").exists()
        return self._connect("ro&immutable=1" if settled else "ro")

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )

    def _set_up(self, database: sqlite3.Connection) -> None:
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if not tables and not application:
            database.executescript(_SCHEMA)
        elif (application, version) != (_APPLICATION_ID, FORMAT_VERSION):
            raise CacheError(
                f"{self.path} is a database, but not an embedding cache of format "
                f"{FORMAT_VERSION}; name another folder, or move that file away"
            )
        # With a write-ahead log this survives a kill at any moment; a power cut may take the
        # last transactions, but never a part of one.
        database.execute("PRAGMA synchronous = NORMAL")

    def _sweep(self, database: sqlite3.Connection) -> None:
        locks.sweep_dead_owners(self.folder)
        owners = [owner for (owner,) in database.execute("SELECT DISTINCT owner FROM claims")]
        dead = [(owner,) for owner in owners if not locks.is_alive(self.folder, owner)]
        if dead:
            database.executemany("DELETE FROM claims WHERE owner = ?", dead)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except CacheError:
            raise
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            advice = [text for code, text in _ADVICE.items() if name.startswith(code)]
            said = advice[0] if advice else f"{error}; delete it if this happens again"
            raise CacheError(f"embedding cache {self.path}: {said}") from error
        except (TypeError, ValueError, OverflowError) as error:
            # A damaged row holds something of another type than its column.
            said = _ADVICE["SQLITE_CORRUPT"]
            raise CacheError(f"embedding cache {self.path}: {said}") from error
        except OSError as error:
            raise CacheError(
                f"embedding cache folder {self.folder} can't be used ({error.strerror}); "
                "check its permissions, or name another folder"
            ) from error


_opened_here: weakref.WeakSet[CacheFile] = weakref.WeakSet()


def _close(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()


def _before_fork() -> None:
    locks.PROCESS_LOCK.acquire()
    for file in list(_opened_here):
        file.close()


def _after_fork_in_child() -> None:
    locks.drop_inherited_locks()
    locks.PROCESS_LOCK.release()


if hasattr(os, "register_at_fork"):
    # SQLite's locks belong to a process: a connection must not be carried across a fork.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=locks.PROCESS_LOCK.release,
        after_in_child=_after_fork_in_child,
    )
