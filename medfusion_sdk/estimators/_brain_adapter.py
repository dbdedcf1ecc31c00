"""What a fit of Brain-Adapter finds, and how the network is built on it."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import clone

from medfusion_sdk._parameters import Allowed
from medfusion_sdk.backbones.m3d_clip import read_projections
from medfusion_sdk.backbones.slice_source import SliceSource
from medfusion_sdk.backbones.standins import warn_of_stand_in
from medfusion_sdk.backbones.text_source import find_text_source
from medfusion_sdk.backbones.volume_source import VolumeSource, find_volume_source
from medfusion_sdk.encoders._volume_inputs import VolumeInputs
from medfusion_sdk.encoders.image import ImageEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.encoders.volume import VOLUME_READING
from medfusion_sdk.estimators._brain_parameters import BRAIN_ADAPTER
from medfusion_sdk.estimators._brain_table import BrainAdapterTable
from medfusion_sdk.estimators._dual_inputs import as_series
from medfusion_sdk.estimators._network_estimator import NetworkEstimator, TrainingTable
from medfusion_sdk.estimators._networks import seeded_module
from medfusion_sdk.estimators._probe import standardisation
from medfusion_sdk.estimators._roles import find_volume_roles
from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.exceptions import BackboneMismatchError, ModalityError, ParameterError
from medfusion_sdk.readers.cells import read_column
from medfusion_sdk.training import TrainingConfig

if TYPE_CHECKING:
    from torch import nn

    from medfusion_sdk.nn.brain_adapter import BrainAdapterNetwork
    from medfusion_sdk.nn.brain_adapter_task import BrainAdapterTask

__all__ = ["BrainAdapterBase"]

# Our decision, like all that the paper doesn't say.
_PROJ_DIM = 512
_BATCH_ROWS = 8
_EPOCHS, _LEAST_STEPS = 10, 100
_LEARNING_RATE, _FULL_LEARNING_RATE = 1e-3, 1e-4


class BrainAdapterBase(BrainAdapterTable):
    """Learns how a table is read, and builds adapter, encoder and projections on it."""

    _allowed: ClassVar[Mapping[str, Allowed]] = {**NetworkEstimator._allowed, **BRAIN_ADAPTER}

    @property
    def _predict_rows(self) -> int | str:  # type: ignore[override]
        return _BATCH_ROWS if "image" in self.modalities_ else "auto"

    # -- fitting ------------------------------------------------------------------------------

    def _prepare(self, table: TrainingTable) -> tuple[BrainAdapterNetwork, dict[str, Any]]:
        """Learn what there is to read, and build the network on it."""
        self._find_modalities(table.X)
        if "image" in self.modalities_:
            warn_of_stand_in(self, "vision_encoder", "M3D-CLIP's folder", stacklevel=5)
        dtype = self._torch_dtype(self._n_values(table))
        self.architecture_ = {"dtype": str(dtype).removeprefix("torch."), "vision": None}
        self.volume_inputs_, self.text_encoder_, self.text_scaling_ = None, None, None
        sizes = self._fit_volumes(table) if "image" in self.modalities_ else (1, 1, 1)
        published = self._published_projections()
        text_width = 0
        if "text" in self.modalities_:
            text_width = self._fit_text(table, "none" if published else "feature")
        data = self._inputs(table.X, table.rows)
        self._keep_errors()
        self._describe(table, data, sizes, text_width, published)
        network = seeded_module(
            lambda: self._make(self._vision(self._training_dtype(table))), self._seed, dtype
        )
        for name, maps in published.items():
            for part, values in maps.items():
                getattr(network.projections[name], part).data.copy_(values)
        if self.standardize and not published and "image" in data:
            self._standardise(network, table, data)
        if self.subject is not None:
            import torch

            data["subject"] = torch.from_numpy(self._subjects(table.X))
        return network, data

    def _find_modalities(self, X: Any) -> None:
        roles = find_volume_roles(
            X,
            volume=None if self.inputs == "text" else self.volume,
            report=None if self.inputs == "image" else self.report,
            volume_shape=self.volume_shape,
            others=[] if self.subject is None else [self.subject],
        )
        wanted = ("image", "text") if self.inputs == "both" else (self.inputs,)
        self.modalities_ = tuple(name for name in wanted if roles.has(name))
        if not self.modalities_:
            raise ModalityError(
                f"inputs={self.inputs!r}: numbers alone are vectors of reports, or flattened "
                "volumes where volume_shape= is set."
            )
        self._keep_roles(roles)
        # Kept from fit, so that parameters set afterwards don't change a fitted model.
        self.volume_shape_ = None if self.volume_shape is None else tuple(self.volume_shape)

    def _fit_volumes(self, table: TrainingTable) -> tuple[int, ...]:
        """Decide on the size that volumes are brought to."""
        reading = {name: getattr(self, name) for name in (*VOLUME_READING, "on_error", "cache")}
        target = self._source().input_size(self.target_size)
        if self.volume_size is not None:
            size, own_size = tuple(int(length) for length in self.volume_size), None
            if min(np.subtract(size, target)) < 0:
                raise ParameterError(
                    f"volume_size={size} must be at least what the vision encoder reads, {target}, "
                    "in every direction: the adapter pools."
                )
        else:
            own_size = VolumeInputs(**reading).first_size(self._volumes(table.X).take(table.kept))
            if own_size is None:
                raise ModalityError(
                    f"column {self.volume_column_!r} has no volume that can be used in any row to "
                    "learn from; "
                    "leave it out with volume=None."
                )
            size = tuple(np.maximum(own_size, target).tolist())
        self.volume_inputs_ = VolumeInputs(size, own_size=own_size, **reading)
        return size

    def _fit_text(self, table: TrainingTable, scaling: str) -> int:
        """Make the text encoder and learn the scale of its vectors; return their width."""
        if self.report_column_ is not None:
            texts = read_column(table.X[self.report_column_]).take(table.kept)
            if not texts.present:
                raise ModalityError(
                    f"column {self.report_column_!r} has no report in any row to learn from; leave "
                    "it out with report=None."
                )
            self.text_encoder_ = self._make_text_encoder()
            self.text_encoder_.fit(as_series(texts))
        vectors = self._report_vectors(table.X)
        learnt = table.kept[~np.isnan(vectors[table.kept]).all(axis=1)]
        self.text_scaling_ = BlockScaling.fit(
            vectors[learnt],
            table.weight[learnt],
            feature_names=None,
            modalities={"report": slice(None)},
            scaling=scaling if self.standardize else "none",
        )
        return sum(self.text_scaling_.dims)

    def _make_text_encoder(self) -> TextEncoder:
        given = self.text_encoder
        if not isinstance(given, str | PathLike):
            return clone(given)
        pooling = self.text_pool
        if pooling == "auto":
            source = find_text_source(given, allow_download=self.allow_download)
            pooling = "cls" if source.pooling == "cls" else "mean"
        return TextEncoder(
            given,
            allow_download=self.allow_download,
            pooling=pooling,
            normalize=False,
            on_error=self.on_error,
            device=self.device,
            dtype="float32",  # in a lower one a row's vector would depend on the rows beside it
            cache=self.cache,
        )

    def _keep_errors(self) -> None:
        """List the cells that count as missing because they can't be used."""
        readers: list[Any] = [self.volume_inputs_, self.text_encoder_]
        lists = [reader.errors_ for reader in readers if hasattr(reader, "errors_")]
        if self.on_error == "missing" and lists:
            self.errors_ = pd.concat(lists)

    def _standardise(
        self, network: BrainAdapterNetwork, table: TrainingTable, data: dict[str, Any]
    ) -> None:
        """Scale the read-outs of the untrained network as the reports' vectors are scaled."""
        import torch

        from medfusion_sdk.training import predict_batches

        rows = table.kept[data["has_image"].numpy()[table.kept]]
        if not rows.size:
            return
        z = predict_batches(
            network.read_images,
            {"image": data["image"].index_select(0, torch.from_numpy(rows))},
            batch_size=_BATCH_ROWS if self.batch_size == "auto" else self.batch_size,
            device=self.device,
        )
        scale, shift = standardisation(z.astype(np.float64), table.weight[rows])
        # Rows of length one, as BlockScaling makes them.
        network.image_scale.copy_(torch.from_numpy(scale / len(scale) ** 0.5))
        network.image_shift.copy_(torch.from_numpy(shift / len(shift) ** 0.5))

    def _row_groups(self, X: Any, groups: Any, rows: pd.Index, counted: np.ndarray) -> np.ndarray:
        if groups is None and self.subject is not None:
            own = self._subjects(X)
            groups = own if len(np.unique(own[counted])) > 1 else None
        return super()._row_groups(X, groups, rows, counted)

    def _subjects(self, X: Any) -> np.ndarray:
        """Number the persons of rows."""
        if not isinstance(X, pd.DataFrame) or self.subject not in X.columns:
            raise ModalityError(f"subject={self.subject!r}: there is no such column.")
        codes = pd.factorize(X[self.subject])[0]
        # Whoever isn't named is nobody else's kin.
        unknown = codes < 0
        codes[unknown] = codes.max() + 1 + np.arange(unknown.sum())
        return codes.astype(np.int64)

    # -- the network --------------------------------------------------------------------------

    def _source(self) -> VolumeSource | SliceSource:
        given = self.vision_encoder
        if isinstance(given, ImageEncoder):
            if self.train_mode == "full":
                raise ParameterError(
                    "train_mode='full' trains a network for volumes; an image model that reads "
                    "slices stays frozen. Choose 'tlp' or 'fpm'."
                )
            return given._slice_source()
        return find_volume_source(given, allow_download=self.allow_download)

    def _published_projections(self) -> dict[str, Any]:
        """M3D-CLIP's own projections, where both towers are its own."""
        given = self.text_encoder
        if self.proj_dim is not None or len(self.modalities_) < 2 or self.report_column_ is None:
            return {}
        if not isinstance(given, str | PathLike) or self.text_pool not in ("auto", "cls"):
            return {}
        files = self._source().files
        folder = find_text_source(given, allow_download=self.allow_download).folder
        same = bool(files) and folder is not None and folder.samefile(files[0].parent)
        return read_projections(files) if same else {}

    def _describe(
        self,
        table: TrainingTable,
        data: dict[str, Any],
        size: tuple[int, ...],
        text_width: int,
        published: dict[str, Any],
    ) -> None:
        """Write down all that building the network depends on."""
        proj_dim = self.proj_dim or _PROJ_DIM
        if published:
            proj_dim = len(published["image"]["bias"])
        absences = [
            name
            for name in self.modalities_
            if len(self.modalities_) == 2 and not data[f"has_{name}"][table.kept].all()
        ]
        built: dict[str, Any] = {
            "modalities": self.modalities_,
            "volume_size": size,
            "target_size": size,
            "adapter": "none",
            "adapter_channels": int(self.adapter_channels),
            "image_width": 0,
            "text_width": text_width,
            "proj_dim": int(proj_dim),
            "image_pool": self.image_pool,
            "train_mode": self.train_mode,
            "absences": tuple(absences),
            "temperature": float(self.temperature),
            "learnable_temperature": bool(self.learnable_temperature),
        }
        if "image" in self.modalities_:
            source = self._source()
            built |= {
                "target_size": source.input_size(self.target_size),
                "adapter": self.adapter,
                "image_width": source.width,
            }
            self.architecture_["vision"] = source.fingerprint
            if isinstance(source, VolumeSource):
                self.architecture_["vision_shape"] = tuple(source.shape)
        self.architecture_ |= {"network": built, "embed_width": built["proj_dim"]}

    def _vision(self, dtype: Any) -> nn.Module | None:
        """The vision encoder to start from: shared and frozen, or one's own where it is trained."""
        from medfusion_sdk.backbones.devices import resolve_device
        from medfusion_sdk.backbones.vision_slices import borrow_slice_backbone
        from medfusion_sdk.backbones.volume import borrow_volume_backbone, load_vit3d

        if "image" not in self.modalities_:
            return None
        source, device = self._source(), resolve_device(self.device)
        if isinstance(source, SliceSource):
            return borrow_slice_backbone(self, source, device, dtype)
        if self.architecture_["network"]["train_mode"] == "full":
            return load_vit3d(source).requires_grad_(True)
        return borrow_volume_backbone(self, source, device, dtype)

    def _make(self, vision: nn.Module | None) -> BrainAdapterNetwork:
        import torch

        from medfusion_sdk.nn.brain_adapter import BrainAdapterNetwork
        from medfusion_sdk.nn.brain_adapter_shape import BrainAdapterShape

        network = BrainAdapterNetwork(
            vision,
            BrainAdapterShape(**self.architecture_["network"]),
            gradient_checkpointing=self.gradient_checkpointing,
        )
        return network.to(getattr(torch, self.architecture_["dtype"]))

    def _with_task(self, network: BrainAdapterNetwork, **training: Any) -> BrainAdapterTask:
        from medfusion_sdk.nn.brain_adapter_task import BrainAdapterTask

        built = self.architecture_
        task = BrainAdapterTask(
            network, built["n_outputs"], multilabel=built["multilabel"], **training
        )
        return task.to(network.reference.dtype)

    def _build_network(self) -> BrainAdapterTask:
        import torch

        from medfusion_sdk.nn.vit3d import ViT3D
        from medfusion_sdk.nn.vit3d_shape import ViT3DShape

        built = self.architecture_
        if built["vision"] is None:
            return self._with_task(self._make(None))
        if built["network"]["train_mode"] == "full":  # its weights are in the state
            return self._with_task(self._make(ViT3D(ViT3DShape(*built["vision_shape"]))))
        found = self._source().fingerprint
        if found != built["vision"]:
            raise BackboneMismatchError(
                f"vision_encoder={self.vision_encoder!r} isn't the network that this adapter was "
                f"trained in front of (fingerprint {found[:12]}, trained with "
                f"{built['vision'][:12]}). Put the original one in place, or train again."
            )
        return self._with_task(self._make(self._vision(getattr(torch, built["dtype"]))))

    def _is_misplaced(self, module: Any) -> bool:
        from medfusion_sdk.backbones.devices import resolve_device
        from medfusion_sdk.backbones.pool import FrozenModule

        # Built anew on the copy of the vision encoder that lies there.
        vision = module.network.vision
        return isinstance(vision, FrozenModule) and vision.device != resolve_device(self.device)

    def _keep_state(self) -> None:
        from medfusion_sdk.backbones.pool import FrozenModule
        from medfusion_sdk.training import module_to_state

        self.state_ = module_to_state(self._module)
        network = self._module.network
        frozen = isinstance(network.vision, FrozenModule)
        if frozen and network.vision.dtype != network.reference.dtype:
            # Rounded to bfloat16, a row's prediction would depend on the rows beside it.
            self._module = None

    def _config(self, n_rows: int, **changed: Any) -> TrainingConfig:
        settings: dict[str, Any] = {"optimizer": "adamw", "weight_decay": self.weight_decay}
        if "image" in self.modalities_:
            settings["auto_rows"] = _BATCH_ROWS
        config = {"max_epochs": self.max_epochs, "lr": self.learning_rate}
        if config["lr"] == "auto":
            full = self.architecture_["network"]["train_mode"] == "full"
            config["lr"] = _FULL_LEARNING_RATE if full else _LEARNING_RATE
        if config["max_epochs"] == "auto":
            rows = TrainingConfig(batch_size=self.batch_size, **settings).rows_per_step(n_rows)
            config["max_epochs"] = max(_EPOCHS, -(-_LEAST_STEPS // -(-n_rows // rows)))
        return super()._config(n_rows, **settings | config | changed)
