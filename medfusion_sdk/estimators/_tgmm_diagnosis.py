"""What TGMM's estimators of a diagnosis share: the expert beside the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from medfusion_sdk._parameters import FLAG, Allowed, OneOf
from medfusion_sdk.estimators._expert import Expert, fit_beside
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._raw_columns import RawRows
from medfusion_sdk.estimators._rows import values_of
from medfusion_sdk.estimators._tgmm import TGMMBase

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TGMMDiagnosis"]


class TGMMDiagnosis(TGMMBase):
    """Base of the estimators with a diagnosis among their tasks."""

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **TGMMBase._allowed,
        "expert": FLAG | OneOf("auto"),
    }

    expert: bool | str
    expert_: Expert | None

    def _fit_expert(
        self, table: TrainingTable, codes: np.ndarray, kind: str, known: np.ndarray | None = None
    ) -> None:
        """Fit the expert on the rows with a known diagnosis."""
        learnt = table.kept if known is None else table.kept[known[table.kept]]
        self.expert_, _ = fit_beside(
            self._plain(table.X),
            codes,
            table.weight,
            learnt,
            wanted=self.expert,
            kind=kind,
            seed=self._seed,
        )

    def _plain(self, X: np.ndarray | RawRows) -> np.ndarray:
        """Columns of all modalities as they are: for trees."""
        return values_of(X)[:, np.concatenate(list(self._scaling.blocks.values()))]

    def _inputs(self, X: np.ndarray | RawRows, rows: pd.Index) -> dict[str, Tensor]:
        import torch

        data = super()._inputs(X, rows)
        if self.expert_ is not None:
            scores = torch.from_numpy(self.expert_.scores(self._plain(X)))
            data["expert"] = scores.to(data["x"].dtype)
        return data
