"""How often predicted intervals hold the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.metrics._bootstrap import RandomState
from medfusion_sdk.metrics._resampling import Resamples

__all__ = ["coverage_table"]

_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def coverage_table(
    y_true: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    *,
    levels: Sequence[float] = _LEVELS,
    groups: ArrayLike | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Share of the truth within predicted intervals of several nominal levels.

    The interval of a level is the middle part of a normal distribution, ``mean`` plus and minus
    ``std`` times its quantile. A regressor that knows how unsure it is covers as much as the
    level says; one that covers less is too sure of itself.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        Truth. Several targets are pooled.
    mean, std : array-like of the same shape
        Predictions and their standard deviations, as of ``predict(X, return_std=True)``.
    levels : sequence of float, default=(0.1, 0.2, ..., 0.9, 0.95)
        Nominal levels, between 0 and 1.
    groups : array-like of shape (n_samples,), default=None
        Patient of each row; whole patients are resampled. By default each row is a patient of
        its own.
    n_resamples : int, default=1000
        Number of bootstrap resamples.
    confidence_level : float, default=0.95
        Of the bounds of the coverage.
    random_state : int, Generator or None, default=None
        Seed of the resamples.

    Returns
    -------
    DataFrame
        Indexed by ``level``: ``coverage`` with ``low`` and ``high`` (exact binomial bounds where
        all or none are covered), and ``width``, the mean width of the intervals in the units of y.

    Raises
    ------
    ParameterError
        For a level that isn't between 0 and 1.
    DataError
        If the shapes differ, or a standard deviation isn't a number of at least zero.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk.metrics import coverage_table
    >>> y = np.random.default_rng(0).normal(size=500)
    >>> coverage_table(y, np.zeros(500), np.full(500, 0.5), levels=[0.5, 0.9],
    ...                random_state=0).round(2)
           coverage   low  high  width
    level
    0.5        0.24  0.21  0.28   0.67
    0.9        0.58  0.54  0.62   1.64
    """
    check_aligned(y_true=y_true, mean=mean, std=std, groups=groups)
    truth, middle, spread = (np.asarray(one, dtype=float) for one in (y_true, mean, std))
    if not truth.shape == middle.shape == spread.shape or not truth.size:
        raise DataError(
            f"y_true, mean and std have the shapes {truth.shape}, {middle.shape} and "
            f"{spread.shape}; they must be equal, with one row at least."
        )
    if not (spread >= 0).all():
        raise DataError("std holds NaN or values below zero; it is a standard deviation.")
    outside = [level for level in levels if not 0 < level < 1]
    if outside or not len(levels):
        raise ParameterError(f"levels={list(levels)}; levels between 0 and 1 are needed.")
    rows = {}
    for level in levels:
        reach = norm.ppf((1 + level) / 2) * spread
        covered = (np.abs(truth - middle) <= reach).reshape(len(truth), -1).mean(axis=1)
        resamples = Resamples(len(covered), groups, n_resamples, confidence_level, random_state)
        values = resamples.values(_mean, covered, covered)
        found = resamples.interval(covered.mean(), values, share=True)
        width = 2 * float(reach.mean())
        rows[level] = [found.estimate, found.low, found.high, width]
    columns = ["coverage", "low", "high", "width"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("level")


def _mean(covered: np.ndarray, _: np.ndarray) -> float:
    return float(np.mean(covered))
