"""What the estimators on the block table share: checks, blocks, scaling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import Tags

from medfusion_sdk._parameters import Allowed, MappingTo, Number, OneOf
from medfusion_sdk.estimators._network_estimator import NetworkEstimator, TrainingTable
from medfusion_sdk.estimators._rows import ReadRows, checked_numbers, values_of
from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.tables import group_blocks

__all__ = ["BlockTable"]

_SCALING = OneOf("auto", "feature", "block", "none")


class BlockTable(NetworkEstimator):
    """Base of the estimators that read a block table."""

    modalities: Any
    scaling: Any
    alpha: float
    _scaling: BlockScaling
    # Columns of a block table that the estimator makes of a cohort table.
    _block_names: list[str] | None = None

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **NetworkEstimator._allowed,
        "scaling": _SCALING | MappingTo(_SCALING),
        "alpha": Number(least=0),
        "dropout": Number(least=0, below=1),
        "modality_dropout": Number(least=0, below=1),
    }

    def _validate(self, X: Any) -> Any:
        return checked_numbers(self, X, reset=False)

    def _absent(self, X: Any) -> list[str]:
        values, blocks = values_of(X), self._read_blocks()
        return [name for name, columns in blocks.items() if np.isnan(values[:, columns]).all()]

    def _as_given(self, X: Any) -> Any:
        return X.frame if isinstance(X, ReadRows) else super()._as_given(X)

    def _read_blocks(self) -> dict[str, np.ndarray]:
        """Column positions of each modality that is read."""
        return self._scaling.blocks

    def _all_blocks(self, X: Any) -> dict[str, np.ndarray]:
        """Column positions of each modality of the table."""
        names = self._block_names or getattr(self, "feature_names_in_", None)
        return group_blocks(names, values_of(X).shape[1], self.modalities)

    def _check_scaling(self, modalities: Iterable[str]) -> None:
        """Refuse a mapping whose names aren't the table's: a typo would pass for "auto"."""
        unknown = set() if isinstance(self.scaling, str) else {*self.scaling} - {*modalities}
        if unknown:
            raise ParameterError(
                f"{type(self).__name__}: scaling names {sorted(unknown)}; the table has the "
                f"modalities {list(modalities)}."
            )

    def _fit_scaling(self, table: TrainingTable, modalities: Any) -> BlockScaling:
        kept = table.kept
        return BlockScaling.fit(
            table.X[kept],
            table.weight[kept],
            feature_names=getattr(self, "feature_names_in_", None),
            modalities=modalities,
            scaling=self.scaling,
            rows=table.rows[kept],
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
