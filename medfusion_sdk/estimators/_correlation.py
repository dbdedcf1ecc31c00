"""Regularised canonical correlation of any number of blocks, rows of which may lack some."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.linalg import eigh

__all__ = ["correlated_maps"]

# Directions with less than this share of the largest variance are rounding.
_LEAST_VARIANCE = 1e-10


def correlated_maps(
    blocks: Sequence[np.ndarray],
    present: np.ndarray,
    weight: np.ndarray,
    *,
    n_components: int,
    ridge: float,
) -> list[np.ndarray]:
    """Map every block to one space in which what the blocks tell of a row agrees.

    Each block is whitened as ridge regression would have it, ``B = V (D + ridge)^(-1/2)`` of the
    covariance ``V D V'``. The leading eigenvectors of all cross-covariances of whitened blocks,
    zeros on the diagonal, are the space; each direction counts by its correlation. For two blocks
    this is regularised canonical correlation analysis.

    Parameters
    ----------
    blocks : sequence of ndarray of shape (n, d_m)
        Centred values, zero where a row lacks the block.
    present : ndarray of shape (n, M), bool
        Which blocks each row has.
    weight : ndarray of shape (n,)
        Row weights, positive.
    n_components : int
        Dimensions at most.
    ridge : float
        Positive, in units of a block's mean squared row norm: as much as so many rows.

    Returns
    -------
    list of ndarray of shape (k, d_m)
        One map per block; k, the same for all, is `n_components` or the number of directions in
        which blocks correlate at all. With one block, its leading directions.
    """
    whiten, narrow = [], []
    for m, block in enumerate(blocks):
        total = weight[present[:, m]].sum()
        covariance = (block * weight[:, None]).T @ block
        values, vectors = np.linalg.eigh(covariance)
        kept = values > values.max(initial=0.0) * _LEAST_VARIANCE
        if not kept.any():  # a block without variance: nothing to go by
            kept[-1:] = True
        unit = np.trace(covariance) / total or 1.0
        basis = vectors[:, kept] / np.sqrt(np.maximum(values[kept], 0.0) + ridge * unit)
        whiten.append(basis)
        narrow.append(block @ basis)
    axes, correlations = _common_axes(narrow, present, weight, n_components)
    parts = np.split(axes * correlations, np.cumsum([x.shape[1] for x in narrow])[:-1])
    return [(basis @ part).T for basis, part in zip(whiten, parts, strict=True)]


def _common_axes(
    blocks: Sequence[np.ndarray], present: np.ndarray, weight: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors of the blocks' cross-covariances, and their eigenvalues."""
    bounds = np.cumsum([0, *(block.shape[1] for block in blocks)])
    cross = np.zeros((bounds[-1], bounds[-1]))
    if len(blocks) == 1:
        cross = (blocks[0] * weight[:, None]).T @ blocks[0]
    for a, b in combinations(range(len(blocks)), 2):
        both = weight * (present[:, a] & present[:, b])
        part = (blocks[a] * both[:, None]).T @ blocks[b]
        cross[bounds[a] : bounds[a + 1], bounds[b] : bounds[b + 1]] = part
        cross[bounds[b] : bounds[b + 1], bounds[a] : bounds[a + 1]] = part.T
    first = max(len(cross) - n_components, 0)
    values, vectors = eigh(cross, subset_by_index=[first, len(cross) - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    positive = values > 1e-9 * max(values[0], np.finfo(float).tiny)
    positive[0] = True
    values, vectors = np.maximum(values[positive], 0.0), vectors[:, positive]
    # An eigenvector's sign is arbitrary; fix it so that equal data give equal fits.
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0, -1.0, 1.0), values
