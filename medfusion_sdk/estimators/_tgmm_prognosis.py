"""What TGMM's estimators of a prognosis share: what the head learns, and the expert beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from medfusion_sdk._parameters import FLAG, Allowed, Number, OneOf
from medfusion_sdk.estimators._cox_expert import CoxExpert, fit_cox_expert, suffices
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._raw_columns import RawRows
from medfusion_sdk.estimators._rows import values_of
from medfusion_sdk.estimators._scaling import mean_and_spread
from medfusion_sdk.estimators._tgmm import TGMMBase
from medfusion_sdk.survival import SurvivalTimes

__all__ = ["TGMMPrognosis"]

# What the network's log-risk counts beside the expert's, which is learnt with less noise; by
# cross-validation on TCGA and heart failure.
_NETWORK_SHARE = 0.5


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
    _scale: float
    _origin: float

    @property
    def _prognosis_head(self) -> dict[str, Any]:
        return {"loss": self.prognosis_loss, "ties": self.ties, "margin": self.margin}

    def _prognosis_labels(
        self, y: SurvivalTimes, known: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """What the head reads of a batch; where rows aren't `known`, `y` is of no matter."""
        known = np.ones(len(y), bool) if known is None else known
        # Only their order counts, and ranks survive float32.
        time = np.unique(y.time, return_inverse=True)[1].astype(np.float64)
        self.cox_expert_ = None
        return {"time": np.where(known, time, np.nan), "event": y.event & known}

    def _fit_cox_expert(
        self, table: TrainingTable, y: SurvivalTimes, known: np.ndarray | None = None
    ) -> np.ndarray:
        """Put the expert, if there is to be one, beside the trained network.

        Returns log-risks of the training rows for the baseline hazard: the expert's, by models
        that haven't seen them.
        """
        rows = table.kept if known is None else table.kept[known[table.kept]]
        risk = self._outputs(table.X, table.rows)["risk"].astype(np.float64)
        if self.expert is False or (
            self.expert == "auto" and not suffices(y.take(rows), table.groups[rows])
        ):
            return risk
        x, present = self._scaling.apply(values_of(table.X), table.rows)
        expert, own = fit_cox_expert(
            x[rows],
            present[rows],
            self._scaling.dims,
            y.take(rows),
            table.weight[rows],
            table.groups[rows],
            ties=self.ties,
            seed=self._seed,
        )
        # A network's log-risks have no origin, and are too far apart on rows that it knows: of the
        # sum the order counts, brought to mean and spread of the expert's on rows it hasn't seen.
        both = np.column_stack([own, own + _NETWORK_SHARE * risk[rows]])
        mean, spread = mean_and_spread(both, table.weight[rows])
        self._scale = float(spread[0] / spread[1]) if spread[1] > 0 else 1.0
        self._origin = float(mean[0] - self._scale * mean[1])
        self.cox_expert_ = expert
        risk = expert.risk(x)  # of rows held out for early stopping
        risk[rows] = own
        return risk

    def _outputs(self, X: np.ndarray | RawRows, rows: pd.Index) -> dict[str, np.ndarray]:
        out = super()._outputs(X, rows)
        if self.cox_expert_ is None or "risk" not in out:
            return out
        network = out["risk"].astype(np.float64)
        expert = self.cox_expert_.risk(self._scaling.apply(values_of(X), rows)[0])
        risk = self._origin + self._scale * (expert + _NETWORK_SHARE * network)
        return out | {"risk": risk, "risk_expert": expert, "risk_network": network}
