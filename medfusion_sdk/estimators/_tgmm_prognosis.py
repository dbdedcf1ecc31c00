"""What TGMM's estimators of a prognosis share: what the head learns, and the expert beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from medfusion_sdk._parameters import FLAG, Allowed, Number, OneOf
from medfusion_sdk.estimators._cox_expert import CoxExpert, fit_cox_expert, suffices
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._tgmm import TGMMBase
from medfusion_sdk.survival import SurvivalTimes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TGMMPrognosis"]


class TGMMPrognosis(TGMMBase):
    """Base of the estimators with a prognosis among their tasks."""

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **TGMMBase._allowed,
        "prognosis_loss": OneOf("cox", "margin", "both"),
        "ties": OneOf("breslow", "efron"),
        "margin": Number(above=0),
        "expert": FLAG | OneOf("auto"),
    }

    prognosis_loss: str
    ties: str
    margin: float
    expert: bool | str
    cox_expert_: CoxExpert | None

    @property
    def _prognosis_head(self) -> dict[str, Any]:
        return {"loss": self.prognosis_loss, "ties": self.ties, "margin": self.margin}

    def _prognosis_labels(
        self, table: TrainingTable, y: SurvivalTimes, known: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """What the head reads of a batch: times, events, and the expert's risks if there is one.

        Rows that aren't `known` have no outcome; what `y` holds for them is of no matter.
        """
        known = np.ones(len(y), bool) if known is None else known
        # Only their order counts, and ranks survive float32.
        time = np.unique(y.time, return_inverse=True)[1].astype(np.float64)
        labels = {"time": np.where(known, time, np.nan), "event": y.event & known}
        learnt = table.kept[known[table.kept]]
        self.cox_expert_ = None
        if self.expert is True or (self.expert == "auto" and suffices(y.take(learnt))):
            x, present = self._scaling.apply(table.X, table.rows)
            self.cox_expert_, own = fit_cox_expert(
                x[learnt],
                present[learnt],
                self._scaling.dims,
                y.take(learnt),
                table.weight[learnt],
                ties=self.ties,
                seed=self._seed,
            )
            labels["cox_expert"] = self.cox_expert_.risk(x)
            labels["cox_expert"][learnt] = own
        return labels

    def _training_risk(self, table: TrainingTable, labels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log-risks of the training rows; the expert's part by models that haven't seen them."""
        risk = self._outputs(table.X, table.rows)["risk"].astype(np.float64)
        if self.cox_expert_ is None:
            return risk
        seen = self.cox_expert_.risk(self._scaling.apply(table.X, table.rows)[0])
        return risk - seen + labels["cox_expert"]

    def _inputs(self, X: np.ndarray, rows: pd.Index) -> dict[str, Tensor]:
        import torch

        data = super()._inputs(X, rows)
        if self.cox_expert_ is not None:
            risk = self.cox_expert_.risk(self._scaling.apply(X, rows)[0])
            data["cox_expert"] = torch.from_numpy(risk).to(data["x"].dtype)
        return data
