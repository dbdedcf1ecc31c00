"""What a series was, in numbers: level, spread, course and how often it was looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["PARTS", "SUMMARIES", "pad_series", "summarise", "summarise_parts"]

SUMMARIES = ("mean", "spread", "lowest", "highest", "first", "last", "slope", "count", "elapsed")
# Parts of a series as shares of its steps: how it began, how it went on, and how it is of late.
PARTS = {"early": (0.0, 0.5), "late": (0.5, 1.0), "recent": (0.75, 1.0)}
_LEVELS = ("mean", "lowest", "highest")
# Rows that are computed at a time, so that temporaries stay small beside the table.
_CHUNK = 4096


def pad_series(cells: list[np.ndarray | None], n_channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Put series into one array, filled up at their ends.

    Parameters
    ----------
    cells : list of ndarray of shape (n_channels, steps) or None
        NaN where nothing was observed.
    n_channels : int
        Channels.

    Returns
    -------
    values : ndarray of shape (n, n_channels, longest), float32
        NaN after a series' end, and where there is none.
    lengths : ndarray of shape (n,), int64
        Steps of each; 0 where there is none.
    """
    lengths = np.array([0 if cell is None else cell.shape[1] for cell in cells], dtype=np.int64)
    values = np.full((len(cells), n_channels, max(1, lengths.max(initial=0))), np.nan, np.float32)
    for row, cell in enumerate(cells):
        if cell is not None:
            values[row, :, : lengths[row]] = cell
    return values, lengths


def summarise(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Summarise the observed values of each channel.

    Parameters
    ----------
    values : ndarray of shape (n, n_channels, steps)
        NaN where nothing was observed.
    lengths : ndarray of shape (n,)
        Steps of each row.

    Returns
    -------
    ndarray of shape (n, len(SUMMARIES) * n_channels)
        Summary after summary: mean, standard deviation, minimum, maximum, first and last value,
        slope of a line through the values per step, number of values, steps since the last one.
        NaN where a channel has no value (one value has no slope), but a count of 0. Rows of no
        length are NaN throughout.
    """
    return _by_chunks(_summarise, values, lengths, len(SUMMARIES))


def summarise_parts(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Summarise what was observed in parts of a series: its halves and its last quarter.

    Parameters
    ----------
    values : ndarray of shape (n, n_channels, steps)
        NaN where nothing was observed.
    lengths : ndarray of shape (n,)
        Steps of each row, of which the parts are shares.

    Returns
    -------
    ndarray of shape (n, 3 * len(PARTS) * n_channels)
        Part after part, mean, minimum and maximum of each channel; NaN where it has no value.
    """
    return _by_chunks(_summarise_parts, values, lengths, len(_LEVELS) * len(PARTS))


def _by_chunks(
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray],
    values: np.ndarray,
    lengths: np.ndarray,
    per_channel: int,
) -> np.ndarray:
    found = np.empty((len(values), per_channel * values.shape[1]))
    for start in range(0, len(values), _CHUNK):
        rows = slice(start, start + _CHUNK)
        found[rows] = compute(values[rows].astype(np.float64), lengths[rows])
    return found


def _summarise(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    seen = ~np.isnan(x)
    count = seen.sum(axis=-1)
    some = np.where(count > 0, count, np.nan)
    steps = np.arange(x.shape[-1], dtype=np.float64)
    mean, lowest, highest = _levels(x, seen)
    centred = np.where(seen, x - mean[..., None], 0.0)
    first = seen.argmax(axis=-1)
    last = x.shape[-1] - 1 - seen[..., ::-1].argmax(axis=-1)
    middle = (seen * steps).sum(axis=-1) / some
    away = np.where(seen, steps - middle[..., None], 0.0)
    stretch = (away**2).sum(axis=-1)
    parts = {
        "mean": mean,
        "spread": np.sqrt((centred**2).sum(axis=-1) / some),
        "lowest": lowest,
        "highest": highest,
        "first": _at(x, first),
        "last": _at(x, last),
        "slope": (away * centred).sum(axis=-1) / np.where(stretch > 0, stretch, np.nan),
        "count": count.astype(np.float64),
        "elapsed": lengths[:, None] - 1.0 - last,
    }
    for name, part in parts.items():
        if name != "count":
            part[count == 0] = np.nan
    parts["count"][lengths == 0] = np.nan
    return np.stack([parts[name] for name in SUMMARIES], axis=1).reshape(len(x), -1)


def _summarise_parts(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    seen, steps = ~np.isnan(x), np.arange(x.shape[-1])
    found = []
    for start, stop in PARTS.values():
        within = (steps >= start * lengths[:, None]) & (steps < stop * lengths[:, None])
        found += _levels(x, seen & within[:, None])
    return np.stack(found, axis=1).reshape(len(x), -1)


def _levels(x: np.ndarray, counted: np.ndarray) -> list[np.ndarray]:
    """Mean, minimum and maximum of the counted steps; NaN where there is none."""
    count = counted.sum(axis=-1)
    parts = [
        np.where(counted, x, 0.0).sum(axis=-1) / np.maximum(count, 1),
        np.where(counted, x, np.inf).min(axis=-1),
        np.where(counted, x, -np.inf).max(axis=-1),
    ]
    return [np.where(count > 0, part, np.nan) for part in parts]


def _at(x: np.ndarray, step: np.ndarray) -> np.ndarray:
    return np.take_along_axis(x, step[..., None], axis=-1)[..., 0]
