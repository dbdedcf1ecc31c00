"""Long series -> windows of them, and windows with what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import DataError, ModalityError, ParameterError
from medfusion_sdk.readers._cuts import Place, check_sizes, cut_series, read_table
from medfusion_sdk.readers.parts import WINDOW_LEVEL

__all__ = ["make_forecast_windows", "make_windows"]


def make_windows(
    X: pd.DataFrame | pd.Series,
    *,
    window: int = 256,
    stride: int = 128,
    max_missing: float | None = None,
) -> tuple[pd.DataFrame, pd.Series]:
    """Cut the series of a cohort table into windows; each row becomes several.

    Windows begin every `stride` steps. Where that leaves an end uncovered, one more window covers
    it; a series shorter than `window` is one window as it is.

    Parameters
    ----------
    X : DataFrame or Series
        Cohort table or one series column. The series of a row share their steps.
    window, stride : int
        Steps of a window, and from one to the next.
    max_missing : float, default=None
        Leave out windows of which a larger share is unobserved, over all series; a missing
        series counts as unobserved.

    Returns
    -------
    windows : DataFrame
        The same columns: cut series, and the other columns repeated. A window in which a series
        has no observation has None there. The index is (label of the row, first step).
    groups : Series
        Label of the row that each window is from: targets of rows are ``y.loc[groups]``, and
        splits keep rows together by it.

    Raises
    ------
    SignalError
        For cells that aren't series, or series of a row that differ in steps.
    ParameterError
        If a parameter has a value that it can't have.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from medfusion_sdk import make_windows
    >>> table = pd.DataFrame({"ecg": [np.zeros((2, 10)), np.zeros((2, 3))]}, index=["a", "b"])
    >>> windows, groups = make_windows(table, window=4, stride=3)
    >>> groups.to_list(), [cell.shape[1] for cell in windows["ecg"]]
    (['a', 'a', 'a', 'b'], [4, 4, 4, 3])
    """
    table, names, cells, n_steps = read_table(X)
    check_sizes(window=window, stride=stride)
    if max_missing is not None and not 0 <= max_missing <= 1:
        raise ParameterError(f"max_missing={max_missing}; a share of 0 to 1 is needed.")
    n_channels = {name: _n_channels(cells[name]) for name in names}
    places = []
    for row, steps in enumerate(n_steps):
        starts = list(range(0, max(steps - window, 0) + 1, stride)) if steps else []
        if starts and starts[-1] + window < steps:
            starts.append(steps - window)
        places += [(row, start, min(start + window, steps)) for start in starts]
    if max_missing is not None:
        size = sum(n_channels.values())
        places = [
            (row, start, end)
            for row, start, end in places
            if 1 - _n_observed(cells, row, start, end) / (size * (end - start)) <= max_missing
        ]
    return cut_series(table, cells, places, [start for _, start, _ in places], WINDOW_LEVEL)


def make_forecast_windows(
    X: pd.DataFrame | pd.Series,
    *,
    window: int = 256,
    horizon: int = 1,
    stride: int = 128,
    target: Any = None,
    channels: Sequence[int] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Cut windows of a cohort table's series together with the steps that follow each.

    Parameters
    ----------
    X : DataFrame or Series
        Cohort table or one series column. The series of a row share their steps.
    window : int, default=256
        Steps to forecast from. Shorter series give no window, and none crosses rows.
    horizon : int, default=1
        Steps to forecast.
    stride : int, default=128
        Steps from one window to the next.
    target : column name, default=None
        Series to forecast; not needed where there is one only.
    channels : sequence of int, default=None
        Channels of it to forecast, by position; by default all.

    Returns
    -------
    windows : DataFrame
        As of :func:`make_windows`. Windows in which nothing was observed are left out, and those
        whose target wasn't observed completely.
    targets : DataFrame of shape (n_windows, n_channels * horizon)
        Values of the next steps, for a regressor of several outputs. ``"vitals[0]+1"`` is the
        first step after the window of the first channel.
    groups : Series
        Label of the row that each window is from. Windows of a row overlap and resemble each
        other: split by it.

    Raises
    ------
    SignalError
        For cells that aren't series, or series of a row that differ in steps.
    ModalityError
        If it isn't clear which series is the target.
    DataError
        If no window is left.
    ParameterError
        If a parameter has a value that it can't have.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from medfusion_sdk import make_forecast_windows
    >>> series = pd.Series([np.arange(8.0)[None], np.arange(5.0)[None]], name="map")
    >>> windows, targets, groups = make_forecast_windows(series, window=3, horizon=2, stride=3)
    >>> targets.assign(group=groups)
             map[0]+1  map[0]+2  group
      start
    0 0           3.0       4.0      0
      3           6.0       7.0      0
    1 0           3.0       4.0      1
    """
    table, names, cells, n_steps = read_table(X)
    check_sizes(window=window, horizon=horizon, stride=stride)
    name = _target_name(names, target)
    positions = _channel_positions(cells[name], channels)
    places: list[Place] = []
    targets = []
    for row, steps in enumerate(n_steps):
        for start in range(0, steps - window - horizon + 1, stride):
            end = start + window
            following = cells[name][row]
            if following is None or not _n_observed(cells, row, start, end):
                continue
            values = following[positions, end : end + horizon]
            if not np.isnan(values).any():
                places.append((row, start, end))
                targets.append(values.ravel())
    if not places:
        raise DataError(
            f"no window of {window} steps is followed by {horizon} observed ones in any of "
            f"{len(table)} series of up to {max(n_steps, default=0)} steps. Take a smaller "
            "window or horizon, fewer channels, or fill the series first."
        )
    starts = [start for _, start, _ in places]
    windows, groups = cut_series(table, cells, places, starts, WINDOW_LEVEL)
    ahead = range(1, horizon + 1)
    columns = [f"{name}[{position}]+{step}" for position in positions for step in ahead]
    return windows, pd.DataFrame(np.stack(targets), index=windows.index, columns=columns), groups


def _n_channels(column: list[np.ndarray | None]) -> int:
    return next((len(cell) for cell in column if cell is not None), 0)


def _n_observed(cells: dict[Any, list[Any]], row: int, start: int, end: int) -> int:
    present = (column[row] for column in cells.values() if column[row] is not None)
    return sum(int((~np.isnan(cell[:, start:end])).sum()) for cell in present)


def _target_name(names: list[Any], target: Any) -> Any:
    if target is None and len(names) == 1:
        return names[0]
    if target not in names:
        raise ModalityError(f"target={target!r}; name the series to forecast, one of {names}.")
    return target


def _channel_positions(
    column: list[np.ndarray | None], channels: Sequence[int] | None
) -> list[int]:
    n_channels = _n_channels(column)
    positions = list(range(n_channels)) if channels is None else list(channels)
    if not positions or not all(0 <= position < n_channels for position in positions):
        raise ParameterError(f"channels={channels}; the target has channels 0 to {n_channels - 1}.")
    return positions
