"""Exact nearest rows by cosine, in blocks: the same answer whatever the blocks.

Rows are scaled to length one and rounded to a grid of 2**-26, about what float32 resolves. Products
of two such rows are sums of whole numbers below 2**53, so float64 holds every partial sum exactly:
no order of summation, size of block or number of threads changes a bit, equal rows are exactly
equally near, and ties go to the row that comes first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["nearest_rows", "unit_rows"]

_GRID = 2.0**26
# Similarities held at once: 64 MiB in float64.
_QUERY_ROWS, _GALLERY_ROWS = 512, 16_384


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Scale rows to length one, rounded to the grid.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        Finite values.

    Returns
    -------
    ndarray of shape (n, d), float32
        Rows of length one, up to rounding; a row of zeros stays one.
    """
    x = np.asarray(x, dtype=np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
    return (np.rint(unit * _GRID) / _GRID).astype(np.float32)


def nearest_rows(
    queries: np.ndarray,
    gallery: np.ndarray,
    n_neighbors: int,
    *,
    candidate: np.ndarray | None = None,
    query_groups: np.ndarray | None = None,
    gallery_groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest rows of a gallery by cosine.

    Memory beyond the arguments and the result doesn't grow with the gallery.

    Parameters
    ----------
    queries, gallery : ndarray of shape (Q, d) and (N, d), float32
        From :func:`unit_rows`.
    n_neighbors : int
        How many to find for each query.
    candidate : ndarray of shape (N,), bool, or None
        Rows that may be found; None for all.
    query_groups, gallery_groups : ndarray of shape (Q,) and (N,), int, or None
        A query doesn't find rows of its own group.

    Returns
    -------
    similarity : ndarray of shape (Q, n_neighbors), float64
        Cosines, from the largest; minus infinity where candidates ran out.
    index : ndarray of shape (Q, n_neighbors), int64
        Positions in the gallery; of equal cosines the first position first, and -1 where
        candidates ran out.
    """
    found = [_Found(len(rows), n_neighbors) for rows in _blocks(queries, _QUERY_ROWS)]
    buffer = np.empty(_QUERY_ROWS * min(_GALLERY_ROWS, max(len(gallery), 1)))
    for start, part in _starts(gallery, _GALLERY_ROWS):
        stop = start + len(part)
        wide = part.astype(np.float64)
        for best, (first, rows) in zip(found, _starts(queries, _QUERY_ROWS), strict=True):
            cosine = buffer[: len(rows) * len(part)].reshape(len(rows), len(part))
            np.matmul(rows.astype(np.float64), wide.T, out=cosine)
            if candidate is not None:
                cosine[:, ~candidate[start:stop]] = -np.inf
            if query_groups is not None and gallery_groups is not None:
                own = query_groups[first : first + len(rows), None]
                cosine[own == gallery_groups[None, start:stop]] = -np.inf
            best.offer(cosine, start)
    similarity = np.concatenate([best.similarity for best in found])
    return similarity, np.concatenate([best.index for best in found])


class _Found:
    """The best rows of those offered so far; blocks are offered in the gallery's order."""

    def __init__(self, n_queries: int, n_neighbors: int) -> None:
        self.similarity = np.full((n_queries, n_neighbors), -np.inf)
        self.index = np.full((n_queries, n_neighbors), -1)

    def offer(self, cosine: np.ndarray, start: int) -> None:
        """Take what is better than the worst so far; as good isn't, since it comes later."""
        n_neighbors = self.index.shape[1]
        queries = np.flatnonzero(cosine.max(axis=1) > self.similarity[:, -1])
        if not len(queries):
            return
        worst = self.similarity[queries, -1, None]
        offered = cosine if len(queries) == len(cosine) else cosine[queries]
        # After the first blocks few columns are better than what some query has.
        columns = np.flatnonzero((offered > worst).any(axis=0))
        if len(columns) < offered.shape[1]:
            offered = offered[:, columns]
        similarity, index = _best_columns(offered, n_neighbors)
        index = np.where(np.isneginf(similarity), -1, columns[index] + start)
        similarity = np.hstack([self.similarity[queries], similarity])
        index = np.hstack([self.index[queries], index])
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :n_neighbors]
        self.similarity[queries] = np.take_along_axis(similarity, order, axis=1)
        self.index[queries] = np.take_along_axis(index, order, axis=1)


def _best_columns(cosine: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the n largest entries of each row, from the largest, of equal ones the first."""
    n_columns = cosine.shape[1]
    if n >= n_columns:
        chosen = np.broadcast_to(np.arange(n_columns), cosine.shape)
    else:
        least = np.partition(cosine, n_columns - n, axis=1)[:, n_columns - n, None]
        chosen = _first_columns(cosine > least, cosine == least, n)
    similarity = np.take_along_axis(cosine, chosen, axis=1)
    # Stable, here and below: what stands first stays before what is as good.
    order = np.argsort(-similarity, axis=1, kind="stable")
    similarity = np.take_along_axis(similarity, order, axis=1)
    return similarity, np.take_along_axis(chosen, order, axis=1)


def _first_columns(above: np.ndarray, equal: np.ndarray, n: int) -> np.ndarray:
    """Columns of all that is above, and of the first of what is equal, n in each row."""
    wanted = n - above.sum(axis=1)
    surplus = np.flatnonzero(equal.sum(axis=1) > wanted)
    if len(surplus):
        rank = np.cumsum(equal[surplus], axis=1, dtype=np.int32)
        equal[surplus] &= rank <= wanted[surplus, None]
    return np.nonzero(above | equal)[1].reshape(len(above), n)


def _starts(rows: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


def _blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (part for _, part in _starts(rows, size))
