"""From a table with volumes and reports to Brain-Adapter's tensors."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._cohort_table import CohortTableEstimator
from medfusion_sdk.estimators._dual_inputs import as_series
from medfusion_sdk.estimators._roles import VolumeRoles
from medfusion_sdk.estimators._scaling import apply_where
from medfusion_sdk.exceptions import ModalityError, ParameterError
from medfusion_sdk.readers.cells import Column, read_column
from medfusion_sdk.tables import shown_rows

if TYPE_CHECKING:
    from medfusion_sdk.encoders._volume_inputs import VolumeInputs
    from medfusion_sdk.encoders.text import TextEncoder
    from medfusion_sdk.estimators._scaling import BlockScaling

__all__ = ["BrainAdapterTable"]

_NAMES = {"image": "volume", "text": "report"}


class BrainAdapterTable(CohortTableEstimator):
    """Reads tables as a fit has found that they are."""

    volume_column_: Any
    volume_block_: Any
    report_column_: Any
    report_block_: Any
    volume_shape_: tuple[int, ...] | None
    modalities_: tuple[str, ...]
    volume_inputs_: VolumeInputs | None
    text_encoder_: TextEncoder | None
    text_scaling_: BlockScaling | None

    def _reads_numbers(self) -> bool:
        return self.volume_block_ is not None or self.report_block_ is not None

    def _numbers_alone(self) -> bool:
        return self.volume_column_ is None and self.report_column_ is None

    def _keep_roles(self, roles: VolumeRoles) -> None:
        self.volume_column_, self.volume_block_ = roles.volume, roles.volume_block
        self.report_column_, self.report_block_ = roles.report, roles.report_block

    # -- columns ------------------------------------------------------------------------------

    def _volumes(self, X: Any) -> Column:
        """One cell per row: paths or arrays, None where missing."""
        if self.volume_block_ is None:
            return read_column(X[self.volume_column_])
        values, shape = self._block(X, self.volume_block_), self.volume_shape_
        if shape is None or np.prod(shape) != values.shape[1]:
            raise ParameterError(
                f"volume_shape={shape}: the volume has {values.shape[1]} columns, which must be "
                "depth times height times width, slice after slice and line after line."
            )
        cells = [None if np.isnan(row).all() else row.reshape(shape) for row in values]
        rows = X.index if isinstance(X, pd.DataFrame) else range(len(values))
        return Column(cells, rows, "volume")

    def _report_vectors(self, X: Any) -> np.ndarray:
        """Vectors of a frozen text encoder, made here or before; NaN where missing."""
        if self.report_block_ is not None:
            return self._block(X, self.report_block_)
        assert self.text_encoder_ is not None
        column = as_series(read_column(X[self.report_column_]))
        return np.asarray(self.text_encoder_.transform(column), dtype=np.float64)

    @staticmethod
    def _block(X: Any, names: list[Any]) -> np.ndarray:
        block = X[names] if isinstance(X, pd.DataFrame) else X[:, names]
        return np.asarray(block, dtype=np.float64)

    # -- tensors ------------------------------------------------------------------------------

    def _absent(self, X: Any) -> list[str]:
        found = []
        if "image" in self.modalities_ and not self._volumes(X).present:
            found.append(str(self.volume_column_ or "volume"))
        if "text" in self.modalities_:
            if self.report_block_ is not None:
                there = ~np.isnan(self._block(X, self.report_block_)).all()
            else:
                there = bool(read_column(X[self.report_column_]).present)
            if not there:
                found.append(str(self.report_column_ or "report"))
        return found

    def _inputs(self, X: Any, rows: pd.Index) -> dict[str, Any]:
        import torch

        inputs: dict[str, Any] = {}
        if "image" in self.modalities_:
            inputs |= self._image_rows(self._volumes(X))
        if "text" in self.modalities_:
            vectors = self._report_vectors(X)
            present = ~np.isnan(vectors).all(axis=1)
            dtype = getattr(torch, self.architecture_["dtype"])
            assert self.text_scaling_ is not None
            x, _ = apply_where(self.text_scaling_, vectors, present)
            inputs |= {"text": torch.from_numpy(x).to(dtype), "has_text": torch.from_numpy(present)}
        self._require_any(inputs, rows)
        return inputs

    def _image_rows(self, column: Column) -> dict[str, Any]:
        """Volumes as a tensor, or as rows that are read when their batch comes."""
        import torch

        from medfusion_sdk.training.lazy import LazyRows

        assert self.volume_inputs_ is not None
        present, kept = self.volume_inputs_.survey(column)
        if kept is not None:
            volumes: Any = torch.from_numpy(kept)
        else:
            read = partial(self.volume_inputs_.read, column)
            volumes = LazyRows(read, torch.arange(len(column)))
        return {"image": volumes, "has_image": torch.from_numpy(present)}

    def _require_any(self, inputs: dict[str, Any], rows: pd.Index) -> None:
        """Refuse rows of which nothing is there that is read."""
        there = np.any([inputs[f"has_{name}"].numpy() for name in self.modalities_], axis=0)
        lacking = np.flatnonzero(~there)
        if lacking.size:
            names = [_NAMES[name] for name in self.modalities_]
            what = "neither volume nor report" if len(names) == 2 else f"no {names[0]}"
            raise ModalityError(
                f"{lacking.size} row(s) have {what}: {shown_rows(rows, lacking)}. Drop them; there "
                "is nothing to learn or to predict from."
            )
