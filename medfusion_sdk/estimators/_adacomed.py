"""What a fit of AdaCoMed learns: both paths, stage by stage, and how rows are read for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_X_y, validate_data

from medfusion_sdk._parameters import Allowed
from medfusion_sdk.estimators._adacomed_parameters import (
    COLLABORATION,
    check_collaboration,
    check_n_experts,
    choose_strategy,
    reads_cells,
)
from medfusion_sdk.estimators._block_classifier import BlockClassifier
from medfusion_sdk.estimators._calibration import Calibration
from medfusion_sdk.estimators._cohort_reader import CohortReader, CohortRows, check_cohort_table
from medfusion_sdk.estimators._collaboration import fill_bank, make_network, start_head
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._networks import (
    RowSpans,
    probabilities_of,
    resume,
    seeded_module,
    to_tensors,
)
from medfusion_sdk.estimators._paths import has_any, select_blocks
from medfusion_sdk.estimators._rows import values_of
from medfusion_sdk.estimators._scaling import BlockScaling, apply_where
from medfusion_sdk.estimators._small_path import BlockPath, SmallPath, fit_small_path
from medfusion_sdk.exceptions import ModalityError
from medfusion_sdk.tables import presence_mask, shown_rows

if TYPE_CHECKING:
    from torch import Tensor

    from medfusion_sdk.nn.adacomed import AdaCoMedNetwork

__all__ = ["AdaCoMedBase"]

# What the network's shape and its prediction depend on: kept from fit, so that parameters set
# afterwards don't change a fitted model.
_ARCHITECTURE = (
    "hidden_dim",
    "n_heads",
    "attention",
    "max_subset_size",
    "similarity",
    "temperature",
    "proj_dim",
    "share_head",
    "freeze_small",
    "match_norm",
)


class AdaCoMedBase(BlockClassifier):
    """Pretrains the small path, then trains the large one to collaborate with it."""

    _allowed: ClassVar[Mapping[str, Allowed]] = {**BlockClassifier._allowed, **COLLABORATION}

    large: Any
    small: Any
    large_modalities: Sequence[str] | None
    small_modalities: Sequence[str] | None
    inference_similarity: str
    init_head_from_small: bool
    strategy_params: Mapping[str, float] | None
    proj_dim: int | None
    modalities_: list[str]
    _small: SmallPath
    _cohort: CohortReader | None = None

    # -- fit ----------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_collaboration(self)

    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        self._cohort, self._block_names, self.large_ = None, None, None
        if self.large is None:
            return super()._validate_fit(X, y)
        check_cohort_table(X)
        validate_data(self, X, skip_check_array=True)
        # For y alone: the transformers check the cells.
        _, y = check_X_y(np.zeros((len(X), 1)), y, multi_output=True)
        return X, y

    def _read_once(self, table: TrainingTable) -> TrainingTable:
        return table if self.large is None else replace(table, X=self._fit_reader(table))

    def _fit_table(self, table: TrainingTable) -> None:
        from medfusion_sdk.training import module_to_state

        self._fit_paths(table)
        network, data = self._start(table)

        def finish(trained: AdaCoMedNetwork) -> AdaCoMedNetwork:
            if self.inference_similarity == "bank":
                fill_bank(trained, self._kept_part(table, data), self._seed)
            if self._spans is not None:
                trained.experts.dims = self._spans.widen(trained.experts.projections)
            return trained

        self._module = self._train(network, table, data, finish)
        self.similarity_ = self._module.running_similarity.item()
        self.state_ = module_to_state(self._module)
        del self._spans

    def _fit_reader(self, table: TrainingTable) -> CohortRows:
        """Learn what turns cells into blocks, from the rows to learn from; read all rows."""
        before, last = None, self.small
        if isinstance(self.small, Pipeline):
            last = self.small[-1]
            before = self.small[:-1] if len(self.small) > 1 else None
        self._cohort, rows = CohortReader.fit(self.large, before, last, table)
        self._block_names = self._cohort.block_names
        self.large_ = self._cohort.large
        return rows

    def _fit_paths(self, table: TrainingTable) -> None:
        """Pretrain the small path, learn the large one's scaling."""
        blocks = self._all_blocks(table.X)
        self._check_scaling(blocks)
        large = select_blocks(blocks, self.large_modalities, "large_modalities")
        check_n_experts(self, len(large))
        small = {}
        if not reads_cells(self):
            small = select_blocks(blocks, self.small_modalities, "small_modalities")
        _refuse_empty_rows(table.X, large | small, table.rows)
        learning = table.take(table.kept)
        self._small = fit_small_path(self, learning, small)
        self.small_ = self._small.model
        if isinstance(self.small, Pipeline):
            assert self._cohort is not None
            before = self._cohort.before_small
            steps = [] if before is None else before.steps
            self.small_ = Pipeline([*steps, (self.small.steps[-1][0], self._small.model)])
        values = values_of(learning.X)
        has_large = has_any(values, large)
        self._scaling = BlockScaling.fit(
            values[has_large],
            learning.weight[has_large],
            feature_names=None,
            modalities=large,
            scaling=self.scaling,
        )
        self.modalities_ = list(large)

    def _start(self, table: TrainingTable) -> tuple[AdaCoMedNetwork, dict[str, Tensor]]:
        """Stage 2's network, head started from the small model's, and the tensors to train on."""
        import torch

        values = values_of(table.X)
        has_large = has_any(values, self._scaling.blocks)
        x, present = apply_where(self._scaling, values, has_large)
        dtype = self._torch_dtype(x.size)
        before = getattr(self, "state_", None) if self.warm_start else None
        self.architecture_ = self._architecture(table, dtype)
        build = partial(make_network, self, n_rows=table.kept_weight)
        network, inputs = None, x
        if before is not None:
            network = seeded_module(partial(build, self._scaling.dims), self._seed, dtype)
        self._spans = None
        if network is None or not resume(network, before):
            self._spans = RowSpans(x[table.kept], present[table.kept], self._scaling.dims)
            inputs = self._spans.project(x)
            network = seeded_module(partial(build, self._spans.dims), self._seed, dtype)
            if self._small.model is not None and self.init_head_from_small:
                start_head(network, self._small.model, table.targets.classes)
        data = to_tensors(inputs, present, dtype)
        data |= self._small_inputs(table.X, has_large, dtype)
        weight = torch.from_numpy(table.weight[table.kept]).to(dtype)
        network.measure_norm(self._kept_part(table, data), weight)
        data["target"] = self._target_tensor(table.targets, dtype)
        return network, data

    def _architecture(self, table: TrainingTable, dtype: Any) -> dict[str, Any]:
        n_rows = len(table.kept)
        # A batch less the row itself, or as many rows as have a small path at all.
        n_stored = min(self._config(n_rows).rows_per_step(n_rows), n_rows) - 1
        n_stored = min(n_stored, int(self._small.present(table.X)[table.kept].sum()))
        return {
            "dims": self._scaling.dims,
            "n_outputs": len(table.targets.classes),
            "small_width": self._small.width,
            "embed_width": self.proj_dim or self._small.width,
            "bank_size": n_stored if self.inference_similarity == "bank" else 0,
            "multilabel": table.targets.multilabel,
            "dtype": str(dtype).removeprefix("torch."),
            "strategy": choose_strategy(self),
            **{name: getattr(self, name) for name in _ARCHITECTURE},
            "strategy_params": dict(self.strategy_params or {}),
        }

    def _build_network(self) -> AdaCoMedNetwork:
        import torch

        a = self.architecture_
        dtype = getattr(torch, a["dtype"])
        return seeded_module(partial(make_network, self, a["dims"]), 0, dtype)

    # -- prediction ---------------------------------------------------------------------------

    def _validate(self, X: Any) -> Any:
        if self._cohort is None:
            return super()._validate(X)
        check_cohort_table(X, self.feature_names_in_)
        validate_data(self, X, skip_check_array=True, reset=False)
        return self._cohort.read(X)

    def _read_blocks(self) -> dict[str, np.ndarray]:
        return self._small.blocks | self._scaling.blocks

    def _inputs(self, X: Any, rows: pd.Index) -> dict[str, Tensor]:
        import torch

        _refuse_empty_rows(X, self._read_blocks(), rows)
        dtype = getattr(torch, self.architecture_["dtype"])
        values = values_of(X)
        has_large = has_any(values, self._scaling.blocks)
        x, present = apply_where(self._scaling, values, has_large)
        return to_tensors(x, present, dtype) | self._small_inputs(X, has_large, dtype)

    def _calibrated(
        self, out: dict[str, np.ndarray], calibration: Calibration
    ) -> dict[str, np.ndarray]:
        # Weights of the two paths sum to one: what holds for their mean holds for each.
        paths = {path: calibration(out[f"logits_{path}"]) for path in ("large", "small")}
        answers = {
            f"proba_{path}": probabilities_of(logits, self.multilabel_)
            for path, logits in paths.items()
        }
        scores = {f"logits_{path}": logits for path, logits in paths.items()}
        return super()._calibrated(out, calibration) | scores | answers

    def _small_inputs(self, X: Any, has_large: np.ndarray, dtype: Any) -> dict[str, Tensor]:
        """The small path's part of a batch: its embedding, or what a trained encoder reads."""
        import torch

        inputs = {"has_large": torch.from_numpy(has_large)}
        has_small = self._small.present(X)
        if self.architecture_["freeze_small"]:
            inputs["e_small"] = torch.from_numpy(self._small.embed(X)).to(dtype)
        else:
            assert isinstance(self._small, BlockPath)
            own = values_of(X)[:, self._small.columns]
            x, present = apply_where(self._small.model._scaling, own, has_small)
            small = to_tensors(x, present, dtype)
            inputs |= {"small_x": small["x"], "small_present": small["present"]}
        return inputs | {"has_small": torch.from_numpy(has_small)}


def _refuse_empty_rows(X: Any, blocks: Mapping[str, np.ndarray], rows: pd.Index) -> None:
    """Refuse rows that have nothing for either path; `blocks` are those that a path reads."""
    if not isinstance(X, CohortRows):
        presence_mask(X, blocks, rows)
        return
    empty = np.flatnonzero(~(has_any(X.values, dict(blocks)) | X.has_small))
    if empty.size:
        raise ModalityError(
            f"{empty.size} row(s) have neither a block of {list(blocks)} nor a cell that the small "
            f"model reads: {shown_rows(rows, empty)}. Drop these rows; without any input there is "
            "nothing to predict from."
        )
