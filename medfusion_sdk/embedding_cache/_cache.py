"""The public face of the cache."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from medfusion_sdk.embedding_cache._request import Compute, Request
from medfusion_sdk.embedding_cache._store import CacheStats, shared_store


class EmbeddingCache:
    """Values on disk under content digests, computed once by all processes of a machine together.

    Parameters
    ----------
    path : str or os.PathLike
        Folder of the cache, on a local disk. It is made at first use, readable by its owner
        alone (mode 0700): embeddings are derived from patients' data. A relative path is
        settled against the working directory now, ``~`` is the home directory.
    max_bytes : int, optional
        Limit on the size of the stored values. Beyond it the values that were used longest ago
        are deleted until nine tenths of the limit are left; a value's stamp of last use is
        renewed at most every ten minutes, equal stamps go in order of storage. A value larger
        than the limit isn't stored. By default there is no limit.

    Attributes
    ----------
    path : pathlib.Path
        The folder, absolute.
    max_bytes : int or None
        The limit.

    See Also
    --------
    as_cache : Turn the ``cache`` parameter of an encoder into a cache.

    Notes
    -----
    The constructor touches no file. The file is opened at first use, by each process for
    itself; objects of one process with the same path share one connection. Copies and pickles
    carry the path and the limit, so a cache travels through ``clone`` and into workers.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from medfusion_sdk.embedding_cache import EmbeddingCache
    >>> def encode(positions):
    ...     print("encoding", positions)
    ...     yield positions, np.ones((len(positions), 3), dtype=np.float32)
    >>> with tempfile.TemporaryDirectory() as folder, EmbeddingCache(folder) as cache:
    ...     _ = cache.get_or_compute([b"first", b"second"], encode)
    ...     _ = cache.get_or_compute([b"second", b"third"], encode)
    ...     print(cache.stats())
    encoding [0, 1]
    encoding [1]
    CacheStats(hits=1, misses=3, items=3, bytes=36)
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int | None = None) -> None:
        if max_bytes is not None and max_bytes <= 0:
            raise ValueError(f"max_bytes must be positive or None, got {max_bytes}")
        self.path = Path(os.path.abspath(Path(path).expanduser()))
        self.max_bytes = max_bytes
        self._store = shared_store(self.path)
        self._n_computed = 0

    def get_or_compute(self, keys: Sequence[bytes], compute: Compute) -> list[np.ndarray | None]:
        """Return a value for each key, computing and storing those that no one has computed yet.

        Each missing key is claimed first, so that of several processes and threads one computes
        it and the others wait for its value. When the one dies, fails or gives up, another one
        takes over.

        Parameters
        ----------
        keys : sequence of bytes
            Digests, each once.
        compute : callable
            ``compute(positions)`` gets positions in `keys` and yields pairs of some of these
            positions and an array with one row for each. Every pair is stored at once, in one
            transaction. It is called for up to 512 keys at a time, never twice for one key.

        Returns
        -------
        list of (ndarray or None)
            Read-only arrays in the order of `keys`; None where `compute` yielded nothing.

        Raises
        ------
        CacheError
            If the file can't be opened, read or written.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, EmbeddingCache(folder) as cache:
        ...     cache.get_or_compute([b"a", b"b"], lambda positions: [([1], np.ones((1, 2)))])
        [None, array([1., 1.])]
        """
        request = Request(self._store, keys, compute, max_bytes=self.max_bytes)
        request.serve()
        self._n_computed += request.n_computed
        return request.values

    def get_many(self, keys: Sequence[bytes]) -> list[np.ndarray | None]:
        """Look values up.

        Parameters
        ----------
        keys : sequence of bytes
            Digests.

        Returns
        -------
        list of (ndarray or None)
            Read-only arrays in the order of `keys`; None for those that aren't stored.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, EmbeddingCache(folder) as cache:
        ...     cache.put_many([b"a"], [np.zeros(2, dtype=np.float32)])
        ...     cache.get_many([b"a", b"b"])
        [array([0., 0.], dtype=float32), None]
        """
        found = self._store.fetch(keys)
        return [found.get(key) for key in keys]

    def put_many(self, keys: Sequence[bytes], arrays: Sequence[np.ndarray]) -> None:
        """Store values in one transaction; a key that is there keeps the value it has.

        Parameters
        ----------
        keys : sequence of bytes
            Digests.
        arrays : sequence of ndarray
            As many arrays of float16, float32 or float64, each of any shape.

        Raises
        ------
        TypeError
            If an array has another type.
        CacheError
            If the file can't be written.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, EmbeddingCache(folder) as cache:
        ...     cache.put_many([b"a"], [np.ones((2, 3), dtype=np.float16)])
        ...     cache.stats().bytes
        12
        """
        self._store.put(keys, [np.asarray(array) for array in arrays], max_bytes=self.max_bytes)

    def warm(self, encoder: Any, column: Any) -> int:
        """Encode a column ahead of its use.

        Parameters
        ----------
        encoder : transformer
            Any encoder with a ``cache`` parameter. It isn't changed, a copy of it is used.
        column : column of a cohort table
            What ``encoder.transform`` takes.

        Returns
        -------
        int
            How many items had to be encoded.

        Examples
        --------
        >>> import tempfile
        >>> from sklearn.base import BaseEstimator
        >>> class Lengths(BaseEstimator):
        ...     def __init__(self, cache=None):
        ...         self.cache = cache
        ...     def transform(self, texts):
        ...         keys = [text.encode() for text in texts]
        ...         def encode(positions):
        ...             yield positions, np.array([[len(texts[p])] for p in positions], float)
        ...         return np.stack(self.cache.get_or_compute(keys, encode))
        >>> with tempfile.TemporaryDirectory() as folder, EmbeddingCache(folder) as cache:
        ...     cache.warm(Lengths(), ["one", "three"]), cache.warm(Lengths(), ["two", "three"])
        (2, 1)
        """
        counting = EmbeddingCache(self.path, max_bytes=self.max_bytes)
        # A shallow copy and not a clone: an encoder that was fitted stays fitted.
        copy.copy(encoder).set_params(cache=counting).transform(column)
        return counting._n_computed

    def stats(self) -> CacheStats:
        """Count hits, misses, items and bytes.

        Returns
        -------
        CacheStats
            The totals of all processes since the cache was made, cleared or reset.
        """
        return self._store.totals()

    def reset_stats(self) -> None:
        """Count hits and misses from zero again; the values stay."""
        self._store.reset_counts()

    def clear(self) -> None:
        """Delete all values, give their disk space back and count from zero again."""
        self._store.clear()

    def close(self) -> None:
        """Close the file; the next use opens it again. A forgotten cache closes by itself."""
        self._store.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        limit = "" if self.max_bytes is None else f", max_bytes={self.max_bytes}"
        return f"{type(self).__name__}({str(self.path)!r}{limit})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EmbeddingCache):
            return NotImplemented
        return (self.path, self.max_bytes) == (other.path, other.max_bytes)

    def __hash__(self) -> int:
        return hash((self.path, self.max_bytes))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The values live on disk: a copy of this object could only be the same cache again.
        return self

    # Both ways by state, which is what skops stores of an object: no connection goes along.
    def __getstate__(self) -> dict[str, Any]:
        return {"path": str(self.path), "max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], max_bytes=state["max_bytes"])  # type: ignore[misc]


def as_cache(cache: str | os.PathLike[str] | EmbeddingCache | None) -> EmbeddingCache | None:
    """Turn the ``cache`` parameter of an encoder into a cache.

    Parameters
    ----------
    cache : str, os.PathLike, EmbeddingCache or None
        A folder, a cache, or None for no cache.

    Returns
    -------
    EmbeddingCache or None
        The cache.

    Raises
    ------
    TypeError
        If `cache` is something else.

    Examples
    --------
    >>> as_cache("/data/embeddings")
    EmbeddingCache('/data/embeddings')
    """
    if cache is None or isinstance(cache, EmbeddingCache):
        return cache
    if isinstance(cache, str | os.PathLike):
        return EmbeddingCache(cache)
    raise TypeError(
        f"cache must be a folder, an EmbeddingCache or None, got {type(cache).__name__}"
    )
