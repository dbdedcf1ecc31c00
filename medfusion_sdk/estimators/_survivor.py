"""What estimators of survival share: one fit from table to state, risks to curves."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_consistent_length, check_random_state

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.estimators._network_estimator import NetworkEstimator, TrainingTable
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.estimators._targets import row_weights
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.survival import BaselineHazard, StepFunction, SurvivalTimes, concordance
from medfusion_sdk.survival._wrapped import give_pipelines_curves
from medfusion_sdk.training import with_callbacks

__all__ = ["NetworkSurvival", "SurvivalCurves"]

give_pipelines_curves()


class SurvivalCurves(NetworkEstimator):
    """Base of the estimators that turn log-risks into curves.

    A subclass's fit sets ``baseline_``.
    """

    baseline_: BaselineHazard

    @property
    def unique_times_(self) -> np.ndarray:
        """Times of the training rows, ascending: where predicted curves may step."""
        return self.baseline_.time

    def predict_survival_function(self, X: Any, return_array: bool = False) -> np.ndarray:
        """Probability of no event up to each time.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.
        return_array : bool, default=False
            Return values at ``unique_times_`` instead of functions.

        Returns
        -------
        ndarray of shape (n_samples,) of StepFunction, or (n_samples, n_times)
            Functions have ``x`` (times) and ``y`` (values), and take any time of the follow-up.
        """
        risk = self._risk(X)
        values = self.baseline_.survival(risk)
        return values if return_array else self._functions(values, start=1.0)

    def predict_cumulative_hazard_function(self, X: Any, return_array: bool = False) -> np.ndarray:
        """Cumulative hazard up to each time.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.
        return_array : bool, default=False
            Return values at ``unique_times_`` instead of functions.

        Returns
        -------
        ndarray of shape (n_samples,) of StepFunction, or (n_samples, n_times)
            As of :meth:`predict_survival_function`; minus the logarithm of its values.
        """
        risk = self._risk(X)
        values = self.baseline_.hazards(risk)
        return values if return_array else self._functions(values, start=0.0)

    def _functions(self, values: np.ndarray, start: float) -> np.ndarray:
        found = np.empty(len(values), dtype=object)
        found[:] = [StepFunction(self.unique_times_, row, start) for row in values]
        return found

    def _risk(self, X: Any) -> np.ndarray:
        return self._predict(X)["risk"].astype(np.float64)


class NetworkSurvival(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SurvivalCurves):
    """Base of the estimators of survival.

    A subclass implements ``_validate_fit`` (a checked X) and ``_fit_table``, which sets ``state_``
    and ``architecture_`` and returns log-risks of the training rows, besides what
    :class:`NetworkEstimator` asks for.
    """

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit on a table.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Block table with columns ``modality__feature``: an all-NaN block is a missing
            modality, other NaN are imputed and flagged, and a bare array is one modality.
        y : structured array, DataFrame or array-like of shape (n_samples, 2)
            Event and time, in any form that :class:`~medfusion_sdk.survival.SurvivalTimes` reads.
        sample_weight : array-like of shape (n_samples,), optional
            Rows of weight zero are as good as removed.
        groups : array-like of shape (n_samples,), optional
            Patient of each row, of any hashable type. Whatever is learnt by leaving rows out keeps
            a patient's rows together. By default rows that hold the same belong together, and
            windows or prefixes of one stay, by their index.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        DataError
            If y isn't event and time, or groups don't fit the rows.
        ModalityError
            If a row has no modality, or a modality no row.
        ParameterError
            For a parameter that has a value it can't have.
        TrainingError
            If the loss stops being finite.
        """
        check_aligned(X=X, y=y, sample_weight=sample_weight, groups=groups)
        self._check_parameters()
        if y is None:
            raise DataError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        raw_X, X = X, self._validate_fit(X)
        y = SurvivalTimes.of(y)
        check_consistent_length(X, y.time)
        weight = row_weights(X, y.time, sample_weight, None)
        counted = weight > 0
        targets = y.take(counted)
        self._module = None if not self.warm_start else getattr(self, "_module", None)
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        given = None if sample_weight is None else weight[counted]
        rows = row_labels(raw_X)
        together = self._row_groups(X, groups, rows, counted)
        held = self._held_out(together, targets.strata)
        parts = X[counted], targets, weight[counted], rows[counted], together, given, held
        table = TrainingTable(*parts)
        risk, kept = self._fit_table(table), table.kept
        self.baseline_ = BaselineHazard.fit(risk[kept], targets.take(kept), table.weight[kept])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Log-risks.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples,)
            The higher, the earlier the event is expected; a difference of one is a hazard ratio
            of e.
        """
        return self._risk(X)

    def score(self, X: Any, y: Any) -> float:
        """Harrell's concordance index.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.
        y : structured array, DataFrame or array-like of shape (n_samples, 2)
            Event and time.

        Returns
        -------
        float
            See :func:`~medfusion_sdk.metrics.concordance_index`.
        """
        check_aligned(X=X, y=y)
        return concordance(SurvivalTimes.of(y), self.predict(X))

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

    @abstractmethod
    def _validate_fit(self, X: Any) -> np.ndarray: ...

    @abstractmethod
    def _fit_table(self, table: TrainingTable) -> np.ndarray: ...

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "survival"
        tags.target_tags.required = True
        return tags
