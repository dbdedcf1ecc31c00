"""Volumes as an adapter gets them: brought to one size and read batch by batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from medfusion_sdk.encoders.base import BaseEncoder, _Run
from medfusion_sdk.encoders.volume import VOLUME_READING
from medfusion_sdk.exceptions import CellError, VolumeError
from medfusion_sdk.readers.cells import Column
from medfusion_sdk.readers.resampling import resample
from medfusion_sdk.readers.volume import ORIENTATION, read_volume, volume_digest

__all__ = ["VolumeInputs"]

# Where all volumes of a column take no more, they are kept instead of read anew for each batch.
KEPT_BYTES = 1 << 29
_AT_ONCE = 8


class VolumeInputs(BaseEncoder):
    """Read volumes and bring them to one size, in half precision.

    Values from 0 to 1 are rounded by 1/4096 at most. They depend on nothing that is trained: where
    a cache is given they are kept there, and reading one again for each epoch is a look-up.

    Parameters
    ----------
    size : three ints, optional
        Depth, height and width; by default each volume's own.
    own_size : three ints, optional
        What a volume must have before it is brought to `size`; anything by default.
    spacing, orientation, max_nan, on_error, cache
        As in :class:`VolumeEncoder`.
    """

    missing = "nan"

    def __init__(
        self,
        size: Sequence[int] | None = None,
        *,
        own_size: Sequence[int] | None = None,
        spacing: float | Sequence[float] | None = None,
        orientation: str | None = ORIENTATION,
        max_nan: float = 0.0,
        on_error: str = "raise",
        cache: Any = None,
    ) -> None:
        self.size = size
        self.own_size = own_size
        self.spacing = spacing
        self.orientation = orientation
        self.max_nan = max_nan
        self.on_error = on_error
        self.cache = cache

    def first_size(self, column: Column) -> tuple[int, ...] | None:
        """Read volumes until one is found that can be, for its size.

        Parameters
        ----------
        column : Column
            Volumes.

        Returns
        -------
        tuple of int or None
            Depth, height and width; None where there is no volume.
        """
        for row in column.present:
            try:
                return self.read_cell(column.cells[row]).shape
            except CellError as error:
                if self.on_error == "raise":
                    raise error.located(column.rows[row], column.name) from error
        return None

    def survey(self, column: Column) -> tuple[np.ndarray, np.ndarray | None]:
        """Read every volume once, so that a bad one is told of before anything is computed.

        Parameters
        ----------
        column : Column
            Volumes.

        Returns
        -------
        present : ndarray of shape (n,), bool
            Rows with a volume that can be used.
        kept : ndarray of shape (n, D, H, W), float16, or None
            The volumes, zero where there is none; None where together they are too large to keep.
        """
        whole = _Run(self, column)
        present = np.zeros(len(column), dtype=bool)
        present[column.present] = True
        values = len(column) * int(np.prod(self._size))
        kept = (
            np.zeros((len(column), *self._size), np.float16) if 2 * values <= KEPT_BYTES else None
        )
        for start in range(0, len(column.present), _AT_ONCE):
            rows = column.present[start : start + _AT_ONCE]
            volumes, errors = self._read_rows(column, rows)
            whole.errors |= {rows[position]: error for position, error in errors.items()}
            if kept is not None:
                kept[rows] = volumes
        present[list(whole.errors)] = False
        self.errors_ = whole.report()
        return present, kept

    def read(self, column: Column, rows: Sequence[int]) -> np.ndarray:
        """Read some volumes that a survey has found usable.

        Parameters
        ----------
        column : Column
            Volumes.
        rows : sequence of int
            Which of them.

        Returns
        -------
        ndarray of shape (len(rows), D, H, W), float16
            Zero where there is none.

        Raises
        ------
        CellError
            If one can't be read any more.
        """
        there = [i for i, row in enumerate(rows) if column.cells[row] is not None]
        volumes = np.zeros((len(rows), *self._size), dtype=np.float16)
        volumes[there], errors = self._read_rows(column, [rows[i] for i in there])
        for error in errors.values():
            raise error
        return volumes

    def read_cell(self, cell: Any) -> np.ndarray:
        """Read one volume.

        Parameters
        ----------
        cell : str, Path, ndarray or list
            As for :func:`~medfusion_sdk.readers.volume.read_volume`.

        Returns
        -------
        ndarray of shape (D, H, W), float32
            From 0 to 1.

        Raises
        ------
        VolumeError
            If it can't be read, or hasn't the size that it must have.
        """
        options = {name: getattr(self, name) for name in VOLUME_READING}
        if self.own_size is None:
            return read_volume(cell, size=self.size, **options)
        volume = read_volume(cell, **options)
        if volume.shape != tuple(self.own_size):
            raise VolumeError(
                f"expected {tuple(self.own_size)} voxels as in the first volume, found "
                f"{volume.shape}. Set volume_size= to bring volumes to one size."
            )
        return resample(volume, self._size)

    @property
    def _size(self) -> tuple[int, ...]:
        assert self.size is not None
        return tuple(self.size)

    def _read_rows(
        self, column: Column, rows: Sequence[int]
    ) -> tuple[np.ndarray, dict[int, CellError]]:
        """Volumes of rows that have a cell, and what is wrong with which of them."""
        cells = [column.cells[row] for row in rows]
        run = _Run(self, Column(cells, [column.rows[row] for row in rows], column.name))
        run.collect_items()
        volumes = np.zeros((len(rows), *self._size), dtype=np.float16)
        for positions, volume in zip(run.positions, run.vectors(), strict=True):
            if volume is not None:
                volumes[positions] = volume
        return volumes, run.errors

    # -- what BaseEncoder asks for ------------------------------------------------------------

    def _configuration(self) -> dict[str, Any]:
        return {
            "size": list(self._size),
            "own_size": None if self.own_size is None else list(self.own_size),
            "spacing": None if self.spacing is None else np.broadcast_to(self.spacing, 3).tolist(),
            "orientation": self.orientation,
            "max_nan": self.max_nan,
        }

    def _weights_fingerprint(self) -> str:
        return "read 2"

    def _n_features(self) -> int:
        return int(np.prod(self._size))

    def _item_digest(self, cell: Any) -> bytes:
        if self.cache is not None:
            return volume_digest(cell)
        # Nothing is kept: which cell it is says enough, and its content isn't read twice.
        if isinstance(cell, str | os.PathLike):
            return os.fsencode(cell)
        return id(cell).to_bytes(8, "little")

    def _encode(
        self, cells: Sequence[Any], run: _Run
    ) -> Iterable[tuple[Sequence[int], np.ndarray]]:
        for position, cell in enumerate(cells):
            try:
                yield [position], self.read_cell(cell)[None].astype(np.float16)
            except CellError as error:
                run.bad(position, error)
