"""Digests of an item's content: the half of a cache key that doesn't depend on the encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from medfusion_sdk.exceptions import CellError

__all__ = ["array_digest", "files_digest", "text_digest"]

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


def files_digest(paths: Iterable[Path], error: type[CellError] = CellError) -> bytes:
    """Digest of the contents of the files that make one item, in the order given.

    Every file is read each time: one that was unpacked over another may have its size, its times
    and even its place on the disk.

    Parameters
    ----------
    paths : iterable of Path
        For a WFDB record its header and signal files.
    error : type, default=CellError
        Class of the error for a file that can't be read.

    Returns
    -------
    bytes
        32 bytes; names and places of the files don't enter, their endings do, since they decide
        how a file is decoded.

    Raises
    ------
    CellError
        (of class `error`) If a file can't be read.
    """
    parts: list[bytes] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as cause:
            raise error(f"{path} can't be read: {cause.strerror}.") from cause
        parts += [path.suffix.lower().encode(), content]
    return _digest(b"files", *parts)


def _digest(kind: bytes, *parts: bytes | memoryview) -> bytes:
    state = hashlib.blake2b(digest_size=_SIZE, person=kind)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()
