"""Digests of an item's content: the half of a cache key that doesn't depend on the encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

__all__ = ["array_digest", "file_sha256", "files_digest", "text_digest"]

_SIZE = 32


def text_digest(text: str) -> bytes:
    """Digest of a text's UTF-8 bytes.

    Parameters
    ----------
    text : str
        Any text; lone surrogates, which UTF-8 has no bytes for, are kept apart from "?".

    Returns
    -------
    bytes
        32 bytes.

    Examples
    --------
    >>> text_digest("a") == text_digest("a"), text_digest("a") == text_digest("b")
    (True, False)
    """
    return _digest(b"text", text.encode("utf-8", errors="surrogatepass"))


def array_digest(array: np.ndarray) -> bytes:
    """Digest of an array's dtype, shape and bytes, whatever its memory layout.

    Parameters
    ----------
    array : ndarray
        A numeric array.

    Returns
    -------
    bytes
        32 bytes.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.arange(6.0).reshape(2, 3)
    >>> array_digest(a) == array_digest(np.asfortranarray(a)), array_digest(a) == array_digest(a.T)
    (True, False)
    """
    header = f"{array.dtype.str}{array.shape}".encode()
    return _digest(b"array", header, np.ascontiguousarray(array).data.cast("B"))


def files_digest(paths: Iterable[Path]) -> bytes:
    """Digest of the contents of the files that make one item, in the order given.

    Parameters
    ----------
    paths : iterable of Path
        For a WFDB record its header and signal files.

    Returns
    -------
    bytes
        32 bytes; names and places of the files don't enter.
    """
    return _digest(b"files", *(bytes.fromhex(file_sha256(path)) for path in paths))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, memoised by path, size and modification time.

    Parameters
    ----------
    path : Path
        An existing file.

    Returns
    -------
    str
        Hexadecimal digest.
    """
    status = path.stat()
    return _file_sha256((path.absolute(), status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1 << 16)
def _file_sha256(version: tuple[Path, int, int]) -> str:
    with version[0].open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(kind: bytes, *parts: bytes | memoryview) -> bytes:
    state = hashlib.blake2b(digest_size=_SIZE, person=kind)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()
