"""What TGMM's estimators share: blocks or tokens to tensors, prompts, one network with heads."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from medfusion_sdk._parameters import Allowed
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._networks import RowSpans, resume, seeded_module, to_tensors
from medfusion_sdk.estimators._prompts import choose_prompts, embed_prompts, numbered
from medfusion_sdk.estimators._raw_columns import RawColumns, RawRows
from medfusion_sdk.estimators._rows import row_labels, values_of
from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.estimators._tgmm_explanations import TaskOutput, drop_one, tgmm_explanation
from medfusion_sdk.estimators._tgmm_parameters import TGMM
from medfusion_sdk.estimators._tokens import check_token_shapes, token_mask
from medfusion_sdk.exceptions import GateCollapseWarning, ParameterError

if TYPE_CHECKING:
    from torch import Tensor

    from medfusion_sdk.nn.tgmm_tasks import TGMMTasks

__all__ = ["TGMMBase"]

# Parameters that make the network, kept from fit.
_SHAPE = (
    "d_model",
    "n_heads",
    "fusion",
    "gate",
    "guidance",
    "guidance_at",
    "n_learned_tokens",
)
_COLLAPSED = 0.95


class TGMMBase(RawColumns):
    """Reads a block table, embeds prompts, trains a network with a head for each task.

    A subclass's fit calls :meth:`_read_table`, :meth:`_learn` with the heads and their labels, and
    :meth:`_conclude`; ``_answers`` says what each task's answer is.
    """

    _allowed: ClassVar[Mapping[str, Allowed]] = {**RawColumns._allowed, **TGMM}

    token_shapes: Mapping[str, tuple[int, int]] | None
    d_model: int
    n_heads: int
    fusion: str
    gate: str
    guidance: str
    guidance_at: str
    n_learned_tokens: int
    prompts: str | Mapping[str, str] | None
    prompt_encoder: Any
    dropout: float
    modality_dropout: float
    clip: float | str | None
    task_weights: Mapping[str, float] | None = None
    modalities_: list[str]
    _token_shapes: dict[str, tuple[int, int]]
    _usual: dict[str, np.ndarray]

    @abstractmethod
    def _answers(self, out: Mapping[str, np.ndarray]) -> dict[str, TaskOutput]:
        """What each task answers, from the network's outputs."""

    # -- fitting ------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.d_model % self.n_heads:
            raise ParameterError(f"n_heads={self.n_heads} must divide d_model={self.d_model}.")

    def _read_table(self, table: TrainingTable) -> TrainingTable:
        """Learn blocks and scaling, by name: the modalities' order in the table doesn't matter.

        Returns the table with raw columns read.
        """
        table = self._read_columns(table)
        found = self._all_blocks(table.X)
        blocks = {name: found[name] for name in sorted(found)}
        self._check_scaling(blocks)
        self._token_shapes = check_token_shapes(self.token_shapes, blocks)
        learning = table.take(table.kept)
        self._scaling = BlockScaling.fit(
            values_of(learning.X),
            learning.weight,
            feature_names=None,
            modalities=blocks,
            scaling=self.scaling,
            rows=learning.rows,
            token_shapes=self._token_shapes,
            clip=self.clip,
        )
        self.modalities_ = self._scaling.names
        if clash := sorted(set(self.tuned_) & set(self._token_shapes)):
            raise ParameterError(f"token_shapes names {clash}, whose encoders give one vector.")
        return table

    def _learn(
        self,
        table: TrainingTable,
        heads: dict[str, dict[str, Any]],
        labels: Mapping[str, np.ndarray],
    ) -> None:
        """Train on a table that :meth:`_read_table` has learnt; sets ``state_``.

        `heads` has the settings of each task's head, `labels` what their losses read of a batch;
        floating ones get the network's type.
        """
        import torch

        from medfusion_sdk.nn.tuned import TunedInputs
        from medfusion_sdk.training import module_to_state

        x, present = self._scaling.apply(values_of(table.X), table.rows)
        dtype = self._torch_dtype(x.size)
        prompts = self._embed(heads)
        self.architecture_ = self._architecture(heads, prompts, dtype)
        network, inputs = self._start(table, x, present, dtype)
        network.network.set_prompts({task: torch.from_numpy(e) for task, e in prompts.items()})
        data = self._tensors(table.X, inputs, present)
        for name, values in labels.items():
            label = torch.from_numpy(np.ascontiguousarray(values))
            data[name] = label.to(dtype) if label.is_floating_point() else label

        def finish(trained: TGMMTasks | TunedInputs) -> TGMMTasks | TunedInputs:
            if self._spans is not None:
                trained.network.dims = self._spans.widen(trained.network.projections)
                if isinstance(trained, TunedInputs):
                    trained.places = self._encoder_places(self._scaling.dims)
            return trained

        self._module = self._train(network, table, data, finish)
        self.state_ = module_to_state(self._module)
        del self._spans

    def _embed(self, tasks: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Embeddings of the fixed prompts; none where no fixed tokens are wanted."""
        self.prompts_: dict[str, str] = {}
        embeddings: dict[str, np.ndarray] = {}
        tokens: dict[str, list[str]] = {task: [] for task in tasks}
        if self.guidance in ("both", "fixed"):
            self.prompts_ = choose_prompts(self.prompts, list(tasks))
            embeddings, tokens = embed_prompts(self.prompts_, self.prompt_encoder)
        n_learned = self.n_learned_tokens if self.guidance in ("both", "learned") else 0
        learned = [f"learned {i}" for i in range(n_learned)]
        self._prompt_tokens = {task: numbered([*own, *learned]) for task, own in tokens.items()}
        return embeddings

    def _architecture(
        self, heads: dict[str, dict[str, Any]], prompts: dict[str, np.ndarray], dtype: Any
    ) -> dict[str, Any]:
        shapes = [self._token_shapes.get(name) for name in self._scaling.names]
        dims = [
            width if shape is None else shape[1]
            for width, shape in zip(self._scaling.dims, shapes, strict=True)
        ]
        return {
            "dims": dims,
            "n_tokens": [1 if shape is None else shape[0] for shape in shapes],
            "heads": heads,
            "prompt_shapes": [list(prompts[task].shape) for task in heads if task in prompts],
            "encoders": self._encoder_prints(),
            "embed_width": self.d_model * len(heads),
            "dtype": str(dtype).removeprefix("torch."),
            **{name: getattr(self, name) for name in _SHAPE},
        }

    def _start(
        self, table: TrainingTable, x: np.ndarray, present: np.ndarray, dtype: Any
    ) -> tuple[TGMMTasks, np.ndarray]:
        """An untrained network with its inputs, in the span of the rows; or the last fit's."""
        regularisation: dict[str, Any] = {
            "dropout": self.dropout,
            "modality_dropout": self.modality_dropout,
            "alpha": self.alpha / table.kept_weight,
            "task_weights": self.task_weights,
        }
        before = getattr(self, "state_", None) if self.warm_start else None
        if before is not None:
            network = seeded_module(lambda: self._make(**regularisation), self._seed, dtype)
            if resume(network, before):
                self._spans = None
                return network, x
        names, built = self._scaling.names, self.architecture_
        sequences = [m for m, name in enumerate(names) if name in self._token_shapes]
        # What an encoder makes anew doesn't stay in the span of what it made before.
        whole = [*sequences, *(m for m, name in enumerate(names) if name in self.tuned_)]
        kept = table.kept
        self._spans = RowSpans(x[kept], present[kept], self._scaling.dims, whole=whole)
        dims = [
            built["dims"][m] if m in sequences else width
            for m, width in enumerate(self._spans.dims)
        ]
        network = seeded_module(lambda: self._make(dims, **regularisation), self._seed, dtype)
        return network, self._spans.project(x)

    def _make(self, dims: list[int] | None = None, **regularisation: Any) -> TGMMTasks:
        from medfusion_sdk.nn.tgmm_network import TGMMNetwork, TGMMShape
        from medfusion_sdk.nn.tgmm_tasks import HEADS, TGMMTasks

        built = self.architecture_
        shape = TGMMShape(
            tuple(dims or built["dims"]),
            tuple(built["n_tokens"]),
            tuple(built["heads"]),
            prompt_shapes=tuple((n, d) for n, d in built["prompt_shapes"]),
            **{name: built[name] for name in _SHAPE},
        )
        network = TGMMNetwork(shape, regularisation.pop("dropout", 0.0))
        heads = {
            task: HEADS[task](shape.d_model, **settings)
            for task, settings in built["heads"].items()
        }
        tasks = TGMMTasks(network, heads, **regularisation)
        widths = [n * d for n, d in zip(shape.n_tokens, shape.dims, strict=True)]
        return self._with_encoders(tasks, widths)

    def _build_network(self) -> TGMMTasks:
        import torch

        return self._make().to(getattr(torch, self.architecture_["dtype"]))

    def _conclude(self, table: TrainingTable) -> None:
        """Look at the training rows through the finished model."""
        learning = table.take(table.kept)
        out = self._outputs(learning.X, learning.rows)
        self._usual = {
            task: np.average(answer.values, axis=0, weights=learning.weight)
            for task, answer in self._answers(out).items()
        }
        self._warn_of_collapse(out)

    def _warn_of_collapse(self, out: Mapping[str, np.ndarray]) -> None:
        """Say so where the gates have come to trust one modality alone."""
        gate = out[f"{next(iter(self.architecture_['heads']))}.gate"]
        several = out["present"].sum(axis=1) > 1
        if not several.any() or (mean := gate[several].max(axis=1).mean()) <= _COLLAPSED:
            return
        name = self.modalities_[int(gate[several].mean(axis=0).argmax())]
        warnings.warn(
            f"the gates collapsed: the largest is {mean:.3f} on average over rows with two "
            f"modalities or more, mostly that of {name!r}. Raise modality_dropout or alpha, lower "
            'learning_rate or max_epochs, or set gate="sigmoid".',
            GateCollapseWarning,
            stacklevel=5,
        )

    # -- prediction ---------------------------------------------------------------------------

    def _inputs(self, X: np.ndarray | RawRows, rows: pd.Index) -> dict[str, Tensor]:
        x, present = self._scaling.apply(values_of(X), rows)
        return self._tensors(X, x, present)

    def _tensors(
        self, X: np.ndarray | RawRows, x: np.ndarray, present: np.ndarray
    ) -> dict[str, Any]:
        """Tensors of scaled rows; `X` says which tokens they have, and what encoders read."""
        import torch

        data = to_tensors(x, present, getattr(torch, self.architecture_["dtype"]))
        if self._token_shapes:
            values = values_of(X)
            mask = token_mask(values, self._scaling.blocks, present, self._token_shapes)
            data["tokens"] = torch.from_numpy(mask)
        return data | self._encoder_inputs(X)

    def explain(self, X: Any) -> pd.DataFrame:
        """Tell how each row's modalities were weighed, and what each changed.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        DataFrame
            One line per row, task and quantity: ``row``, ``task``, ``quantity``, ``modality``,
            ``source``, ``token``, ``label``, ``value``. Quantities are ``gate`` (per modality,
            summing to one), ``attention`` (what a modality takes from a source, mean over
            heads), ``prompt`` (how much a prompt token looks at a source, which is a modality or
            "fused"; mean over heads), the task's answer and, where there is an expert, those of
            network and expert by themselves, and ``drop_one``: the answer less the
            answer without the modality, from predicting again; 0 for one that the row lacks, and
            for its only one the answer less the training rows' mean answer.
        """
        read, rows = self._checked(X), row_labels(X)
        out = self._outputs(read, rows)
        answers = self._answers(out)

        def rerun(hidden: np.ndarray, kept: np.ndarray) -> dict[str, TaskOutput]:
            raw = isinstance(read, RawRows)
            again: Any = replace(read[kept], values=hidden) if raw else hidden
            return self._answers(self._outputs(again, rows[kept]))

        changes = drop_one(
            values_of(read), self._scaling.blocks, out["present"], answers, self._usual, rerun
        )
        return tgmm_explanation(rows, self.modalities_, out, answers, changes, self._prompt_tokens)
