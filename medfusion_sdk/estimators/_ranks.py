"""Summaries as network input: ranks of training as normal deviates, and what was missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

__all__ = ["RankScaling"]

_N_QUANTILES = 200
# Beyond 2.5 deviations lie 1.2 % of training's values; how far is mostly a matter of typing errors.
_BOUND = 2.5


@dataclass(frozen=True)
class RankScaling:
    """What a fit learns about the columns of a summary; all arrays, so that it stores as arrays.

    Clinical values are skewed and hold errors of units (a pH of 735): of such columns a value's
    rank says what its distance from the mean does not. Columns are standard normal afterwards,
    within 2.5 deviations, and 0 where missing.

    Attributes
    ----------
    columns : ndarray of int
        Columns that varied in training.
    quantiles : ndarray of shape (n_quantiles, n_columns)
        Of those.
    indicators : ndarray of int
        Columns of which each was missing in other rows than the others; they get an indicator.
    mean, scale : ndarray of shape (n_indicators,)
        Of the indicators.
    """

    columns: np.ndarray
    quantiles: np.ndarray
    indicators: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> RankScaling:
        """Learn from training rows.

        Parameters
        ----------
        x : ndarray of shape (n, n_columns)
            Summaries, NaN where missing.

        Returns
        -------
        RankScaling
            Ready to :meth:`apply`.
        """
        known = ~np.isnan(x)
        low = np.where(known, x, np.inf).min(axis=0)
        high = np.where(known, x, -np.inf).max(axis=0)
        columns = np.flatnonzero(high > low)
        grid = np.linspace(0.0, 1.0, _N_QUANTILES)
        quantiles = np.empty((_N_QUANTILES, len(columns)))
        for j, column in enumerate(columns):
            quantiles[:, j] = np.quantile(x[known[:, column], column], grid)
        missing = ~known
        share = missing.mean(axis=0)
        sometimes = np.flatnonzero((share > 0.01) & (share < 0.99))
        # A channel's mean, minimum and maximum are missing together: one indicator says so.
        _, first = np.unique(missing[:, sometimes], axis=1, return_index=True)
        indicators = sometimes[np.sort(first)]
        flags = missing[:, indicators].astype(np.float64)
        return cls(columns, quantiles, indicators, flags.mean(axis=0), flags.std(axis=0))

    @property
    def width(self) -> int:
        """Columns of what :meth:`apply` returns."""
        return len(self.columns) + len(self.indicators)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Scale summaries.

        Parameters
        ----------
        x : ndarray of shape (n, n_columns)
            Summaries, NaN where missing.

        Returns
        -------
        ndarray of shape (n, width)
            Finite values.
        """
        bound = _BOUND
        scaled = np.empty((len(x), self.width))
        grid = np.linspace(0.0, 1.0, _N_QUANTILES)
        for j, column in enumerate(self.columns):
            scaled[:, j] = _rank(x[:, column], self.quantiles[:, j], grid)
        values = scaled[:, : len(self.columns)]
        np.clip(ndtri(values), -bound, bound, out=values)
        flags = np.isnan(x[:, self.indicators])
        scaled[:, len(self.columns) :] = (flags - self.mean) / self.scale
        return np.nan_to_num(scaled, copy=False, nan=0.0)


def _rank(x: np.ndarray, quantiles: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Share of training below each value; ties take the middle of their ranks."""
    up = np.interp(x, quantiles, grid)
    down = -np.interp(-x, -quantiles[::-1], -grid[::-1])
    return np.where(np.isnan(x), np.nan, (up + down) / 2)
