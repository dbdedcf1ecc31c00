"""Folds for survival outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from medfusion_sdk.estimators._groups import group_codes
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.model_selection._dealing import DealtKFold
from medfusion_sdk.survival import SurvivalTimes

__all__ = ["EventStratifiedKFold"]


class EventStratifiedKFold(DealtKFold):
    """K folds in which events are about as frequent, of whole patients where groups are given.

    scikit-learn's stratified splitters refuse survival outcomes, and folds by chance differ in
    their number of events, on which the spread of every survival score depends.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    shuffle : bool, default=False
        Deal the rows out in random order.
    random_state : int, RandomState instance or None, default=None
        Seed of the order, where ``shuffle=True``. None draws afresh at each call of ``split`` and
        leaves NumPy's global generator alone.

    See Also
    --------
    MultilabelStratifiedGroupKFold : For labels instead of events.

    Examples
    --------
    >>> from medfusion_sdk.datasets import load_heart_failure
    >>> from medfusion_sdk.model_selection import EventStratifiedKFold
    >>> X, y = load_heart_failure(return_X_y=True)
    >>> for train, test in EventStratifiedKFold(4).split(X, y):
    ...     print(len(test), int(y["event"].iloc[test].sum()))
    75 24
    75 24
    75 24
    74 24
    """

    def split(
        self, X: Any, y: Any = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows of each training and test set.

        Parameters
        ----------
        X : array-like or DataFrame of n_samples rows
            Only its length counts.
        y : structured array, DataFrame or array-like of shape (n_samples, 2)
            Event and time, in any form that :class:`~medfusion_sdk.survival.SurvivalTimes` reads.
        groups : array-like of shape (n_samples,), default=None
            Patient of each row. No patient is in two folds. By default each row is one.

        Yields
        ------
        train, test : ndarray of int
            Positions of the rows.

        Warns
        -----
        MedFusionWarning
            Fewer groups than folds have an event.
        """
        y = y.original if isinstance(y, SurvivalTimes) else y
        yield from super().split(X, y, groups)

    def _read(self, y: Any, groups: Any) -> tuple[pd.DataFrame, np.ndarray]:
        if y is None:
            raise DataError("y is needed, with event and time: pass split(X, y).")
        event = SurvivalTimes.of(y).event
        codes = np.arange(len(event)) if groups is None else group_codes(groups, len(event))
        return pd.DataFrame({"event": event}), codes
