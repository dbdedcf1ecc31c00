"""Rows that look like repeated visits though no groups were given: found, and said."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._rows import ReadRows
from medfusion_sdk.exceptions import GroupsWarning
from medfusion_sdk.tables import shown_rows

__all__ = ["near_copies", "warn_of_repeats"]

# Rows that are looked at, that columns are scaled by, and columns that rows are compared by.
_ROWS, _ROWS_FOR_SCALE, _COLUMNS = 200, 2000, 64
# Distances that are held at once, and no fewer rows looked at than of the least table.
_PAIRS = 4_000_000
# Fewer rows, or columns in which most values differ, have no usual distance.
_LEAST_ROWS, _LEAST_COLUMNS = 50, 4
# Entries of an array that stand for it, a column each.
_ENTRIES = 64
# A row is a near-copy that is nearer than this to another one, as a share of the distance to
# a twentieth of the rows, and in its logarithm this many times nearer than such rows tell.
_NEAR, _UNUSUAL = 0.35, 2.5
# So many rows of those looked at: a few are near by chance in any table.
_SHARE = 0.2
# Fewer values of an index's first level are sites or splits, not patients.
_LEAST_PATIENTS = 20

_ADVICE = (
    "What is learnt by leaving rows out takes them for different patients; if they aren't, pass "
    "groups= to fit, one value for each patient."
)


def warn_of_repeats(X: Any, rows: pd.Index, groups: np.ndarray) -> None:
    """Warn where rows of different groups look as if they belonged together.

    Parameters
    ----------
    X : ndarray of shape (n, d), DataFrame or ReadRows
        Validated rows.
    rows : Index of length n
        What the user's table calls them.
    groups : ndarray of shape (n,) of int
        What is known to belong together.
    """
    said = _repeated_labels(rows, groups)
    if said is None:
        pairs = near_copies(X, groups)
        if not len(pairs):
            return
        shown = ", ".join(f"({shown_rows(rows, pair)})" for pair in pairs[:3])
        said = (
            "many rows are far nearer to another row than is usual in this table, as repeated "
            f"visits of a patient are: {shown}."
        )
    warnings.warn(f"{said} {_ADVICE}", GroupsWarning, stacklevel=5)


def _repeated_labels(rows: pd.Index, groups: np.ndarray) -> str | None:
    """What to say where rows that differ share a label of the index, or of its first level."""
    labels = rows.get_level_values(0) if rows.nlevels > 1 else rows
    codes, names = pd.factorize(labels)
    if rows.nlevels > 1 and len(names) < _LEAST_PATIENTS:
        return None
    pairs = np.unique(np.column_stack([codes, groups]), axis=0)
    several = np.flatnonzero(np.bincount(pairs[pairs[:, 0] >= 0, 0]) > 1)
    if not len(several):
        return None
    level = "the index" if rows.nlevels == 1 else "the first level of the index"
    return f"{level} has one label for rows that differ: {shown_rows(names, several)}."


def near_copies(X: Any, groups: np.ndarray) -> np.ndarray:
    """Find rows that are far nearer to another one than is usual.

    Where rows lie like points in D dimensions, the number of rows within a distance r of one
    grows as r to the power D. D is told by the distances to a twentieth and to a third of the
    rows; then the logarithm of the nearest row's distance has a usual value. Repeated visits are
    several times further down. Tables of coarse columns are left alone, in which many rows agree
    by chance.

    Parameters
    ----------
    X : ndarray of shape (n, d), DataFrame or ReadRows
        Rows.
    groups : ndarray of shape (n,) of int
        What is known to belong together, of which the first row is looked at.

    Returns
    -------
    ndarray of shape (n_pairs, 2) of int
        Positions of rows and of the nearest to each; none where these are too few to matter.
    """
    nothing = np.zeros((0, 2), dtype=int)
    first = np.unique(groups, return_index=True)[1]
    rng = np.random.default_rng(0)
    if len(first) < _LEAST_ROWS:
        return nothing
    values, column = _columns(X)
    x = _comparable(values[first], column, rng)
    if x.shape[1] < _LEAST_COLUMNS:
        return nothing
    asked = rng.permutation(len(x))[: int(np.clip(_PAIRS / len(x), _LEAST_ROWS, _ROWS))]
    distance = _distances(x, asked)
    nearest = distance.argmin(axis=1)
    near, far = max(len(x) // 20, 15), max(3 * len(x) // 10, 30)
    distance.partition((0, near, far), axis=1)
    known = np.isfinite(distance[:, far])
    least, usual, wide = (distance[known][:, place] for place in (0, near, far))
    if known.sum() < _LEAST_ROWS // 2 or not (usual > 0).all():
        return nothing
    dimensions = np.log(far / near) / np.median(np.log(wide / usual))
    ratio = np.maximum(least, 1e-12) / usual
    found = (ratio < _NEAR) & (-np.log(ratio) * dimensions > _UNUSUAL * np.log(near))
    if found.mean() < _SHARE:
        return nothing
    return np.column_stack([first[asked[known][found]], first[nearest[known][found]]])


def _columns(X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of rows (n, d), NaN where there is none; and of which column (d,) they are."""
    table = X.frame if isinstance(X, ReadRows) else X
    if not isinstance(table, pd.DataFrame):
        return np.asarray(table, dtype=np.float64), np.arange(table.shape[1])
    plain = np.array([pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes], bool)
    places = np.concatenate([np.flatnonzero(plain), np.flatnonzero(~plain)])
    parts = [table.loc[:, plain].to_numpy(np.float64, na_value=np.nan)]
    parts += [_entries(table.iloc[:, place]) for place in np.flatnonzero(~plain)]
    widths = [1] * int(plain.sum()) + [part.shape[1] for part in parts[1:]]
    return np.concatenate(parts, axis=1), np.repeat(places, widths)


def _entries(column: pd.Series) -> np.ndarray:
    """Some entries of the arrays of a column (n, 64), at the same places of each.

    Of arrays with gaps, means and maxima of their channels, since entries are rarely there in two.
    """
    cells = [c if isinstance(c, np.ndarray) and c.dtype.kind in "fiu" else None for c in column]
    if any(c is not None and c.ndim > 1 and np.isnan(c.flat[: c.shape[-1]]).any() for c in cells):
        cells = [None if c is None else _channels(c) for c in cells]
    size = np.median([c.size for c in cells if c is not None] or [0])
    places = np.unique(np.linspace(0, max(size - 1, 0), _ENTRIES).astype(int))
    found = np.full((len(cells), len(places)), np.nan)
    for row, cell in enumerate(cells):
        if cell is not None and cell.size:
            there = places[places < cell.size]
            found[row, : len(there)] = cell.flat[there]
    return found


def _channels(array: np.ndarray) -> np.ndarray:
    """Mean and maximum of each channel, NaN of one without a value."""
    seen = ~np.isnan(array)
    count = np.where(seen.any(axis=-1), seen.sum(axis=-1), np.nan)
    highest = np.where(seen, array, -np.inf).max(axis=-1, initial=-np.inf)
    highest[np.isnan(count)] = np.nan
    return np.stack([np.where(seen, array, 0.0).sum(axis=-1) / count, highest])


def _comparable(x: np.ndarray, column: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers standardised, some where there are many; none where few of them are fine.

    Entries of one column have one scale: what hardly differs in it is of little matter.
    """
    few = x[rng.permutation(len(x))[:_ROWS_FOR_SCALE]]
    usable = np.flatnonzero(np.isfinite(few).sum(axis=0) >= _LEAST_ROWS // 2)
    usable = rng.permutation(usable)[:_COLUMNS]
    fine = [2 * len(np.unique(own)) >= len(own) for own in map(_known, few[:, usable].T)]
    if sum(fine) < _LEAST_COLUMNS:
        return np.zeros((len(x), 0))
    variance = np.array([own.var() for own in map(_known, few[:, usable].T)])
    number = np.unique(column[usable], return_inverse=True)[1]
    spread = np.sqrt(np.bincount(number, variance) / np.bincount(number))[number]
    kept = spread > 0
    return x[:, usable[kept]] / spread[kept]


def _known(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _distances(x: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Root mean squared differences (n_asked, n), infinite to itself or of too few columns."""
    there = np.isfinite(x).astype(np.float64)
    centre = np.where(there > 0, x, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1.0)
    z = np.where(there > 0, x - centre, 0.0)
    common = there[asked] @ there.T
    square = (z[asked] ** 2) @ there.T + there[asked] @ (z**2).T - 2 * z[asked] @ z.T
    distance = np.sqrt(np.maximum(square, 0.0) / np.maximum(common, 1.0))
    distance[common < max(_LEAST_COLUMNS, x.shape[1] / 4)] = np.inf
    distance[np.arange(len(asked)), asked] = np.inf
    return distance
