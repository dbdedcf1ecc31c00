"""Voxels of any real type as floats from 0 to 1, scaled piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from medfusion_sdk.exceptions import VolumeError

__all__ = ["ScaledVoxels", "pieces"]

# Voxels that are scaled at once; each takes some 20 bytes meanwhile.
_AT_ONCE = 1 << 21
_MOST = float(np.finfo(np.float32).max)


class ScaledVoxels:
    """A volume less its minimum, over its range, as float32; computed for what is asked for alone.

    Differences are exact for integers and taken in double precision for floats, so that a large
    offset costs nothing.

    Parameters
    ----------
    stored : ndarray of shape (D, H, W)
        Real numbers of any type and byte order.
    what : str
        The item, for messages.
    slope, intercept : float
        What stored numbers mean. The range from 0 to 1 doesn't depend on them but for the slope's
        sign; they are checked.
    max_nan : float
        Share of voxels that may be NaN; they become 0.

    Raises
    ------
    VolumeError
        For infinities, a range beyond float32, and too many NaN.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        stored: np.ndarray,
        what: str,
        *,
        slope: float = 1.0,
        intercept: float = 0.0,
        max_nan: float = 0.0,
    ) -> None:
        self.shape = stored.shape
        self._stored = stored
        self._falls = slope < 0
        lows: list[Any] = []
        highs: list[Any] = []
        n_absent = 0
        for piece in pieces(self.shape):
            part = stored[piece]
            absent = int(np.isnan(part).sum()) if part.dtype.kind == "f" else 0
            n_absent += absent
            if absent < part.size:
                lows.append(np.fmin.reduce(part, axis=None))
                highs.append(np.fmax.reduce(part, axis=None))
        share = n_absent / stored.size
        self._low = min(lows, default=np.float64(0))
        self._high = max(highs, default=np.float64(0))
        # Infinities are told of first: they are no missing voxels.
        self._check_range(what, slope, intercept)
        if share > max_nan or not lows:
            raise VolumeError(
                f"{what}: {share:.2%} of its voxels are NaN, {max_nan:.2%} may be. Raise max_nan "
                "if they are background, or count such a cell as missing."
            )
        self._holed = n_absent > 0

    def _check_range(self, what: str, slope: float, intercept: float) -> None:
        ends = [slope * float(end) + intercept for end in (self._low, self._high)]
        if not all(abs(value) <= _MOST for value in (*ends, ends[1] - ends[0])):
            raise VolumeError(f"{what} has infinite voxels, or a range beyond float32.")

    def __getitem__(self, index: Any) -> np.ndarray:
        """Scale a part.

        Parameters
        ----------
        index : slices or int
            As for an array.

        Returns
        -------
        ndarray, float32
            From 0 to 1; all 0 in a constant volume.
        """
        stored = self._stored[index]
        scaled = np.empty(stored.shape, dtype=np.float32)
        for piece in pieces(stored.shape):
            scaled[piece] = self._scale(stored[piece])
        return scaled

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[...].astype(dtype or np.float32, copy=False)

    def _scale(self, part: np.ndarray) -> np.ndarray:
        low, high = (self._high, self._low) if self._falls else (self._low, self._high)
        if part.dtype.kind in "iu":
            # In whole numbers that wrap around: the distance from the lowest is exact.
            start = np.array(self._low).astype(np.uint64)
            risen = (part.astype(np.uint64) - start).astype(np.float64)
            span = float(int(self._high) - int(self._low))
            unit = risen / (span or 1.0)
            return 1.0 - unit if self._falls and span else unit
        span = float(high) - float(low)
        unit = (part.astype(np.float64) - float(low)) / (span or 1.0)
        if self._holed:
            unit[np.isnan(unit)] = 0.0
        return unit


def pieces(shape: Sequence[int], most: int = _AT_ONCE) -> Iterator[tuple[slice, ...]]:
    """Cut a volume into slabs across its longest axis.

    Parameters
    ----------
    shape : sequence of int
        Its lengths.
    most : int
        Voxels in a slab, unless one plane has more.

    Yields
    ------
    tuple of slice
        One per axis.

    Examples
    --------
    >>> [piece[1] for piece in pieces((2, 5, 2), most=8)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    if not shape:
        yield ()
        return
    axis = int(np.argmax(shape))
    step = max(1, most * shape[axis] // max(1, math.prod(shape)))
    whole = [slice(0, length) for length in shape]
    for start in range(0, shape[axis], step):
        stop = min(start + step, shape[axis])
        yield (*whole[:axis], slice(start, stop), *whole[axis + 1 :])
