"""What was read of large files, such as weights, for as long as they surely haven't changed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from medfusion_sdk.exceptions import WeightsError

__all__ = ["FileMemo", "FileStamp", "file_sha256", "file_stamp"]

# Blocks of a file that its stamp looks at, and the coarsest tick of a file system's clock (FAT).
_SAMPLES, _SAMPLE_BYTES = 16, 4096
_TICK_NS = 2_000_000_000

Value = TypeVar("Value")


class FileStamp(NamedTuple):
    """What tells a file from another under its name, without reading it whole.

    Attributes
    ----------
    path : str
        Absolute path.
    device, inode, size : int
        Where it lies on the disk, and its bytes.
    modified, changed : int
        Nanoseconds. A copy may bring the first with it; on POSIX systems nobody sets the second,
        elsewhere it is the time of creation.
    sample : bytes
        Digest of some blocks from head to tail, for file systems with coarse or copied times.
    """

    path: str
    device: int
    inode: int
    size: int
    modified: int
    changed: int
    sample: bytes


def file_stamp(path: Path) -> FileStamp:
    """Stamp a file.

    Parameters
    ----------
    path : Path
        An existing file.

    Returns
    -------
    FileStamp
        Of the file that was opened: on a network drive opening it asks the server anew.

    Raises
    ------
    WeightsError
        If it can't be read.
    """
    state = hashlib.sha256()
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            for i in range(_SAMPLES):
                file.seek(i * max(0, status.st_size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                state.update(file.read(_SAMPLE_BYTES))
    except OSError as cause:
        raise WeightsError(f"{path} can't be read: {cause.strerror}.") from cause
    place = (os.path.abspath(path), status.st_dev, status.st_ino, status.st_size)
    return FileStamp(*place, status.st_mtime_ns, status.st_ctime_ns, state.digest())


class FileMemo(Generic[Value]):
    """Values read of files, remembered by the files' stamps.

    Parameters
    ----------
    most : int
        Values to remember; the oldest goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[tuple[str, Hashable], tuple[FileStamp, Value]] = {}

    def get(self, path: Path, read: Callable[[], Value], *, part: Hashable = None) -> Value:
        """Return what `read` makes of a file, from memory where the file is the same.

        Parameters
        ----------
        path : Path
            An existing file.
        read : callable
            Reads it.
        part : hashable, optional
            What of it is read.

        Returns
        -------
        object
            What `read` returned, now or before.

        Raises
        ------
        WeightsError
            If the file can't be read.
        """
        before = time.time_ns()
        stamp = file_stamp(path)
        place = (stamp.path, part)
        known = self._known.get(place)
        if known is not None and known[0] == stamp:
            return known[1]
        value = read()
        self._known.pop(place, None)
        # A change within the same tick of the file system's clock as this reading would leave the
        # times as they are, so what changed just now is read again next time.
        if max(stamp.modified, stamp.changed) < before - _TICK_NS and file_stamp(path) == stamp:
            for oldest in list(self._known)[: len(self._known) + 1 - self._most]:
                self._known.pop(oldest, None)
            self._known[place] = stamp, value
        return value


_digests: FileMemo[str] = FileMemo(1 << 12)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read whole again only where it may have changed.

    It may have where its :class:`FileStamp` differs, or where it had changed within two seconds
    before it was last read.

    Parameters
    ----------
    path : Path
        An existing file.

    Returns
    -------
    str
        Hexadecimal digest.

    Raises
    ------
    WeightsError
        If the file can't be read.
    """

    def read() -> str:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as cause:
            raise WeightsError(f"{path} can't be read: {cause.strerror}.") from cause

    return _digests.get(path, read)
