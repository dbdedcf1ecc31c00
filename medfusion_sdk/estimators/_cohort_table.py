"""What estimators share that read a cohort table, or its numbers alone, through backbones."""

from __future__ import annotations

import sys
from abc import abstractmethod
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Tags
from sklearn.utils.validation import check_X_y, validate_data

from medfusion_sdk.estimators._network_estimator import (
    NetworkEstimator,
    TrainingTable,
    UnlabelledTable,
)
from medfusion_sdk.estimators._rows import refuse_infinity
from medfusion_sdk.exceptions import ModalityError

__all__ = ["CohortTableEstimator"]


class CohortTableEstimator(NetworkEstimator):
    """Checks tables, and decides how exactly to compute on them.

    A subclass implements ``_reads_numbers`` (whether it was fitted on a block of them) and
    ``_numbers_alone`` (whether on nothing else), besides what :class:`NetworkEstimator` asks for.
    """

    @abstractmethod
    def _reads_numbers(self) -> bool: ...

    @abstractmethod
    def _numbers_alone(self) -> bool: ...

    # -- tables -------------------------------------------------------------------------------

    def _validate(self, X: Any) -> Any:
        return self._check_table(X, reset=False)

    def _check_table(self, X: Any, *, reset: bool) -> Any:
        """Check names and number of columns; numbers alone are checked as scikit-learn does."""
        frame = isinstance(X, pd.DataFrame)
        if frame and not all(pd.api.types.is_numeric_dtype(dtype) for dtype in X.dtypes):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X
        if not reset and not self._reads_numbers():
            raise ModalityError(
                f"fitted on a table with the columns {list(self.feature_names_in_)}; predict on a "
                f"DataFrame that has them, not on a {type(X).__name__} of numbers."
            )
        values = validate_data(self, X, dtype=np.float64, ensure_all_finite=False, reset=reset)
        refuse_infinity(values, X)
        named = frame and hasattr(self, "feature_names_in_")
        return pd.DataFrame(values, columns=X.columns, index=X.index) if named else values

    def _check_table_and_targets(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        X = self._check_table(X, reset=True)
        # For y alone; the table has been checked.
        _, y = check_X_y(np.zeros((len(X), 1)), y, multi_output=True)
        return X, y

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    # -- precision ----------------------------------------------------------------------------

    def _torch_dtype(self, n_values: int) -> Any:
        import torch

        return torch.float32 if self.dtype == "bfloat16" else super()._torch_dtype(n_values)

    def _n_values(self, table: TrainingTable | UnlabelledTable) -> int:
        # Only a table of numbers alone is computed in float64; a large network on real cells would
        # take twice as long for digits that nobody reads.
        return table.X.size if self._numbers_alone() else sys.maxsize

    def _training_dtype(self, table: TrainingTable | UnlabelledTable) -> Any:
        """What frozen blocks are computed in while others are trained."""
        import torch

        from medfusion_sdk.backbones.devices import resolve_device
        from medfusion_sdk.backbones.precision import fast_dtype

        if self.dtype == "bfloat16":
            return torch.bfloat16
        fast = fast_dtype(resolve_device(self.device))
        auto = self.dtype == "auto" and not self._numbers_alone()
        return fast if auto else self._torch_dtype(self._n_values(table))
