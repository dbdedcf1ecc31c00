"""Scale and fill irregular series, with statistics of the training rows alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from medfusion_sdk.encoders._series_fill import fill_forward, fill_linear, last_seen
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.readers.cells import Column
from medfusion_sdk.readers.series import as_cohort_table, read_series, series_columns

__all__ = ["SeriesPreprocessor"]

_FILLS = {"forward": fill_forward, "linear": fill_linear}


class SeriesPreprocessor(TransformerMixin, BaseEstimator):
    """Standardise the series of a cohort table and fill what wasn't observed.

    Cells are (channels, steps) with NaN where nothing was observed, of any number of steps. The
    steps, each of which can be switched off: a series of which too little was observed becomes a
    missing modality; values are standardised per channel; gaps are filled from what was observed
    before them; what is still open becomes 0, the training mean. Rows stay rows, so it goes
    anywhere in a pipeline; :func:`make_windows` is what cuts series.

    Parameters
    ----------
    standardize : bool, default=True
        Subtract the mean and divide by the standard deviation of what was observed in training.
    fill : {"forward", "linear"} or None, default="forward"
        Repeat the last observation, or draw a line to the next one and repeat the last after
        that. Lines look ahead: within a stay that is over, not in one that goes on.
    fill_rest : bool, default=True
        Put 0 where `fill` found nothing to go by.
    add_mask : bool, default=False
        Append a channel for each: 1 where it was observed, else 0.
    add_elapsed : bool, default=False
        Append a channel for each: log(1 + steps since it was observed), counted from one step
        before the series where it hasn't been yet.
    max_missing : float, default=None
        Largest share of a series that may be unobserved, over channels and steps; one with more
        counts as missing. The paper's rule is 0.4 on monitor data; of hourly intensive care data
        it would leave little.

    Attributes
    ----------
    mean_, scale_ : dict of str to ndarray of shape (n_channels,)
        Of each series column. A channel that was constant in training, such as a mark that
        something is on, has mean 0 and scale 1: it keeps its value and is 0 before it is seen.
    observed_ : dict of str to ndarray of shape (n_channels,)
        Number of values observed in training. A channel without any is taken as unobserved
        ever after, whatever other rows have there.
    feature_names_in_ : ndarray of str
        Columns of the table; those that hold no series pass through as they are.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    grid_events : Makes such series from a table of single events.
    make_windows : Cuts long series; it multiplies rows.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from medfusion_sdk import SeriesPreprocessor
    >>> nan = np.nan
    >>> table = pd.DataFrame({"vitals": [np.array([[nan, 80.0, nan, 100.0]]), None]})
    >>> filled = SeriesPreprocessor(add_mask=True).fit_transform(table)
    >>> filled.loc[0, "vitals"]
    array([[ 0., -1., -1.,  1.],
           [ 0.,  1.,  0.,  1.]], dtype=float32)
    >>> filled.loc[1, "vitals"] is None
    True
    """

    def __init__(
        self,
        *,
        standardize: bool = True,
        fill: str | None = "forward",
        fill_rest: bool = True,
        add_mask: bool = False,
        add_elapsed: bool = False,
        max_missing: float | None = None,
    ) -> None:
        self.standardize = standardize
        self.fill = fill
        self.fill_rest = fill_rest
        self.add_mask = add_mask
        self.add_elapsed = add_elapsed
        self.max_missing = max_missing

    def fit(self, X: Any, y: Any = None) -> SeriesPreprocessor:
        """Learn each channel's mean and deviation.

        Parameters
        ----------
        X : DataFrame or Series
            Cohort table, or one series column.
        y : None
            Ignored.

        Returns
        -------
        self
            The transformer itself.
        """
        self._check_parameters()
        table = as_cohort_table(X)
        validate_data(self, table, skip_check_array=True)
        self.mean_, self.scale_, self.observed_ = {}, {}, {}
        for name in series_columns(table):
            cells = self._sparse_as_missing(read_series(table[name])).cells
            present = [cell for cell in cells if cell is not None]
            values = np.concatenate(present, axis=1) if present else np.empty((0, 0))
            self.mean_[name], self.scale_[name], self.observed_[name] = _statistics(values)
        return self

    def transform(self, X: Any) -> pd.DataFrame:
        """Standardise and fill.

        Parameters
        ----------
        X : DataFrame or Series
            The same columns as in training.

        Returns
        -------
        DataFrame
            The same columns. Series are float32, with the channels that `add_mask` and
            `add_elapsed` append behind the others; missing cells are None.

        Raises
        ------
        SignalError
            For a cell that isn't a series of as many channels as in training.
        """
        check_is_fitted(self)
        table = as_cohort_table(X)
        validate_data(self, table, skip_check_array=True, reset=False)
        table = table.copy(deep=False)
        for name in self.mean_:
            table[name] = self._column(table[name], name)
        if "channels" in table.attrs:
            named = {name: self._channel_names(c) for name, c in table.attrs["channels"].items()}
            table.attrs["channels"] = named
        return table

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns, which are those of the input.

        Parameters
        ----------
        input_features : object, optional
            Ignored.

        Returns
        -------
        ndarray of str
            Names of the columns.
        """
        check_is_fitted(self)
        return np.asarray(self.feature_names_in_, dtype=object)

    def _check_parameters(self) -> None:
        if self.fill is not None and self.fill not in _FILLS:
            raise ParameterError(f"fill={self.fill!r}; known are {[*_FILLS, None]}.")
        if self.max_missing is not None and not 0 <= self.max_missing <= 1:
            raise ParameterError(f"max_missing={self.max_missing}; a share of 0 to 1 is needed.")

    def _sparse_as_missing(self, column: Column) -> Column:
        most = 1.0 if self.max_missing is None else self.max_missing
        cells = [
            None if cell is None or np.isnan(cell).mean() > most else cell for cell in column.cells
        ]
        return Column(cells, column.rows, column.name)

    def _column(self, raw: pd.Series, name: Any) -> pd.Series:
        done = np.full(len(raw), None, dtype=object)
        known = self.observed_[name] > 0
        if not known.any():  # a modality that training never saw is missing ever after
            return pd.Series(done, index=raw.index, dtype=object)
        column = self._sparse_as_missing(read_series(raw, len(known)))
        by_length: dict[int, list[int]] = {}
        for row in column.present:
            if not np.isnan(column.cells[row][known]).all():
                by_length.setdefault(column.cells[row].shape[1], []).append(row)
        for rows in by_length.values():
            stack = np.stack([column.cells[row] for row in rows])
            stack[:, ~known] = np.nan
            for row, cell in zip(rows, self._process(stack, name), strict=True):
                done[row] = cell
        return pd.Series(done, index=raw.index, dtype=object)

    def _channel_names(self, names: list[str]) -> list[str]:
        appended = [f"{name} observed" for name in names if self.add_mask]
        appended += [f"{name} elapsed" for name in names if self.add_elapsed]
        return [*names, *appended]

    def _process(self, stack: np.ndarray, name: Any) -> np.ndarray:
        """Process series of one length, (rows, channels, steps)."""
        observed = ~np.isnan(stack)
        values = stack
        if self.standardize:
            values = (stack - self.mean_[name][:, None]) / self.scale_[name][:, None]
        if self.fill is not None:
            values = _FILLS[self.fill](values)
        if self.fill_rest:
            values = np.nan_to_num(values, nan=0.0)
        parts = [values]
        if self.add_mask:
            parts.append(observed)
        if self.add_elapsed:
            parts.append(np.log1p(np.arange(stack.shape[2]) - last_seen(observed)))
        return np.concatenate([part.astype(np.float32) for part in parts], axis=1)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _statistics(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, deviation and number of what was observed, by channel of (channels, steps)."""
    observed = ~np.isnan(values)
    count = observed.sum(axis=1)
    mean = np.where(observed, values, 0).sum(axis=1, dtype=np.float64) / np.maximum(count, 1)
    square = np.where(observed, values - mean[:, None], 0) ** 2
    scale = np.sqrt(square.sum(axis=1) / np.maximum(count, 1))
    lowest = np.where(observed, values, np.inf).min(axis=1, initial=np.inf)
    highest = np.where(observed, values, -np.inf).max(axis=1, initial=-np.inf)
    varies = highest > lowest
    return np.where(varies, mean, 0.0), np.where(varies, scale, 1.0), count
