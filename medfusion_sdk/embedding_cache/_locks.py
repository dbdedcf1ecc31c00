"""Who is alive: lock files that the kernel lets go of when their holder dies, however it dies.

A claim on a cache key has to end with its owner. Process ids are recycled and mean nothing in
another container; a lease needs a clock and a guess at how long a batch may take. A lock on an
open file needs neither: a SIGKILL ends it at once.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, wait: bool) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


# Held for every file operation of every cache in this process, and by whoever forks: a fork
# then copies no half-done transaction, no open connection and no lock that is held for a moment.
PROCESS_LOCK = threading.RLock()

_SUFFIX = ".owner"
_held: set[int] = set()


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep everyone else from setting up or sweeping the folder meanwhile."""
    with PROCESS_LOCK:
        descriptor = _open(folder / "folder.lock")
        try:
            _lock(descriptor, wait=True)
            yield
        finally:
            os.close(descriptor)


class Owner:
    """A name to claim keys under; the others see it alive until it ends or its process does."""

    def __init__(self, folder: Path) -> None:
        self._process = os.getpid()
        self.name = f"{self._process}-{secrets.token_hex(8)}"
        self._path = folder / (self.name + _SUFFIX)
        with folder_lock(folder):
            self._descriptor = _open(self._path)
            _lock(self._descriptor, wait=False)
            _held.add(self._descriptor)

    @property
    def is_mine(self) -> bool:
        """Whether this is the process that claims, not a forked child of it."""
        return os.getpid() == self._process

    def end(self) -> None:
        """Let go, which voids all claims under this name."""
        with PROCESS_LOCK:
            _held.remove(self._descriptor)
            os.close(self._descriptor)
            self._path.unlink(missing_ok=True)


def is_alive(folder: Path, owner: str) -> bool:
    """Tell whether an owner still holds its lock; the file of a dead one is removed."""
    path = folder / (owner + _SUFFIX)
    with PROCESS_LOCK:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            _lock(descriptor, wait=False)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        path.unlink(missing_ok=True)
    return False


def sweep_dead_owners(folder: Path) -> None:
    """Remove what killed owners left behind; call under :func:`folder_lock`."""
    for path in folder.glob("*" + _SUFFIX):
        is_alive(folder, path.name.removesuffix(_SUFFIX))


def drop_inherited_locks() -> None:
    """Close a forked child's copies of its parent's locks: they would outlive the parent."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


def _open(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
