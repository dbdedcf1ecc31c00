"""One call of ``get_or_compute``: look up, share the work with other processes, wait for theirs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from medfusion_sdk.embedding_cache._store import CacheStore

Compute = Callable[[list[int]], Iterable[tuple[Sequence[int], np.ndarray]]]

# Processes share the work on one column in rounds of this many keys. Larger rounds batch better
# by length, smaller ones leave less to wait for at the end.
_KEYS_PER_ROUND = 512
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1


class Request:
    """What was asked for, what has arrived, and what is still waited for.

    Attributes
    ----------
    values : list of (ndarray or None)
        Read-only arrays in the order of the keys.
    n_computed : int
        How many of them were computed here.
    """

    def __init__(
        self, store: CacheStore, keys: Sequence[bytes], compute: Compute, *, max_bytes: int | None
    ) -> None:
        self.values: list[np.ndarray | None] = [None] * len(keys)
        self.n_computed = 0
        self._store = store
        self._keys = keys
        self._compute = compute
        self._max_bytes = max_bytes
        self._waiting = {key: position for position, key in enumerate(keys)}
        if len(self._waiting) != len(keys):
            raise ValueError(f"{len(keys) - len(self._waiting)} of {len(keys)} keys are repeated")

    def serve(self) -> None:
        """Fill in the values, computing what nobody else has computed or is computing."""
        self._fetch(self._keys)
        if self._store.file.read_only:
            for positions, rows in self._batches(list(self._waiting.values())):
                self._place(positions, rows)
            return
        while self._waiting:
            # Waiting happens outside an owner's block: no two wait for each other's claims.
            with self._store.owner() as owner:
                stored, claimed = self._store.claim(list(self._waiting), owner, _KEYS_PER_ROUND)
                for positions, rows in self._batches([self._waiting.pop(key) for key in claimed]):
                    keys = [self._keys[position] for position in positions]
                    self._store.put(keys, rows, max_bytes=self._max_bytes)
                    self._place(positions, rows)
            self._fetch(stored)
            if not stored and not claimed:
                self._wait()

    def _fetch(self, keys: Sequence[bytes]) -> None:
        for key, value in self._store.fetch(keys).items():
            self.values[self._waiting.pop(key)] = value

    def _place(self, positions: Sequence[int], rows: Sequence[np.ndarray]) -> None:
        self.n_computed += len(positions)
        for position, row in zip(positions, rows, strict=True):
            self.values[position] = row

    def _batches(self, positions: list[int]) -> Iterator[tuple[Sequence[int], list[np.ndarray]]]:
        if not positions:
            return
        asked = set(positions)
        for done, array in self._compute(positions):
            # A copy, because an encoder may use its output buffer again.
            batch = np.array(array, order="C")
            if batch.ndim == 0 or len(batch) != len(done) or not asked.issuperset(done):
                raise ValueError(
                    f"compute must yield positions it was asked for and a row for each, got "
                    f"positions {list(done)} with an array of shape {batch.shape}"
                )
            asked.difference_update(done)
            batch.flags.writeable = False
            # The ellipsis keeps a row without dimensions an array.
            yield done, [batch[row, ...] for row in range(len(done))]

    def _wait(self) -> None:
        pause = _FIRST_PAUSE
        for key in self._waiting:
            while (owner := self._store.owner_of(key)) is not None:
                if not self._store.is_alive(owner):
                    return
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
