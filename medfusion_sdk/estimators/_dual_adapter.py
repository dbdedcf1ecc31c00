"""What the dual adapter's classifier and embedder share: what a fit finds, building the network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import clone

from medfusion_sdk._parameters import Allowed
from medfusion_sdk.backbones.text_source import TextSource, find_text_source
from medfusion_sdk.estimators._dual_inputs import (
    as_series,
    default_signal_encoder,
    text_encoders,
)
from medfusion_sdk.estimators._dual_parameters import DUAL_ADAPTER
from medfusion_sdk.estimators._dual_table import DualAdapterTable
from medfusion_sdk.estimators._network_estimator import (
    NetworkEstimator,
    TrainingTable,
    UnlabelledTable,
)
from medfusion_sdk.estimators._networks import RowSpans, seeded_module
from medfusion_sdk.estimators._roles import find_roles
from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.exceptions import (
    BackboneMismatchError,
    ModalityError,
    ParameterError,
    SignalError,
)
from medfusion_sdk.readers.cells import read_column
from medfusion_sdk.training import TrainingConfig

if TYPE_CHECKING:
    from torch import nn

    from medfusion_sdk.backbones.language_model import LanguageModel
    from medfusion_sdk.nn.dual_adapter import DualAdapterNetwork
    from medfusion_sdk.nn.dual_adapter_tasks import ContrastiveTask

__all__ = ["DualAdapterBase"]

# Below this number of training rows the default reads signals through a frozen encoder: a CNN of
# half a million weights has nothing to learn from there.
_CNN_ROWS = 2000
# Steps are what trains adapters; a full batch would give one per pass through the language model.
_SINGLE_BATCH_ROWS = 64
# What "auto" epochs are: the published number with the published encoders; with frozen ones ten,
# by cross-validation on the bundled PTB-XL records, and no fewer steps than these.
_CNN_EPOCHS, _EMBEDDING_EPOCHS, _LEAST_STEPS = 40, 10, 100

# Parameters that the network's build takes as they are, kept from fit.
_STORED = (
    "mode",
    "adapter_len",
    "patch_len",
    "combine",
    "share_gates",
    "gate_activation",
    "revin",
    "secondary_revin",
    "norm_secondary",
)


class DualAdapterBase(DualAdapterTable):
    """Learns how a table is read, and builds the adapted language model on it."""

    _allowed: ClassVar[Mapping[str, Allowed]] = {**NetworkEstimator._allowed, **DUAL_ADAPTER}

    # Published: 32 with labels.
    _batch_rows = 32
    _predict_rows = 64

    # -- fitting ------------------------------------------------------------------------------

    def _prepare(
        self, table: TrainingTable | UnlabelledTable, before: dict[str, np.ndarray] | None
    ) -> tuple[DualAdapterNetwork, dict[str, Any]]:
        """Learn what there is to read, and build the network on it.

        `before` is the state to go on from; a module that goes on has its full width.
        """
        self._check_long_text()
        roles = find_roles(table.X, signal=self.signal, text=self.text)
        self.signal_column_, self.signal_block_ = roles.signal, roles.block
        self.text_column_ = roles.text
        if self._needs_signal and roles.signal is None and roles.block is None:
            raise ModalityError(
                "learning without labels compares views of a signal, and the table has none: name "
                "it by signal=, or learn from labels alone."
            )
        # Kept from fit, so that parameters set afterwards don't change a fitted model.
        self.reading_ = {name: getattr(self, name) for name in ("signal_shape", "fs", "duration")}
        self._fit_signal(table)
        dtype = self._torch_dtype(self._n_values(table))
        lm = self._language_model(self._training_dtype(table))
        self.architecture_ = self._architecture(lm, dtype)
        first = lm.n_layers - self.architecture_["adapter_layers"]
        self.text_states_, self.text_encoder_ = None, None
        if roles.text is not None:
            self.text_states_, self.text_encoder_ = text_encoders(
                self, first, self.architecture_["dtype"]
            )
            texts = read_column(table.X[roles.text]).take(table.kept)
            if not texts.present:
                raise ModalityError(
                    f"column {roles.text!r} has no text in any row to learn from; leave it out "
                    "with text=None."
                )
            self.text_encoder_.fit(as_series(texts))
        data = self._inputs(table.X, table.rows)
        self.architecture_["text_width"] = data["text"].shape[1] if "text" in data else lm.width
        self._spans = None
        dims = {}
        if self.architecture_["embedding_width"] and before is None:
            x = data["signal"].numpy()
            present = data["has_signal"].numpy()[:, None]
            self._spans = RowSpans(x[table.kept], present[table.kept], [x.shape[1]])
            data["signal"] = data["signal"].new_tensor(self._spans.project(x))
            dims = {"embedding_width": self._spans.dims[0]}
        return seeded_module(lambda: self._make(lm, **dims), self._seed, dtype), data

    def _check_long_text(self) -> None:
        if self.combine == "symmetric" and self.long_text == "chunks":
            raise ParameterError(
                "long_text='chunks': combine='symmetric' reads signal and text as one sequence, "
                "which can't be divided. Choose another combination, or long_text='cut'."
            )

    def _fit_signal(self, table: TrainingTable | UnlabelledTable) -> None:
        """Decide how signals are read, and learn their scaling."""
        reader = self._reader()
        self.signal_encoder_, self.signal_scaling_, self.signal_shape_ = None, None, None
        if reader.roles.signal is None and reader.roles.block is None:
            return
        if reader.is_embedding:
            block = reader.embeddings(table.X)
        else:
            wanted = self.signal_encoder
            if isinstance(wanted, str):
                if wanted == "cnn" or len(table.kept) >= _CNN_ROWS:
                    self.signal_shape_ = reader.first_shape(table.X)
                    if self.signal_shape_[1] < 2:
                        raise SignalError(
                            "signals have a single sample; a series encoder needs two at least."
                        )
                    return
                wanted = default_signal_encoder(self.fs, self.duration, self.cache)
            self.signal_encoder_ = clone(wanted)
            column = as_series(reader.column(table.X))
            self.signal_encoder_.fit(column.iloc[table.kept])
            block = np.asarray(self.signal_encoder_.transform(column))
        present = ~np.isnan(block).all(axis=1)
        learnt = table.kept[present[table.kept]]
        self.signal_scaling_ = BlockScaling.fit(
            block[learnt],
            table.weight[learnt],
            feature_names=None,
            modalities={"signal": slice(None)},
            scaling="auto" if reader.is_embedding else "feature",
        )

    # -- the network --------------------------------------------------------------------------

    def _language_model(self, dtype: Any) -> LanguageModel:
        from medfusion_sdk.backbones.devices import resolve_device
        from medfusion_sdk.backbones.language_model import LanguageModel
        from medfusion_sdk.backbones.text import borrow_text_backbone

        device = resolve_device(self.device)
        return LanguageModel(borrow_text_backbone(self, self._source(), device, dtype))

    def _source(self) -> TextSource:
        return find_text_source(
            self.backbone, revision=self.revision, allow_download=self.allow_download
        )

    def _is_misplaced(self, module: Any) -> bool:
        from medfusion_sdk.backbones.devices import resolve_device

        # Built anew on the copy of the language model that lies there.
        return module.network.lm.device != resolve_device(self.device)

    def _architecture(self, lm: LanguageModel, dtype: Any) -> dict[str, Any]:
        scaling = self.signal_scaling_
        shape = self.signal_shape_ or (1, self.patch_len)
        readout = self.readout
        if readout == "auto":
            readout = "last" if lm.causal else "mean"
        return {name: getattr(self, name) for name in _STORED} | {
            "backbone": self._source().fingerprint,
            "n_channels": shape[0],
            "embedding_width": 0 if scaling is None else sum(scaling.dims),
            "adapter_layers": self._adapted_layers(lm),
            "stride": self._stride(shape[1], lm),
            "readout": readout,
            "width": lm.width,
            "embed_width": lm.width * (2 if self.combine == "concat" else 1),
            "dtype": str(dtype).removeprefix("torch."),
        }

    def _adapted_layers(self, lm: LanguageModel) -> int:
        layers = self.adapter_layers
        if layers == "auto":
            layers = min(2 if self.signal_scaling_ is not None else 11, lm.n_layers)
        if layers > lm.n_layers:
            raise ParameterError(
                f"adapter_layers={self.adapter_layers}: the backbone has {lm.n_layers} layers."
            )
        return int(layers)

    def _stride(self, n_times: int, lm: LanguageModel) -> int:
        from medfusion_sdk.nn.temporal import count_patches

        stride = self.patch_len if self.stride is None else self.stride
        if n_times < self.patch_len:
            raise ParameterError(
                f"patch_len={self.patch_len} is longer than the signals ({n_times} samples)."
            )
        n_patches = count_patches(n_times, self.patch_len, stride)
        if n_patches > lm.window:
            raise ParameterError(
                f"{n_patches} patches, but the backbone reads {lm.window} tokens at most: raise "
                f"patch_len ({self.patch_len}) or stride ({stride})."
            )
        return int(stride)

    def _make(self, lm: LanguageModel, **changed: Any) -> DualAdapterNetwork:
        import torch

        from medfusion_sdk.nn.dual_adapter import DualAdapterNetwork
        from medfusion_sdk.nn.dual_adapter_shape import DualAdapterShape

        built = self.architecture_ | changed
        shape = DualAdapterShape(**{name: built[name] for name in DualAdapterShape._fields})
        network = DualAdapterNetwork(lm, shape, gradient_checkpointing=self.gradient_checkpointing)
        return network.to(getattr(torch, built["dtype"]))

    def _widen(self, network: DualAdapterNetwork) -> None:
        """Give the maps of a series embedding, trained in the rows' span, their width back."""
        from medfusion_sdk.nn.span import widen

        if self._spans is not None:
            for layer in (network.signal_token, network.series_vector):
                widen(layer, self._spans.bases[0])  # type: ignore[arg-type]

    def _keep_state(self) -> None:
        from medfusion_sdk.training import module_to_state

        self.state_ = module_to_state(self._module)
        del self._spans
        if self._module.network.lm.dtype != self._module.network.queries.dtype:
            # Rounded to bfloat16, a row's prediction would depend on the rows beside it.
            self._module = None

    def _config(self, n_rows: int, **changed: Any) -> TrainingConfig:
        auto_rows = n_rows if n_rows <= _SINGLE_BATCH_ROWS else self._batch_rows
        max_epochs = self.max_epochs
        if max_epochs == "auto":
            frozen = self.architecture_["embedding_width"]
            rows = auto_rows if self.batch_size == "auto" else self.batch_size
            steps = -(-n_rows // int(rows))
            max_epochs = _EMBEDDING_EPOCHS if frozen else _CNN_EPOCHS
            max_epochs = max(max_epochs, -(-_LEAST_STEPS // steps))
        settings = {
            "auto_rows": auto_rows,
            "max_epochs": max_epochs,
            "optimizer": "adamw",
            "weight_decay": self.weight_decay,
        }
        if self.lr_gamma:
            settings |= {"schedule": "exponential", "gamma": self.lr_gamma}
        return super()._config(n_rows, **settings | changed)

    def _in_full_precision(self, network: DualAdapterNetwork) -> DualAdapterNetwork:
        """Return a network whose frozen blocks are computed as in prediction."""
        dtype = network.queries.dtype
        if network.lm.dtype == dtype:
            return network
        width = network.shape.embedding_width
        return seeded_module(
            lambda: self._make(self._language_model(dtype), embedding_width=width),
            self._seed,
            dtype,
        )

    @property
    @abstractmethod
    def _needs_signal(self) -> bool:
        """Whether a table without a signal leaves nothing to learn from."""

    def _contrastive(self, network: DualAdapterNetwork) -> ContrastiveTask:
        from medfusion_sdk.nn.dual_adapter_tasks import ContrastiveTask

        names = ("temperature", "aug_noise", "contrastive_weight", "contrastive_start")
        settings = {name: getattr(self, name) for name in names}
        return seeded_module(
            lambda: ContrastiveTask(network, **settings), self._seed, network.queries.dtype
        )

    @abstractmethod
    def _with_task(self, network: DualAdapterNetwork) -> nn.Module:
        """Put what is learnt on top of the paths."""

    def _build_network(self) -> nn.Module:
        import torch

        found, expected = self._source(), self.architecture_["backbone"]
        if found.fingerprint != expected:
            raise BackboneMismatchError(
                f"backbone={self.backbone!r} isn't the language model that these adapters were "
                f"trained in (fingerprint {found.fingerprint[:12]}, trained in {expected[:12]}). "
                "Put the original one in place, or train again."
            )
        lm = self._language_model(getattr(torch, self.architecture_["dtype"]))
        return self._with_task(self._make(lm))
