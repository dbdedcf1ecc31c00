"""Volumes on another grid: means of voxels where it is coarser, straight lines where finer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from scipy import sparse

from medfusion_sdk.readers.voxels import pieces

__all__ = ["centre", "pad_about_centre", "resample"]

_AT_ONCE = 1 << 21  # voxels that are read at once


class _Volume(Protocol):
    """An array, or what gives parts of itself as arrays."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, index: Any, /) -> np.ndarray: ...


Volume = TypeVar("Volume", bound=_Volume)


def resample(
    volume: Volume, size: Sequence[int], keep: Sequence[tuple[int, int]] | None = None
) -> np.ndarray | Volume:
    """Bring a volume to a size; what it covers stays the same.

    Along an axis that gets shorter each new voxel is the mean of the old ones that it covers, in
    parts where it covers parts, so that nothing is skipped and the volume's mean stays. Along one
    that gets longer, voxels are interpolated between centres. The volume is read slab by slab, and
    what isn't kept is never computed.

    Parameters
    ----------
    volume : ndarray or ScaledVoxels of shape (D, H, W)
        Floating values.
    size : sequence of int
        Length of each axis.
    keep : sequence of (start, stop), optional
        Which part of the new volume is wanted along each axis; all of it by default.

    Returns
    -------
    ndarray of the shape that is kept
        Of the same type; the volume itself where nothing changes.

    Examples
    --------
    >>> resample(np.array([[[0.0, 2.0, 4.0, 6.0]]]), (1, 1, 2)).tolist()
    [[[1.0, 5.0]]]
    >>> resample(np.array([[[0.0, 2.0, 4.0, 6.0]]]), (1, 1, 2), [(0, 1), (0, 1), (1, 2)]).tolist()
    [[[5.0]]]
    """
    keep = [(0, length) for length in size] if keep is None else keep
    axes = [_Axis(old, new, *ends) for old, new, ends in zip(volume.shape, size, keep, strict=True)]
    if all(axis.is_whole for axis in axes):
        return volume
    # What no kept voxel covers isn't read.
    first = [axis.covered.start for axis in axes]
    lengths = [axis.covered.stop - axis.covered.start for axis in axes]
    made = np.zeros([axis.stop - axis.start for axis in axes], dtype=volume.dtype)
    for piece in pieces(lengths, _AT_ONCE):
        cuts = [
            slice(start + cut.start, start + cut.stop)
            for start, cut in zip(first, piece, strict=True)
        ]
        block = volume[tuple(cuts)]
        target: list[Any] = [slice(None)] * len(axes)
        # The axis first along which most is lost.
        for i in sorted(range(len(axes)), key=lambda i: axes[i].growth):
            block, target[i] = axes[i].apply(block, i, cuts[i])
        made[tuple(target)] += block
    return made


class _Axis:
    """How new voxels are made of old ones along one axis.

    Parameters
    ----------
    found, wanted : int
        Old and new length.
    start, stop : int
        New voxels that are kept.
    """

    def __init__(self, found: int, wanted: int, start: int, stop: int) -> None:
        self.found, self.wanted, self.start, self.stop = found, wanted, start, stop
        self.step = found / wanted
        slack = 0 if found == wanted else 1
        self.covered = slice(
            max(0, math.floor(start * self.step) - slack),
            min(found, math.ceil(stop * self.step) + slack),
        )

    @property
    def is_whole(self) -> bool:
        """Whether new voxels are the old ones."""
        return self.found == self.wanted == self.stop - self.start

    @property
    def growth(self) -> float:
        """New voxels for each old one that is read."""
        return (self.stop - self.start) / (self.covered.stop - self.covered.start)

    def apply(self, block: np.ndarray, axis: int, cut: slice) -> tuple[np.ndarray, slice]:
        """Make what the old voxels of a cut contribute, and say to which new ones."""
        if self.found == self.wanted:
            return block, slice(cut.start - self.start, cut.stop - self.start)
        new, old, parts = self._parts(cut)
        target = slice(int(new.min(initial=0)), int(new.max(initial=-1)) + 1)
        shape = (target.stop - target.start, cut.stop - cut.start)
        weights = sparse.csr_array((parts.astype(block.dtype), (new - target.start, old)), shape)
        rows = np.moveaxis(block, axis, 0)
        mixed = weights @ rows.reshape(len(rows), -1)
        return np.moveaxis(mixed.reshape(-1, *rows.shape[1:]), 0, axis), target

    def _parts(self, cut: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """New voxels, old voxels of a cut, and what part the one is of the other."""
        if self.wanted < self.found:
            old = np.repeat(np.arange(cut.start, cut.stop), 3)
            # The one in which it begins, and its neighbours in case of rounding.
            new = np.floor(old / self.step).astype(int) + np.tile([-1, 0, 1], len(old) // 3)
            ends = np.minimum((new + 1) * self.step, old + 1)
            parts = (ends - np.maximum(new * self.step, old)) * (self.wanted / self.found)
        else:
            rows = np.arange(self.start, self.stop)
            places = ((rows + 0.5) * self.step - 0.5).clip(0, self.found - 1)
            new, before = np.repeat(rows, 2), np.repeat(np.floor(places).astype(int), 2)
            old = before + np.tile([0, 1], len(rows))
            parts = 1.0 - np.abs(np.repeat(places, 2) - old)
        kept = (parts > 0) & (new >= self.start) & (new < self.stop)
        kept &= (old >= cut.start) & (old < cut.stop)
        return new[kept] - self.start, old[kept] - cut.start, parts[kept]


def centre(found: int, wanted: int) -> tuple[int, int]:
    """Find the part of an axis that is left when it is cut about its centre.

    Parameters
    ----------
    found, wanted : int
        Lengths.

    Returns
    -------
    tuple of int
        Start and stop; all of an axis that isn't longer.

    Examples
    --------
    >>> centre(4, 2), centre(4, 6)
    ((1, 3), (0, 4))
    """
    start = max(0, found - wanted) // 2
    return start, min(found, start + wanted)


def pad_about_centre(volume: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Bring a volume to a size that is nowhere smaller; voxels stay as they are.

    Parameters
    ----------
    volume : ndarray of shape (D, H, W)
        Values.
    size : sequence of int
        Length of each axis: what lacks is zero.

    Returns
    -------
    ndarray of shape `size`
        Of the same type.

    Examples
    --------
    >>> pad_about_centre(np.array([[[1, 2]]]), (1, 3, 3)).tolist()
    [[[0, 0, 0], [1, 2, 0], [0, 0, 0]]]
    """
    lacking = [wanted - found for found, wanted in zip(volume.shape, size, strict=True)]
    if not any(lacking):
        return volume
    return np.pad(volume, [(lack // 2, lack - lack // 2) for lack in lacking])
