"""What the classifiers on the block table share."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from medfusion_sdk.estimators._classifier import NetworkClassifier
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.tables import group_blocks, presence_mask

__all__ = ["BlockClassifier"]


class BlockClassifier(NetworkClassifier):
    """Base of the classifiers that read a block table."""

    modalities: Any
    scaling: Any
    alpha: float
    _scaling: BlockScaling

    def _validate_fit(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        return validate_data(
            self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", multi_output=True
        )

    def _validate(self, X: Any) -> np.ndarray:
        return validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)

    def _absent(self, X: np.ndarray) -> list[str]:
        return [
            name for name, columns in self._read_blocks().items() if np.isnan(X[:, columns]).all()
        ]

    def _read_blocks(self) -> dict[str, np.ndarray]:
        """Column positions of each modality that is read."""
        return self._scaling.blocks

    def _check_left_out(self, X: np.ndarray, counted: np.ndarray) -> None:
        presence_mask(np.where(counted[:, None], X, 0.0), self._all_blocks(X))

    def _all_blocks(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """Column positions of each modality of the table."""
        names = getattr(self, "feature_names_in_", None)
        return group_blocks(names, X.shape[1], self.modalities)

    def _fit_scaling(self, table: TrainingTable, modalities: Any) -> BlockScaling:
        return BlockScaling.fit(
            table.X,
            table.weight,
            feature_names=getattr(self, "feature_names_in_", None),
            modalities=modalities,
            scaling=self.scaling,
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
