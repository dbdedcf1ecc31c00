"""A ridge Cox model: the simple model that belongs beside a method of prognosis."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk.estimators._cox_expert import fit_cox
from medfusion_sdk.estimators._unseen import in_span
from medfusion_sdk.survival import BaselineHazard, StepFunction, SurvivalTimes

__all__ = ["RidgeCox"]


class RidgeCox(BaseEstimator):
    """Cox's model of standardised columns, with the penalty that the ridge expert of TGMM has.

    Rows are expected with a norm of about one, whatever their width.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to finite numbers X of shape (n, width) and a survival outcome."""
        X, times = check_array(X, dtype=np.float64), SurvivalTimes.of(y)
        check_consistent_length(X, times.time)
        z, basis = in_span(X)
        coef = fit_cox(z, times, np.ones(len(X)), "efron")
        self.coef_ = coef if basis is None else basis @ coef
        self.n_features_in_ = X.shape[1]
        self.baseline_ = BaselineHazard.fit(X @ self.coef_, times)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Log-risks (n,) of rows."""
        check_is_fitted(self)
        return check_array(X, dtype=np.float64) @ self.coef_

    @property
    def unique_times_(self) -> np.ndarray:
        """Times of the training rows, ascending."""
        return self.baseline_.time

    def predict_survival_function(self, X: Any, return_array: bool = False) -> np.ndarray:
        """Survival functions (n,) of rows, or their values (n, n_times)."""
        values = self.baseline_.survival(self.predict(X))
        if return_array:
            return values
        found = np.empty(len(values), dtype=object)
        found[:] = [StepFunction(self.unique_times_, row, 1.0) for row in values]
        return found

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "survival"
        tags.target_tags.required = True
        return tags
