"""The same resamples of whole patients for every model, and what they say of a value."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length

from medfusion_sdk.estimators._groups import group_codes
from medfusion_sdk.exceptions import MedFusionWarning, ParameterError
from medfusion_sdk.metrics._auroc import macro_auroc, one_vs_rest, weighted_auroc
from medfusion_sdk.metrics._exact import exact_interval
from medfusion_sdk.metrics._lacking import on_resample
from medfusion_sdk.metrics._retrieval import row_scores

__all__ = ["Interval"]

Metric = Callable[[Any, Any], float]

# Row weights held in memory at once, as a number of entries.
_CHUNK = 2_000_000
# Share of resamples left out from which on a user is told; three patients with a label lose 5 %.
_NOTEWORTHY = 0.06


@dataclass(frozen=True)
class Interval:
    """An estimate and its percentile bootstrap interval.

    A list of intervals makes a table: ``pandas.DataFrame([a, b])``.

    Parameters
    ----------
    estimate : float
        Value on the data as they are.
    low, high : float
        Bounds of the interval.
    standard_error : float
        Standard deviation of the resampled values.
    confidence_level : float
        Share of resampled values within the bounds.
    n_resamples : int
        Resamples that count: those with every label, class or event that the metric needs.

    Examples
    --------
    >>> from medfusion_sdk.metrics import Interval
    >>> gain = Interval(0.021, 0.004, 0.039, standard_error=0.009, confidence_level=0.95,
    ...                 n_resamples=1000)
    >>> print(gain)
    0.021 [0.004, 0.039]
    >>> gain.excludes(0)
    True
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    confidence_level: float
    n_resamples: int

    def excludes(self, value: float) -> bool:
        """Say whether a value lies outside the interval.

        Parameters
        ----------
        value : float
            The value; 0 asks of a difference whether it is beyond chance.

        Returns
        -------
        bool
            True where ``value`` is below ``low`` or above ``high``.
        """
        return value < self.low or value > self.high

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Resamples:
    """Resamples of patients, drawn once so that models are compared on the same ones."""

    def __init__(
        self,
        n_rows: int,
        groups: ArrayLike | None,
        n_resamples: int,
        confidence_level: float,
        random_state: int | np.random.Generator | None,
    ) -> None:
        if not 0 < confidence_level < 1:
            raise ParameterError(f"confidence_level={confidence_level} isn't between 0 and 1.")
        if n_resamples < 2:
            raise ParameterError(f"n_resamples={n_resamples}; an interval needs 2 at least.")
        self.confidence_level = confidence_level
        self.n_rows = n_rows
        self._group = np.arange(n_rows) if groups is None else group_codes(groups, n_rows)
        self.n_patients = n_groups = int(self._group.max()) + 1
        self._n_lacking = 0
        draws = np.random.default_rng(random_state).integers(n_groups, size=(n_resamples, n_groups))
        draws += n_groups * np.arange(n_resamples)[:, None]
        counts = np.bincount(draws.ravel(), minlength=n_resamples * n_groups)
        self._counts = counts.reshape(n_resamples, n_groups).astype(np.int32)

    def values(
        self, metric: Metric, y_true: Any, y_score: Any, *, strata: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the metric on every resample, NaN where something that it needs is lacking.

        A resample without a label, a class or an event scores something else than all rows do. With
        `strata`, macro AUROC compares within these only.
        """
        check_consistent_length(y_true, y_score)
        if metric is macro_auroc:
            positive, score, _ = one_vs_rest(y_true, y_score)
            whole = weighted_auroc(positive, score, np.ones((1, len(score))), strata)[0]
            kept = ~np.isnan(whole)
            areas = [weighted_auroc(positive, score, w, strata)[:, kept] for w in self._weights()]
            table = np.concatenate(areas)
            return table.mean(axis=1) if kept.any() else np.full(len(table), np.nan)
        if (rows := row_scores(metric)) is not None:
            return self._means(rows(y_true, y_score))
        value = on_resample(metric, y_true, y_score)
        return np.array([value(*drawn) for drawn in self._rows(y_true, y_score)], float)

    def interval(self, estimate: float, values: np.ndarray, *, share: bool = False) -> Interval:
        """Summarise the values on the resamples, of which those that are NaN don't count.

        Of a share that is 0 or 1 in all patients every resample says the same; its interval is
        the exact binomial one.
        """
        defined = values[~np.isnan(values)]
        self._tell(len(defined), estimate)
        tail = (1 - self.confidence_level) / 2
        low = high = spread = np.nan
        if len(defined) > 1:
            low, high = np.quantile(defined, [tail, 1 - tail])
            spread = np.std(defined, ddof=1)
        if share and estimate in (0, 1):
            n_true = self.n_patients if estimate == 1 else 0
            low, high = exact_interval(n_true, self.n_patients, self.confidence_level)
        return Interval(
            float(estimate),
            float(low),
            float(high),
            float(spread),
            self.confidence_level,
            len(defined),
        )

    def _tell(self, n_defined: int, estimate: float) -> None:
        """Warn once where many resamples don't count."""
        lacking = len(self._counts) - n_defined
        said, self._n_lacking = self._n_lacking, max(self._n_lacking, lacking)
        if lacking > max(said, _NOTEWORTHY * len(self._counts)) and not np.isnan(estimate):
            warnings.warn(
                f"{lacking} of {len(self._counts)} resamples lack what the score needs, such as a "
                "label, a class or an event, which too few patients have, and don't count; "
                f"intervals are of the other {n_defined}.",
                MedFusionWarning,
                stacklevel=4,
            )

    def _means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of the rows' values on every resample, those that are NaN left out."""
        defined = ~np.isnan(values)
        sums = np.column_stack([np.where(defined, values, 0.0), defined])
        total, count = np.concatenate([weight @ sums for weight in self._weights()]).T
        return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)

    def _weights(self) -> Iterator[np.ndarray]:
        """Yield how often each row was drawn, some resamples at a time."""
        step = max(1, _CHUNK // self.n_rows)
        for start in range(0, len(self._counts), step):
            yield self._counts[start : start + step, self._group].astype(np.float64)

    def _rows(self, *tables: Any) -> Iterator[list[Any]]:
        """Yield the tables with their rows drawn, one resample at a time."""
        for weights in self._weights():
            for weight in weights:
                rows = np.repeat(np.arange(self.n_rows), weight.astype(int))
                yield [_take(table, rows) for table in tables]


def _take(table: Any, rows: np.ndarray) -> Any:
    return table.iloc[rows] if hasattr(table, "iloc") else np.asarray(table)[rows]
