"""What AMFN's classifier and regressor share: reading a table, the expert, the networks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from medfusion_sdk._parameters import Allowed
from medfusion_sdk.estimators._amfn_parameters import AMFN
from medfusion_sdk.estimators._amfn_reading import TableReading, TableValues
from medfusion_sdk.estimators._cell_checks import (
    channel_names,
    numeric_columns,
    plain_table,
    refuse_cells_in_blocks,
    refuse_other_channels,
)
from medfusion_sdk.estimators._expert import Expert, fit_beside
from medfusion_sdk.estimators._layout import Layout, absent_modalities, find_layout
from medfusion_sdk.estimators._network_estimator import NetworkEstimator, TrainingTable
from medfusion_sdk.estimators._networks import resume, seeded_module
from medfusion_sdk.estimators._rows import refuse_infinity
from medfusion_sdk.exceptions import DataError, ModalityError, ParameterError
from medfusion_sdk.training import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medfusion_sdk.nn.amfn_network import AMFNShape
    from medfusion_sdk.nn.amfn_tasks import AMFNTraining

__all__ = ["AMFNBase"]

_SEQUENCE = ("gru", "tcn", "transformer")
# Fewer rows are one batch: a step's statistics are then those of all rows, whatever their order.
_SINGLE_BATCH_ROWS, _BATCH_ROWS = 64, 128
# What "auto" epochs are, and no fewer steps than these.
_EPOCHS, _LEAST_STEPS = 10, 250

# "auto" reads series step by step where this share or more was observed: waveforms and regular
# recordings. Of charted values a summary said as much on PhysioNet 2012, at a third of the time.
_DENSE = 0.9

# Parameters that make the network, kept from fit.
_FUSION = (
    "d_model",
    "n_heads",
    "n_gcn_layers",
    "adjacency",
    "gcn_residual",
    "norm",
    "use_gate",
    "use_attention",
    "use_gcn",
)


class AMFNBase(NetworkEstimator):
    """Reads a cohort or block table, fits the expert, and builds the networks on both."""

    _allowed: ClassVar[Mapping[str, Allowed]] = {**NetworkEstimator._allowed, **AMFN}

    modalities: str | Mapping[str, Any]
    encoder: str | Mapping[str, str]
    encoder_width: int
    summaries: bool
    readout: str
    image_head: str
    alignment: str | None
    lambda_align: float
    lambda_rec: float
    expert: bool | str
    ensemble_size: int
    dropout: float
    modality_dropout: float
    mc_samples: int
    scaling: str | Mapping[str, str]
    weight_decay: float
    expert_: Expert | None
    modalities_: list[str]
    _reading: TableReading
    _channels: dict[str, list[str]]

    # -- the table ----------------------------------------------------------------------------

    def _validate(self, X: Any) -> Any:
        return self._check_table(X, reset=False)

    def _check_table(self, X: Any, *, reset: bool) -> Any:
        """Check names and number of columns; numbers alone are checked as scikit-learn does."""
        table = plain_table(X)
        frame = isinstance(table, pd.DataFrame)
        if frame and not all(map(pd.api.types.is_numeric_dtype, table.dtypes)):
            return self._check_cells(X, table, reset=reset)
        if not reset and not set(self._reading.layout.kinds) <= {"block"}:
            if not frame:
                raise ModalityError(
                    f"fitted on series or images, the modalities {self.modalities_}; predict on a "
                    f"DataFrame that has them, not on a {type(X).__name__} of numbers."
                )
            # A column of series whose every cell is missing is one of numbers.
            return self._check_cells(X, table, reset=reset)
        values = validate_data(self, table, dtype=np.float64, ensure_all_finite=False, reset=reset)
        refuse_infinity(values, X)
        if frame and hasattr(self, "feature_names_in_"):
            return pd.DataFrame(values, columns=X.columns, index=X.index)
        return values

    def _check_cells(self, X: Any, table: pd.DataFrame, *, reset: bool) -> pd.DataFrame:
        """Check names and number of columns of a table that doesn't hold numbers alone."""
        validate_data(self, X, reset=reset, skip_check_array=True)
        if not len(table):
            raise DataError(f"found no row in a table of shape {table.shape}; one is needed.")
        numbers = table.iloc[:, numeric_columns(table)]
        refuse_infinity(numbers.to_numpy(np.float64), numbers)
        if reset:
            self._channels = channel_names(X)
        else:
            refuse_cells_in_blocks(table, self._reading.layout)
            refuse_other_channels(X, self._channels)
        return table

    def _absent(self, X: Any) -> list[str]:
        return absent_modalities(X, self._reading.layout)

    # -- fitting ------------------------------------------------------------------------------

    def _prepare(self, table: TrainingTable, kind: str, y: np.ndarray) -> dict[str, Any]:
        """Learn the table and fit the expert; returns what the networks train on."""
        import torch

        self._check_shape()
        layout = find_layout(table.X, self.modalities, self._images())
        kept = table.kept
        rows = table.X.iloc[kept] if isinstance(table.X, pd.DataFrame) else table.X[kept]
        self._reading = TableReading.fit(rows, table.weight[kept], layout, self.scaling)
        self.modalities_ = layout.names
        self.encoders_ = self._choose_encoders(layout)
        values = self._reading.read(table.X, table.rows, sequences=self._step_by_step())
        self.expert_, scores = self._fit_expert(table, values, kind, y)
        dtype = self._torch_dtype(values.n_values(kept))
        self.architecture_ = self._architecture(str(dtype).removeprefix("torch."))
        data = self._tensors(values)
        if scores is not None:
            data["expert"] = torch.from_numpy(scores).to(dtype)
        return data

    def _learn(self, table: TrainingTable, data: dict[str, Any], n_outputs: int) -> None:
        """Train the networks; sets ``state_``."""
        import torch

        from medfusion_sdk.training import module_to_state

        before = getattr(self, "state_", None) if self.warm_start else None
        self.architecture_["n_outputs"] = n_outputs
        self.architecture_["embed_width"] = 0
        dtype = getattr(torch, self.architecture_["dtype"])
        task = seeded_module(self._build_network, self._seed, dtype)
        self.architecture_["embed_width"] = sum(part.embed_width for part in task.members)
        resume(task, before)
        self._module = self._train(task, table, data, lambda trained: trained)
        self.state_ = module_to_state(self._module)

    def _fit_expert(
        self, table: TrainingTable, values: TableValues, kind: str, y: np.ndarray
    ) -> tuple[Expert | None, np.ndarray | None]:
        return fit_beside(
            values.plain,
            y,
            table.weight,
            table.groups,
            table.kept,
            wanted=self.expert,
            kind=kind,
            seed=self._seed,
        )

    def _check_shape(self) -> None:
        width, n_heads = self.d_model, self.n_heads
        if width % n_heads:
            raise ParameterError(f"n_heads={n_heads} must divide d_model={width}.")
        if self.encoder_width % 4:
            raise ParameterError(
                f"encoder_width must be a multiple of 4, not {self.encoder_width}."
            )

    def _images(self) -> list[str]:
        if isinstance(self.encoder, str):
            return []
        return [name for name, kind in self.encoder.items() if kind == "cnn"]

    def _choose_encoders(self, layout: Layout) -> list[str]:
        """Encoder of each modality: the one asked for, where it reads such a modality."""
        given = {} if isinstance(self.encoder, str) else dict(self.encoder)
        unknown = sorted(given.keys() - set(layout.names))
        if unknown:
            raise ParameterError(f"encoder names {unknown}, but the modalities are {layout.names}.")
        series = self.encoder if isinstance(self.encoder, str) else "auto"
        usual = {"series": series, "block": "mlp", "image": "cnn"}
        allowed = {"series": (*_SEQUENCE, "mlp", "auto"), "block": ("mlp",), "image": ("cnn",)}
        chosen = []
        for m, (name, kind) in enumerate(zip(layout.names, layout.kinds, strict=True)):
            own = given.get(name, usual[kind])
            if own not in allowed[kind]:
                raise ParameterError(
                    f"encoder of {name!r}: a {kind} is read by one of {allowed[kind]}, not {own!r}."
                )
            if own == "auto":
                own = "gru" if self._reading.series[m].observed >= _DENSE else "mlp"
            chosen.append(own)
        return chosen

    # -- reading ------------------------------------------------------------------------------

    def _step_by_step(self) -> list[int]:
        return [m for m, kind in enumerate(self.encoders_) if kind in _SEQUENCE]

    def _inputs(self, X: Any, rows: pd.Index) -> dict[str, Any]:
        import torch

        values = self._reading.read(X, rows, sequences=self._step_by_step())
        data = self._tensors(values)
        if self.expert_ is not None:
            scores = torch.from_numpy(self.expert_.scores(values.plain))
            data["expert"] = scores.to(data["vector"].dtype)
        return data

    def _tensors(self, values: TableValues) -> dict[str, Tensor]:
        import torch

        dtype = getattr(torch, self.architecture_["dtype"])
        n_rows = len(values.present)
        vectors = [values.vectors[m] for m in sorted(values.vectors)]
        side_by_side = np.concatenate([np.zeros((n_rows, 0)), *vectors], axis=1)
        data = {
            "present": torch.from_numpy(values.present),
            "vector": torch.from_numpy(side_by_side).to(dtype),
        }
        for m, images in values.images.items():
            data[f"image_{m}"] = torch.from_numpy(images).to(dtype)
        for kind in _SEQUENCE:
            members = [m for m in self._step_by_step() if self.encoders_[m] == kind]
            if members:
                steps, lengths = _stack([values.sequences[m] for m in members])
                data[kind] = torch.from_numpy(steps).to(dtype)
                data[f"{kind}_lengths"] = torch.from_numpy(lengths)
        return data

    def _take(self, data: dict[str, Any], rows: Tensor) -> dict[str, Any]:
        taken = super()._take(data, rows)
        for kind in _SEQUENCE:
            if kind in taken:  # no longer than these: dropout is drawn for each step
                longest = int(taken[f"{kind}_lengths"].max())
                taken[kind] = taken[kind][:, :, : max(1, longest)]
        return taken

    # -- the networks -------------------------------------------------------------------------

    def _architecture(self, dtype: str) -> dict[str, Any]:
        reading = self._reading
        widths = reading.vector_widths
        channels = {m: 3 * len(own.centre) for m, own in reading.series.items()}
        channels |= {m: own.shape[0] for m, own in reading.images.items()}
        modalities = [
            (
                kind,
                widths.get(m, 0),
                0 if kind == "mlp" else channels[m],
                bool(self.summaries or kind == "mlp"),
            )
            for m, kind in enumerate(self.encoders_)
        ]
        return {
            "modalities": modalities,
            "fusion": {name: getattr(self, name) for name in _FUSION},
            "encoder_width": self.encoder_width,
            "readout": self.readout,
            "multiscale": self.image_head == "multiscale",
            "reconstructs": self.lambda_rec > 0,
            "ensemble_size": self.ensemble_size,
            "dropout": self.dropout,
            "dtype": dtype,
        }

    def _shape(self) -> AMFNShape:
        from medfusion_sdk.nn.amfn import FusionShape
        from medfusion_sdk.nn.amfn_network import AMFNShape, ModalityShape

        built = self.architecture_
        members = tuple(ModalityShape(*one) for one in built["modalities"])
        return AMFNShape(
            members,
            FusionShape(n_modalities=len(members), **built["fusion"]),
            built["n_outputs"],
            encoder_width=built["encoder_width"],
            readout=built["readout"],
            multiscale=built["multiscale"],
            reconstructs=built["reconstructs"],
        )

    def _training(self) -> AMFNTraining:
        from medfusion_sdk.nn.amfn_tasks import AMFNTraining

        return AMFNTraining(
            ensemble_size=self.architecture_["ensemble_size"],
            dropout=self.architecture_["dropout"],
            modality_dropout=self.modality_dropout,
            alignment=self.alignment,
            lambda_align=self.lambda_align,
            lambda_rec=self.lambda_rec,
        )

    @abstractmethod
    def _make_task(self) -> nn.Module: ...

    def _build_network(self) -> nn.Module:
        import torch

        return self._make_task().to(getattr(torch, self.architecture_["dtype"]))

    def _network(self) -> Any:
        network = super()._network()
        network.mc_samples = int(self.mc_samples)
        return network

    def _config(self, n_rows: int, **changed: Any) -> TrainingConfig:
        batch_size, max_epochs = self.batch_size, self.max_epochs
        if batch_size == "auto":
            batch_size = n_rows if n_rows <= _SINGLE_BATCH_ROWS else _BATCH_ROWS
        if max_epochs == "auto":
            max_epochs = max(_EPOCHS, -(-_LEAST_STEPS // -(-n_rows // int(batch_size))))
        return super()._config(
            n_rows,
            batch_size=batch_size,
            max_epochs=max_epochs,
            optimizer="adamw",
            weight_decay=self.weight_decay,
            **changed,
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _stack(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """One array (n, G, steps, channels) of several modalities, filled up with zeros."""
    n_rows = len(parts[0][0])
    n_steps = max(x.shape[1] for x, _ in parts)
    n_channels = max(x.shape[2] for x, _ in parts)
    stacked = np.zeros((n_rows, len(parts), n_steps, n_channels), dtype=np.float32)
    for g, (x, _) in enumerate(parts):
        stacked[:, g, : x.shape[1], : x.shape[2]] = x
    return stacked, np.stack([lengths for _, lengths in parts], axis=1)
