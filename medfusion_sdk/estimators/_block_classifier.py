"""What the classifiers on the block table share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from medfusion_sdk._parameters import Allowed
from medfusion_sdk.estimators._block_table import BlockTable
from medfusion_sdk.estimators._classifier import NetworkClassifier
from medfusion_sdk.estimators._rows import checked_numbers

__all__ = ["BlockClassifier"]


class BlockClassifier(BlockTable, NetworkClassifier):
    """Base of the classifiers that read a block table."""

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **NetworkClassifier._allowed,
        **BlockTable._allowed,
    }

    def _validate_fit(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        return checked_numbers(self, X, y, multi_output=True)
