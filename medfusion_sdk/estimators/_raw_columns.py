"""Raw columns of a cohort table as modalities: frozen embeddings, or encoders that learn along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.utils.validation import check_X_y, validate_data

from medfusion_sdk._parameters import (
    NONE,
    Allowed,
    InstanceOf,
    MappingTo,
    Number,
    OneOf,
    Whole,
)
from medfusion_sdk.encoders.base import BaseEncoder, require_fingerprint
from medfusion_sdk.encoders.image import ImageEncoder
from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.estimators._block_table import BlockTable
from medfusion_sdk.estimators._rows import ReadRows, checked_numbers
from medfusion_sdk.exceptions import ModalityError, ParameterError
from medfusion_sdk.tables import SEPARATOR, group_blocks, make_modality_transformer

if TYPE_CHECKING:
    from torch import nn

    from medfusion_sdk.estimators._network_estimator import TrainingTable
    from medfusion_sdk.training import TrainingConfig

__all__ = ["RAW_COLUMNS", "RawColumns", "RawRows"]

_TUNING = Whole(least=1) | OneOf("frozen", "lora")
RAW_COLUMNS: Mapping[str, Allowed] = {
    "encoders": MappingTo(InstanceOf(BaseEncoder, tuple)) | NONE,
    "encoder_tuning": _TUNING | MappingTo(_TUNING),
    "encoder_learning_rate": Number(above=0),
}
# Rows at once where an encoder learns: a step through it is what costs, and what trains.
_TUNED_ROWS = 16
# Bytes of images or signals that are kept from epoch to epoch; more are read anew for each.
_AT_ONCE = 1 << 30


@dataclass(frozen=True)
class RawRows(ReadRows):
    """Rows of a cohort table, read; frozen embeddings are among the values.

    Attributes
    ----------
    cells : dict of str to list
        Of each modality whose encoder learns, one cell per row; None where there is none.
    """

    cells: dict[str, list[Any]]

    def __getitem__(self, rows: np.ndarray) -> RawRows:
        positions = np.arange(len(self))[rows]
        cells = {name: [column[i] for i in positions] for name, column in self.cells.items()}
        return RawRows(self.frame.iloc[positions], self.values[rows], cells)


class RawColumns(BlockTable):
    """Base of the estimators that read a block table, or make one of raw columns themselves.

    A fit checks rows by :meth:`_check_rows` and, once it knows which of them to learn from, goes
    on with what :meth:`_read_columns` returns.
    """

    _allowed: ClassVar[Mapping[str, Allowed]] = {**BlockTable._allowed, **RAW_COLUMNS}

    # An estimator's constructor has them where it offers them.
    encoders: Mapping[str, Any] | None = None
    encoder_tuning: Any = "frozen"
    encoder_learning_rate: float = 1e-5

    encode_: ColumnTransformer | None = None
    tuned_: Mapping[str, int | str] = MappingProxyType({})

    # -- parameters ---------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        super()._check_parameters()
        tuned = self._choose_tuned()
        for name, (encoder, _) in self._entries().items():
            encoder._check_parameters()
            if name in tuned:
                _check_tunable(name, encoder)
        if isinstance(self.encoder_tuning, Mapping):
            if unknown := sorted(set(self.encoder_tuning) - set(self.encoders or {})):
                raise ParameterError(f"encoder_tuning names {unknown}, which have no encoder.")
        elif self.encoder_tuning != "frozen" and not tuned:
            raise ParameterError(
                f"encoder_tuning={self.encoder_tuning!r}: no encoder here can learn; encoders has "
                "to name a TextEncoder, an ImageEncoder or SignalEncoder('st-mem')."
            )

    def _entries(self) -> dict[str, tuple[BaseEncoder, Any]]:
        """Encoder and column of each raw modality."""
        entries = {}
        for name, entry in (self.encoders or {}).items():
            encoder, columns = entry if isinstance(entry, tuple) else (entry, name)
            if not isinstance(encoder, BaseEncoder):
                raise ParameterError(
                    f"encoders[{name!r}] must be an encoder of this package, or a pair of one and "
                    f"its columns, got {entry!r}."
                )
            entries[name] = (encoder, columns)
        return entries

    def _choose_tuned(self) -> dict[str, int | str]:
        """What learns of each encoder: its last blocks, by number, or "lora"."""
        asked = self.encoder_tuning
        tuning = {
            name: asked.get(name, "frozen")
            if isinstance(asked, Mapping)
            else (asked if _is_transformer(encoder) else "frozen")
            for name, (encoder, _) in self._entries().items()
        }
        return {name: kind for name, kind in tuning.items() if kind != "frozen"}

    # -- reading ------------------------------------------------------------------------------

    def _check_rows(self, X: Any) -> Any:
        """Check a fit's table: numbers, or a cohort table that has the encoders' columns."""
        return self._check_cells(X) if self._start_reading() else checked_numbers(self, X)

    def _check_rows_and_targets(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        """Check a fit's table, and y of classes or labels."""
        if not self._start_reading():
            return checked_numbers(self, X, y, multi_output=True)
        X = self._check_cells(X)
        # For y alone: the encoders check the cells.
        return X, check_X_y(np.zeros((len(X), 1)), y, multi_output=True)[1]

    def _start_reading(self) -> bool:
        """Forget what an earlier fit read; tell whether there are raw columns to read."""
        self.encode_, self._block_names = None, None
        self.tuned_ = self._choose_tuned()
        return self.encoders is not None

    def _check_cells(self, X: Any) -> pd.DataFrame:
        _check_columns(X, self._entries())
        validate_data(self, X, skip_check_array=True)
        return X

    def _read_columns(self, table: TrainingTable) -> TrainingTable:
        """Fit the encoders on the rows to learn from; returns the table with all rows encoded.

        A table that has been read is returned as it is.
        """
        if self.encoders is None or isinstance(table.X, RawRows):
            return table
        X: pd.DataFrame = table.X
        encode = make_modality_transformer(**self._entries())  # type: ignore[arg-type]
        self.encode_ = encode.fit(X.iloc[table.kept])
        blocks = self._encode(X)
        self._block_names = list(blocks.columns)
        values = checked_numbers(self, blocks)
        validate_data(self, X, skip_check_array=True)  # whose names are the user's
        return replace(table, X=RawRows(X, values, self._cells(X, values)))

    def _validate(self, X: Any) -> Any:
        if self.encode_ is None:
            return super()._validate(X)
        validate_data(self, X, skip_check_array=True, reset=False)
        values = self._encode(X)[self._block_names].to_numpy(dtype=np.float64)
        return RawRows(X, values, self._cells(X, values))

    def _encode(self, X: pd.DataFrame) -> pd.DataFrame:
        """Make the block table of a cohort table; numeric columns are taken as they are."""
        assert self.encode_ is not None
        raw = {column for columns in self._raw_columns().values() for column in _listed(columns)}
        rest = X[[column for column in X.columns if column not in raw]]
        return pd.concat([self.encode_.transform(X), rest], axis=1)

    def _encoder(self, name: str) -> BaseEncoder:
        assert self.encode_ is not None
        return self.encode_.named_transformers_[name]

    def _raw_columns(self) -> dict[str, Any]:
        assert self.encode_ is not None
        return {name: columns for name, _, columns in self.encode_.transformers}

    def _cells(self, X: pd.DataFrame, values: np.ndarray) -> dict[str, list[Any]]:
        """Cells of the modalities that are computed anew, where the frozen encoder had a use."""
        blocks, found = group_blocks(self._block_names, values.shape[1]), {}
        for name in self.tuned_:
            column = self._encoder(name)._column(X[self._raw_columns()[name]], reset=False)
            cells = column.cells
            absent = np.isnan(values[:, blocks[name]]).all(axis=1)
            found[name] = [None if gone else c for gone, c in zip(absent, cells, strict=True)]
        return found

    # -- the network --------------------------------------------------------------------------

    def _encoder_prints(self) -> dict[str, str]:
        """Fingerprints of the encoders that learn, to build upon the same again."""
        return {name: self._encoder(name).fingerprint() for name in self.tuned_}

    def _with_encoders(self, tasks: nn.Module, widths: Sequence[int]) -> Any:
        """Put the encoders that learn in front of tasks whose modalities have these widths."""
        if not self.tuned_:
            return tasks
        import torch

        from medfusion_sdk.backbones.devices import resolve_device
        from medfusion_sdk.backbones.tuning import tunable_copy
        from medfusion_sdk.encoders._tunable import frozen_network
        from medfusion_sdk.nn.tuned import TunedInputs

        encoders, scaling = {}, {}
        device = resolve_device(self.device)
        bounds = np.cumsum([0, *self._scaling.dims])
        for name, tuning in self.tuned_.items():
            encoder = self._encoder(name)
            require_fingerprint(encoder, self.architecture_["encoders"][name], name)
            encoders[name] = tunable_copy(frozen_network(encoder, device), tuning, name)
            m = self._scaling.names.index(name)
            own = slice(bounds[m], bounds[m + 1])
            scaling[name] = (
                torch.from_numpy(self._scaling.mean[own].astype(np.float32)),
                torch.from_numpy(self._scaling.scale[own].astype(np.float32)),
            )
        factor = self.encoder_learning_rate / float(self.learning_rate)
        return TunedInputs(tasks, encoders, self._encoder_places(widths), scaling, factor)

    def _encoder_places(self, widths: Sequence[int]) -> dict[str, Any]:
        from medfusion_sdk.nn.tuned import Place

        bounds = np.cumsum([0, *widths]).tolist()
        order = {name: self._scaling.names.index(name) for name in self.tuned_}
        return {name: Place(bounds[m], bounds[m + 1], m) for name, m in order.items()}

    def _encoder_inputs(self, X: Any) -> dict[str, Any]:
        """What the encoders that learn read of rows."""
        if not self.tuned_:
            return {}
        from medfusion_sdk.backbones.devices import resolve_device
        from medfusion_sdk.nn.tuned import input_name

        device = resolve_device(self.device)
        return {
            input_name(name): _inputs_of(self._encoder(name), cells, device)
            for name, cells in X.cells.items()
        }

    # -- training -----------------------------------------------------------------------------

    def _torch_dtype(self, n_values: int) -> Any:
        import torch

        # As the encoders' shared part is.
        return torch.float32 if self.tuned_ else super()._torch_dtype(n_values)

    def _config(self, n_rows: int, **changed: Any) -> TrainingConfig:
        return super()._config(
            n_rows, **({"auto_rows": _TUNED_ROWS} if self.tuned_ else {}) | changed
        )

    def _is_misplaced(self, module: Any) -> bool:
        from medfusion_sdk.backbones.devices import resolve_device

        # Moving a module with tuned encoders would move the part that it shares.
        here = next(module.parameters()).device
        return bool(self.tuned_) and here != resolve_device(self.device)


def _inputs_of(encoder: BaseEncoder, cells: list[Any], device: Any) -> Any:
    """What an encoder's network reads of cells; batch by batch where all would be too much."""
    import torch

    from medfusion_sdk.encoders._tunable import network_inputs
    from medfusion_sdk.training.lazy import LazyRows

    def read(places: Sequence[int]) -> np.ndarray:
        inputs: Any = network_inputs(encoder, [cells[i] for i in places], device)
        return inputs.numpy()

    first = next((i for i, cell in enumerate(cells) if cell is not None), None)
    if isinstance(encoder, TextEncoder) or first is None:
        return network_inputs(encoder, cells, device)
    if read([first]).nbytes * len(cells) <= _AT_ONCE:
        return network_inputs(encoder, cells, device)
    return LazyRows(read, torch.arange(len(cells)))


def _is_transformer(encoder: BaseEncoder) -> bool:
    if isinstance(encoder, SignalEncoder):
        return encoder.backbone == "st-mem"
    return isinstance(encoder, TextEncoder | ImageEncoder)


def _check_tunable(name: str, encoder: BaseEncoder) -> None:
    if not _is_transformer(encoder):
        raise ParameterError(
            f"encoder_tuning: {name!r} is read by {encoder!r}, which has no transformer that could "
            'learn; leave it "frozen".'
        )
    if encoder.missing != "nan":
        raise ParameterError(
            f"encoder_tuning: the encoder of {name!r} has missing={encoder.missing!r}; one that "
            "learns leaves a missing cell to the network, with missing='nan'."
        )
    if isinstance(encoder, ImageEncoder) and encoder._source().pixels.shape is None:
        raise ParameterError(
            f"encoder_tuning: the model of {name!r} lets images keep their proportions; one that "
            "learns needs images of one size."
        )


def _check_columns(X: Any, entries: Mapping[str, tuple[BaseEncoder, Any]]) -> None:
    """Refuse a table that lacks a raw column, or whose blocks would have an encoder's name."""
    if not isinstance(X, pd.DataFrame):
        raise ModalityError(
            f"encoders names raw columns, so X has to be a DataFrame; found a {type(X).__name__}."
        )
    for name, (_, columns) in entries.items():
        if absent := [column for column in _listed(columns) if column not in X.columns]:
            raise ModalityError(
                f"encoders[{name!r}]: there is no column {absent} among {list(X.columns)}."
            )
        if any(str(column).startswith(f"{name}{SEPARATOR}") for column in X.columns):
            raise ModalityError(
                f"encoders has a modality {name!r}, and the table has columns of that prefix: "
                "rename one of the two."
            )


def _listed(columns: Any) -> list[Any]:
    return [columns] if isinstance(columns, str) else list(columns)
