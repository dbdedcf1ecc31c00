"""What a series was, in numbers: level, spread, course and how often it was looked at."""

from __future__ import annotations

import numpy as np

__all__ = ["SUMMARIES", "pad_series", "summarise"]

SUMMARIES = ("mean", "spread", "lowest", "highest", "first", "last", "slope", "count", "elapsed")
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
    n_rows, n_channels = values.shape[:2]
    found = np.empty((n_rows, len(SUMMARIES) * n_channels))
    for start in range(0, n_rows, _CHUNK):
        rows = slice(start, start + _CHUNK)
        found[rows] = _summarise(values[rows].astype(np.float64), lengths[rows])
    return found


def _summarise(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    seen = ~np.isnan(x)
    count = seen.sum(axis=-1)
    some = np.where(count > 0, count, np.nan)
    steps = np.arange(x.shape[-1], dtype=np.float64)
    mean = np.where(seen, x, 0.0).sum(axis=-1) / some
    centred = np.where(seen, x - mean[..., None], 0.0)
    first = seen.argmax(axis=-1)
    last = x.shape[-1] - 1 - seen[..., ::-1].argmax(axis=-1)
    middle = (seen * steps).sum(axis=-1) / some
    away = np.where(seen, steps - middle[..., None], 0.0)
    stretch = (away**2).sum(axis=-1)
    parts = {
        "mean": mean,
        "spread": np.sqrt((centred**2).sum(axis=-1) / some),
        "lowest": np.where(seen, x, np.inf).min(axis=-1),
        "highest": np.where(seen, x, -np.inf).max(axis=-1),
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


def _at(x: np.ndarray, step: np.ndarray) -> np.ndarray:
    return np.take_along_axis(x, step[..., None], axis=-1)[..., 0]
