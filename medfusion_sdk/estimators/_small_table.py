"""A block table, or a cohort table with raw columns, as the small network's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_X_y, validate_data

from medfusion_sdk._parameters import NONE, Allowed, MappingTo, OneOf, Whole
from medfusion_sdk.estimators._block_classifier import BlockClassifier
from medfusion_sdk.estimators._cell_checks import (
    numeric_columns,
    plain_table,
    refuse_cells_in_blocks,
)
from medfusion_sdk.estimators._column_kinds import COLUMN_KINDS, find_raw_layout
from medfusion_sdk.estimators._layout import absent_modalities
from medfusion_sdk.estimators._networks import to_tensors
from medfusion_sdk.estimators._rows import refuse_infinity
from medfusion_sdk.estimators._small_reading import CohortReading
from medfusion_sdk.exceptions import DataError, ModalityError, ParameterError

if TYPE_CHECKING:
    from medfusion_sdk.estimators._network_estimator import TrainingTable
    from medfusion_sdk.training import TrainingConfig

__all__ = ["SmallTable"]

# What "auto" is for blocks alone, where all rows are one step; and beside raw cells, where a step
# is a mini-batch. The latter served well on PTB-XL, on another partition than is reported. Encoders
# learn by steps, and thousands of rows make more of these in an epoch: on 2,000 stays of PhysioNet
# 2012, 500 steps scored 0.854, 200 scored 0.822.
_BLOCKS: dict[str, Any] = {"lr": 1e-2, "max_epochs": 100}
_RAW: dict[str, Any] = {"lr": 3e-3, "auto_rows": 32}
_RAW_STEPS, _RAW_EPOCHS = 500, (5, 30)
# Activations of so many images or volumes fit into memory.
_PREDICT_ROWS = 128


class SmallTable(BlockClassifier):
    """Reads tables: numbers alone as a block table, others as a fit has found that they are."""

    column_kinds: Mapping[Any, str] | None
    series_steps: int
    embed_size: int
    _reading: CohortReading | None

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **BlockClassifier._allowed,
        "column_kinds": MappingTo(OneOf(*COLUMN_KINDS)) | NONE,
        "series_steps": Whole(least=1),
        "embed_size": Whole(least=1),
        "learning_rate": BlockClassifier._allowed["learning_rate"] | OneOf("auto"),
        "max_epochs": BlockClassifier._allowed["max_epochs"] | OneOf("auto"),
    }

    # -- tables -------------------------------------------------------------------------------

    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        table = plain_table(X)
        self._reading = None
        if not self.column_kinds and not _has_cells(table):
            return super()._validate_fit(X, y)
        if not isinstance(table, pd.DataFrame):
            raise ModalityError(
                f"column_kinds names columns, so X has to be a DataFrame; found a "
                f"{type(X).__name__}."
            )
        table = self._check_cells(X, table, reset=True)
        # For y alone; the table has been checked.
        _, y = check_X_y(np.zeros((len(table), 1)), y, multi_output=True)
        return table, y

    def _validate(self, X: Any) -> Any:
        if self._reading is None:
            return super()._validate(X)
        table = plain_table(X)
        if not isinstance(table, pd.DataFrame):
            raise ModalityError(
                f"fitted on a table with the modalities {self._reading.layout.names}; predict on "
                f"a DataFrame that has them, not on a {type(X).__name__} of numbers."
            )
        table = self._check_cells(X, table, reset=False)
        refuse_cells_in_blocks(table, self._reading.layout)
        return table

    def _check_cells(self, X: Any, table: pd.DataFrame, *, reset: bool) -> pd.DataFrame:
        """Check names and number of columns; leave out those that aren't read."""
        validate_data(self, X, reset=reset, skip_check_array=True)
        if not len(table):
            raise DataError(f"found no row in a table of shape {table.shape}; one is needed.")
        if reset:  # kept, so that a parameter set afterwards doesn't change a fitted model
            kinds = self.column_kinds or {}
            self._ignored = [column for column, kind in kinds.items() if kind == "ignore"]
            if unknown := [column for column in kinds if column not in table.columns]:
                raise ModalityError(
                    f"column_kinds names {unknown}; the table has the columns "
                    f"{list(table.columns)}."
                )
        table = table.drop(columns=self._ignored)
        numbers = table.iloc[:, numeric_columns(table)]
        refuse_infinity(numbers.to_numpy(np.float64), numbers)
        return table

    def _absent(self, X: Any) -> list[str]:
        if self._reading is None:
            return super()._absent(X)
        return absent_modalities(X, self._reading.layout)

    # -- tensors ------------------------------------------------------------------------------

    def _learn_table(self, table: TrainingTable) -> tuple[list[str], list[int]]:
        """Learn what a table has; returns each modality's kind, and what its encoder reads."""
        if not isinstance(table.X, pd.DataFrame):
            self._scaling = self._fit_scaling(table, self.modalities)
            self.modalities_ = self._scaling.names
            self._check_scaling(self.modalities_)
            return ["block"] * len(self.modalities_), self._scaling.dims
        layout = find_raw_layout(table.X, self.modalities, self.column_kinds)
        self.modalities_ = layout.names
        self._check_scaling([layout.names[m] for m in layout.of_kind("block")])
        if self.embed_size % 2 and "series" in layout.kinds:
            raise ParameterError(
                f"embed_size={self.embed_size} must be even: half of a series' embedding is read "
                "forwards, half backwards."
            )
        self._reading = CohortReading.fit(
            table.X.iloc[table.kept],
            table.weight[table.kept],
            layout,
            scaling=self.scaling,
            max_steps=self.series_steps,
        )
        return layout.kinds, self._reading.dims

    def _read(self, X: Any, rows: pd.Index) -> tuple[np.ndarray, np.ndarray, dict[int, Any]]:
        """Blocks, presence and raw inputs of a validated table."""
        if self._reading is None:
            return *self._scaling.apply(X, rows), {}
        return self._reading.read(X, rows)

    def _tensors(
        self, x: np.ndarray, present: np.ndarray, raw: dict[int, Any], dtype: Any
    ) -> dict[str, Any]:
        from medfusion_sdk.nn.small_encoders import raw_name

        return to_tensors(x, present, dtype) | {
            raw_name(m): part.to(dtype) if self._is_series(m) else part for m, part in raw.items()
        }

    def _is_series(self, m: int) -> bool:
        return self._reading is not None and m in self._reading.series

    def _inputs(self, X: Any, rows: pd.Index) -> dict[str, Any]:
        import torch

        dtype = getattr(torch, self.architecture_["dtype"])
        return self._tensors(*self._read(X, rows), dtype)

    # -- training -----------------------------------------------------------------------------

    @property
    def _reads_raw(self) -> bool:
        return any(kind != "block" for kind in self.architecture_["kinds"])

    @property
    def _predict_rows(self) -> int | str:  # type: ignore[override]
        return _PREDICT_ROWS if self._reads_raw else "auto"

    def _config(self, n_rows: int, **changed: Any) -> TrainingConfig:
        usual = _RAW | {"max_epochs": _raw_epochs(n_rows)} if self._reads_raw else _BLOCKS
        asked = {"lr": self.learning_rate, "max_epochs": self.max_epochs}
        given = {name: value for name, value in asked.items() if value != "auto"}
        return super()._config(n_rows, **usual | given | changed)


def _raw_epochs(n_rows: int) -> int:
    """Epochs that come near the usual number of steps, whatever the batch size that is set."""
    least, most = _RAW_EPOCHS
    return min(max(round(_RAW_STEPS * _RAW["auto_rows"] / n_rows), least), most)


def _has_cells(table: Any) -> bool:
    frame = isinstance(table, pd.DataFrame)
    return frame and len(numeric_columns(table)) < table.shape[1]
