"""Volumes on another grid: means of voxels where it is coarser, straight lines where finer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["cut_or_pad", "resample"]


def resample(volume: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Bring a volume to a size; what it covers stays the same.

    Along an axis that gets shorter each new voxel is the mean of the old ones that it covers, in
    parts where it covers parts, so that nothing is skipped and the volume's mean stays. Along one
    that gets longer, voxels are interpolated between centres.

    Parameters
    ----------
    volume : ndarray of shape (D, H, W)
        Floating values.
    size : sequence of int
        Length of each axis.

    Returns
    -------
    ndarray of shape `size`
        Of the same type; the volume itself where it has that size.

    Examples
    --------
    >>> resample(np.array([[[0.0, 2.0, 4.0, 6.0]]]), (1, 1, 2)).tolist()
    [[[1.0, 5.0]]]
    """
    for axis, length in enumerate(size):
        if volume.shape[axis] != length:
            weights = _weights(volume.shape[axis], length).astype(volume.dtype)
            volume = np.moveaxis(np.tensordot(weights, volume, axes=(1, axis)), 0, axis)
    return volume


def cut_or_pad(volume: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Bring a volume to a size about its centre; voxels stay as they are.

    Parameters
    ----------
    volume : ndarray of shape (D, H, W)
        Values.
    size : sequence of int
        Length of each axis: what is beyond it is cut off, what lacks is zero.

    Returns
    -------
    ndarray of shape `size`
        Of the same type.

    Examples
    --------
    >>> cut_or_pad(np.array([[[1, 2, 3, 4]]]), (1, 3, 2)).tolist()
    [[[0, 0], [2, 3], [0, 0]]]
    """
    cut, pad = [], []
    for found, wanted in zip(volume.shape, size, strict=True):
        start, before = max(0, found - wanted) // 2, max(0, wanted - found) // 2
        cut.append(slice(start, start + wanted))
        pad.append((before, max(0, wanted - found) - before))
    return np.pad(volume[tuple(cut)], pad)


def _weights(found: int, wanted: int) -> np.ndarray:
    """Part of each old voxel in each new one, (wanted, found); rows sum to one."""
    old = np.arange(found)
    if wanted < found:
        edges = np.arange(wanted + 1) * (found / wanted)
        covered = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
        return np.clip(covered, 0.0, None) * (wanted / found)
    centres = ((np.arange(wanted) + 0.5) * (found / wanted) - 0.5).clip(0, found - 1)
    return np.clip(1.0 - np.abs(centres[:, None] - old), 0.0, None)
