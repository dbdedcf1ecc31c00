"""Exact cosine search against scikit-learn's brute force: a ratio of times, and peak memory.

A million rows of width 128 in float32, random and with many equal rows (half of all reports of an
archive may read alike). Both search the same unit rows; the memory is what a search allocates
beyond them.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
from sklearn.neighbors import NearestNeighbors

from benchmarks.common import paired_seconds, report
from medfusion_sdk.estimators._neighbours import nearest_rows, unit_rows

ROWS, WIDTH, K = 1_000_000, 128, 10


def peak_megabytes(call: Callable[[], object]) -> float:
    """Memory that a call allocates at most at once."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def gallery(alike: float, rng: np.random.Generator) -> np.ndarray:
    """Unit rows, a share of them equal."""
    rows = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    rows[rng.random(ROWS) < alike] = rows[0]
    return unit_rows(rows)


def compare(name: str, rows: np.ndarray, n_queries: int, rng: np.random.Generator) -> bool:
    """Print ratio, memory and agreement of one search."""
    queries = unit_rows(rng.normal(size=(n_queries, WIDTH)))
    brute = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(rows)

    def ours() -> tuple[np.ndarray, np.ndarray]:
        return nearest_rows(queries, rows, K)

    def theirs() -> tuple[np.ndarray, np.ndarray]:
        return brute.kneighbors(queries)

    seconds, reference = paired_seconds(ours, theirs, repeats=3)
    distance, _ = theirs()
    similarity, _ = ours()
    gap = np.abs(1 - similarity - distance).max()
    memory = (peak_megabytes(ours), peak_megabytes(theirs))
    return report(
        f"{n_queries} queries among {ROWS:,} x {WIDTH}, {name}: speed",
        reference / seconds,
        "scikit-learn's NearestNeighbors(metric='cosine', algorithm='brute')",
        at_least=1.0,
        detail=f"peak memory {memory[0]:.0f} MiB against {memory[1]:.0f} MiB; "
        f"largest difference of a distance {gap:.1e}",
    )


def main() -> int:
    """Print a line per search."""
    rng = np.random.default_rng(0)
    distinct = gallery(0.0, rng)
    compare("all rows different", distinct, 1, rng)
    compare("all rows different", distinct, 200, rng)
    compare("half of the rows equal", gallery(0.5, rng), 200, rng)
    return 0


if __name__ == "__main__":
    sys.exit(main())
