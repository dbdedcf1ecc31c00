"""TGMM's retrieval: what it learns from, and where it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medfusion_sdk._parameters import NONE, Allowed, Number, OneOf, Whole
from medfusion_sdk.estimators._content import equal_rows
from medfusion_sdk.estimators._correlation import correlated_maps
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._targets import Targets
from medfusion_sdk.estimators._tgmm import TGMMBase
from medfusion_sdk.estimators._tokens import token_mask
from medfusion_sdk.training import TrainingConfig

if TYPE_CHECKING:
    from medfusion_sdk.nn.tgmm_tasks import TGMMTasks

__all__ = ["TGMMRetrieval"]

# Below this number of training rows there is little to learn beyond the aligned start, and "auto"
# goes gently: by cross-validation on the bundled PTB-XL records, and by PhysioNet 2012's vital
# signs and laboratory values (4,000 stays), where training gains a tenth.
_FEW_ROWS = 2000
_GENTLE = {"lr": 3e-5, "max_epochs": 20}
_THOROUGH = {"lr": 3e-4, "max_epochs": 60}
_BATCH_ROWS = 256


class TGMMRetrieval(TGMMBase):
    """Base of the estimators with retrieval as their task."""

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **TGMMBase._allowed,
        "embed_size": Whole(least=1),
        "temperature": Number(above=0),
        "label_share": Number(least=0, most=1),
        "cca_ridge": Number(above=0) | NONE,
        "learning_rate": Number(above=0) | OneOf("auto"),
        "max_epochs": Whole(least=1) | OneOf("auto"),
    }

    embed_size: int
    temperature: float
    label_share: float
    cca_ridge: float | None

    # -- learning -----------------------------------------------------------------------------

    def _config(self, n_rows: int, **changed: Any) -> TrainingConfig:
        few = n_rows < _FEW_ROWS
        auto = _GENTLE if few and self.cca_ridge is not None else _THOROUGH
        given = {"lr": self.learning_rate, "max_epochs": self.max_epochs}
        settings = {name: auto[name] if x == "auto" else x for name, x in given.items()}
        rows = n_rows if few else _BATCH_ROWS
        return super()._config(n_rows, **{"auto_rows": rows, **settings, **changed})

    def _learn_places(self, table: TrainingTable) -> None:
        table = self._read_table(table)
        settings = {
            "embed_size": self.embed_size,
            "temperature": self.temperature,
            "label_share": 0.0 if table.targets is None else self.label_share,
        }
        row = equal_rows(table.X)
        # Where each row is a patient, its copies are the same one.
        alone = len(np.unique(table.groups)) == len(row)
        labels = {"row": row, "patient": row if alone else table.groups}
        if table.targets is not None:
            labels["labels"] = _memberships(table.targets)
        self._learn(table, {"retrieval": settings}, labels)
        self._conclude(table)

    def _start(
        self, table: TrainingTable, x: np.ndarray, present: np.ndarray, dtype: Any
    ) -> tuple[TGMMTasks, np.ndarray]:
        network, inputs = super()._start(table, x, present, dtype)
        if self.cca_ridge is not None and self._spans is not None:
            blocks = np.split(inputs, np.cumsum(self._spans.dims)[:-1], axis=1)
            self._align(network, table, blocks, present, self.cca_ridge)
        return network, inputs

    def _align(
        self,
        network: TGMMTasks,
        table: TrainingTable,
        inputs: list[np.ndarray],
        present: np.ndarray,
        ridge: float,
    ) -> None:
        """Start where the training rows' modalities, and their labels, correlate most."""
        import torch

        from medfusion_sdk.nn.tgmm_alignment import start_aligned

        kept = table.kept
        blocks = [own[kept] for own in self._mean_tokens(table.X, inputs, present)]
        there, weight = present[kept], table.weight[kept]
        if table.targets is not None:
            member = _memberships(table.targets)[kept]
            blocks.append(member - np.average(member, axis=0, weights=weight))
            there = np.column_stack([there, np.ones(len(kept), dtype=bool)])
        maps = correlated_maps(blocks, there, weight, n_components=self.d_model - 1, ridge=ridge)
        start_aligned(network, [torch.from_numpy(own) for own in maps[: present.shape[1]]])

    def _mean_tokens(
        self, X: np.ndarray, inputs: list[np.ndarray], present: np.ndarray
    ) -> list[np.ndarray]:
        """Each modality's vector, or the mean of the tokens that are there."""
        if not self._token_shapes:
            return inputs
        mask = token_mask(X, self._scaling.blocks, present, self._token_shapes)
        counts = self.architecture_["n_tokens"]
        means = []
        for own, there in zip(inputs, np.split(mask, np.cumsum(counts)[:-1], axis=1), strict=True):
            tokens = own.reshape(*there.shape, -1) * there[..., None]
            means.append(tokens.sum(axis=1) / np.maximum(there.sum(axis=1), 1)[:, None])
        return means


def _memberships(targets: Targets) -> np.ndarray:
    """0/1 columns: one per label, or per class."""
    if targets.multilabel:
        return targets.codes
    return np.eye(len(targets.classes))[targets.codes]
