"""What regressors share: one fit from table to state, on standardised targets."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import ClassNamePrefixFeaturesOutMixin, RegressorMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.estimators._network_estimator import (
    NetworkEstimator,
    TrainingTable,
    kept_rows,
)
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.estimators._targets import row_weights
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.training import with_callbacks

__all__ = ["NetworkRegressor", "Numbers"]


@dataclass(frozen=True)
class Numbers:
    """Targets of a regression.

    Attributes
    ----------
    codes : ndarray of shape (n, K), float
        Standardised.
    mean, scale : ndarray of shape (K,)
        What they were standardised by.
    names : ndarray
        What tables call the targets.
    flat : bool
        Whether y came with one dimension.
    """

    codes: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    names: np.ndarray
    flat: bool

    @property
    def original(self) -> np.ndarray:
        """The targets as they came."""
        y = self.codes * self.scale + self.mean
        return y[:, 0] if self.flat else y

    def take(self, rows: np.ndarray) -> Numbers:
        """Take some rows.

        Parameters
        ----------
        rows : ndarray of int or bool
            Which.

        Returns
        -------
        Numbers
            Those.
        """
        return replace(self, codes=self.codes[rows])

    @classmethod
    def encode(
        cls, y: np.ndarray, weight: np.ndarray, raw: Any, kept: np.ndarray | None = None
    ) -> Numbers:
        """Standardise a validated y.

        Parameters
        ----------
        y : ndarray of shape (n,) or (n, K)
            Targets.
        weight : ndarray of shape (n,)
            Of the rows, positive.
        raw : object
            y as the user passed it, for the targets' names.
        kept : ndarray of int, optional
            Positions of the rows to learn from; all by default.

        Returns
        -------
        Numbers
            All rows by the mean and spread of those to learn from. A target that is the same in
            all of these has a scale of one.
        """
        wide = y.astype(np.float64).reshape(len(y), -1)
        rows = np.arange(len(y)) if kept is None else kept
        learnt, own = wide[rows], weight[rows]
        mean = np.average(learnt, axis=0, weights=own)
        spread = np.sqrt(np.average((learnt - mean) ** 2, axis=0, weights=own))
        scale = np.where(spread > 1e-12 * (1e-6 + np.abs(mean)), spread, 1.0)
        names = np.asarray(getattr(raw, "columns", np.arange(wide.shape[1])))
        return cls((wide - mean) / scale, mean, scale, names, y.ndim == 1)


class NetworkRegressor(
    ClassNamePrefixFeaturesOutMixin, RegressorMixin, TransformerMixin, NetworkEstimator
):
    """Base of the regressors.

    A subclass implements ``_validate_fit`` (checked X and y) and ``_fit_table`` (sets ``state_``
    and ``architecture_``), besides what :class:`NetworkEstimator` asks for.
    """

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit on a table.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            The table that the class reads.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Numbers.
        sample_weight : array-like of shape (n_samples,), optional
            Rows of weight zero are as good as removed.
        groups : array-like of shape (n_samples,), optional
            Patient of each row, of any hashable type. Whatever is learnt by leaving rows out keeps
            a patient's rows together. By default rows that hold the same belong together, and
            windows or prefixes of one stay, by their index.

        Returns
        -------
        self
            The fitted regressor.

        Raises
        ------
        DataError
            If groups don't fit the rows, or y holds dates or durations.
        ModalityError
            If a row has no modality, or a modality no row.
        ParameterError
            For a parameter outside its range.
        TrainingError
            If the loss stops being finite.
        """
        check_aligned(X=X, y=y, sample_weight=sample_weight, groups=groups)
        self._check_parameters()
        _refuse_dates(y)
        raw_X, raw_y = X, y
        X, y = self._validate_fit(X, y)
        weight = row_weights(X, y, sample_weight, None)
        counted = weight > 0
        self._module = None if not self.warm_start else getattr(self, "_module", None)
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        rows = row_labels(raw_X)
        together = self._row_groups(X, groups, rows, counted)
        held = self._held_out(together)
        kept = kept_rows(len(together), held)
        targets = Numbers.encode(y[counted], weight[counted], raw_y, kept)
        self.target_mean_, self.target_scale_ = targets.mean, targets.scale
        self.target_names_ = targets.names
        self._flat = targets.flat
        given = None if sample_weight is None else weight[counted]
        parts = X[counted], targets, weight[counted], rows[counted], together, given, held
        self._fit_table(TrainingTable(*parts))
        return self

    def _restore(self, y: np.ndarray) -> np.ndarray:
        """Targets in their own units and y's own shape."""
        restored = y.astype(np.float64) * self.target_scale_ + self.target_mean_
        return restored[:, 0] if self._flat else restored

    @abstractmethod
    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, np.ndarray]: ...

    @abstractmethod
    def _fit_table(self, table: TrainingTable) -> None: ...

    def transform(self, X: Any) -> np.ndarray:
        """Fused representation, which a linear head reads.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_dims)
            One vector per row.
        """
        return self._predict(X)["embedding"]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _refuse_dates(y: Any) -> None:
    """Refuse dates and durations: nanoseconds of them would be learnt."""
    dtypes = list(y.dtypes) if isinstance(y, pd.DataFrame) else [getattr(y, "dtype", None)]
    for dtype in dtypes:
        if getattr(dtype, "kind", None) in ("m", "M"):
            raise DataError(
                f"y holds {dtype}; a number is needed, for example of days: "
                "(end - start) / pd.Timedelta(days=1)."
            )
