"""Which rows a fit leaves out by itself, and what belongs together there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._group_folds import held_groups
from medfusion_sdk.estimators._groups import row_groups
from medfusion_sdk.estimators._near_copies import warn_of_repeats

__all__ = ["LeftOutRows"]

# "auto" holds rows out for early stopping from here on; fewer are worth more as training rows.
_EARLY_STOPPING_ROWS = 10_000


class LeftOutRows:
    """Groups of rows, and rows held out for early stopping, as an estimator's parameters say."""

    early_stopping: bool | str
    validation_fraction: float
    _seed: int

    def _stops_early(self, n_rows: int) -> bool:
        if self.early_stopping == "auto":
            return n_rows >= _EARLY_STOPPING_ROWS
        return bool(self.early_stopping)

    def _leaves_rows_out(self, n_rows: int) -> bool:
        """Whether a fit of so many rows learns something from rows left out by itself."""
        by_folds = (getattr(self, name, False) for name in ("calibrate", "expert"))
        return self._stops_early(n_rows) or any(by_folds)

    def _row_groups(self, X: Any, groups: Any, rows: pd.Index, counted: np.ndarray) -> np.ndarray:
        """Number what belongs together of the rows that count; doubts are said."""
        together = row_groups(X, groups, rows, counted)
        if groups is None and self._leaves_rows_out(len(together)):
            warn_of_repeats(X[counted], rows[counted], together)
        return together

    def _held_out(self, groups: np.ndarray, strata: np.ndarray | None = None) -> np.ndarray | None:
        """Choose the rows for early stopping: whole groups, with their share of each stratum."""
        if not self._stops_early(len(groups)):
            return None
        return held_groups(groups, strata, fraction=self.validation_fraction, seed=self._seed)
