"""From a table with a signal and a text column to the dual adapter's tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._cohort_table import CohortTableEstimator
from medfusion_sdk.estimators._dual_inputs import (
    SignalReader,
    as_series,
    require_primary,
    same_reading,
)
from medfusion_sdk.estimators._roles import Roles
from medfusion_sdk.readers.cells import Column, read_column

if TYPE_CHECKING:
    from medfusion_sdk.encoders._token_states import TokenStateEncoder
    from medfusion_sdk.encoders.signal import SignalEncoder
    from medfusion_sdk.encoders.text import TextEncoder
    from medfusion_sdk.estimators._scaling import BlockScaling

__all__ = ["DualAdapterTable"]


class DualAdapterTable(CohortTableEstimator):
    """Reads tables as a fit has found that they are."""

    signal_column_: Any
    signal_block_: Any
    text_column_: Any
    reading_: dict[str, Any]
    signal_shape_: tuple[int, ...] | None
    signal_encoder_: SignalEncoder | None
    signal_scaling_: BlockScaling | None
    text_states_: TokenStateEncoder | None
    text_encoder_: TextEncoder | None

    def _reads_numbers(self) -> bool:
        return self.signal_block_ is not None

    def _numbers_alone(self) -> bool:
        return self.text_column_ is None and self.signal_column_ is None

    def _reader(self) -> SignalReader:
        return SignalReader(
            Roles(self.signal_column_, self.signal_block_, self.text_column_),
            **self.reading_,
        )

    def _absent(self, X: Any) -> list[str]:
        named = [name for name in (self.signal_column_, self.text_column_) if name is not None]
        absent = [str(name) for name in named if not read_column(X[name]).present]
        block = self.signal_block_
        if block is not None and np.isnan(self._reader().embeddings(X)).all():
            absent.append("signal")
        return absent

    def _inputs(self, X: Any, rows: pd.Index) -> dict[str, Any]:
        import torch

        dtype = getattr(torch, self.architecture_["dtype"])
        n_rows = len(X)
        inputs: dict[str, Any] = {}
        has_signal = has_text = np.zeros(n_rows, dtype=bool)
        if self.signal_column_ is not None or self.signal_block_ is not None:
            signal, has_signal = self._read_signal(X)
            inputs["signal"] = torch.from_numpy(signal).to(dtype)
        if self.text_column_ is not None:
            inputs |= self._read_text(read_column(X[self.text_column_]), dtype)
            has_text = (inputs["tokens"].lengths > 0).numpy()
        require_primary(self.architecture_["mode"], has_signal, has_text, rows)
        inputs["has_signal"] = torch.from_numpy(has_signal)
        inputs["has_text"] = torch.from_numpy(has_text)
        return inputs

    def _read_signal(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        reader = self._reader()
        if self.signal_scaling_ is None:
            return reader.signals(X, self.signal_shape_)
        if reader.is_embedding:
            block = reader.embeddings(X)
        else:
            assert self.signal_encoder_ is not None
            block = np.asarray(self.signal_encoder_.transform(as_series(reader.column(X))))
        present = ~np.isnan(block).all(axis=1)
        x = np.zeros((len(block), sum(self.signal_scaling_.dims)))
        if present.any():
            x[present] = self.signal_scaling_.apply(block[present])[0]
        return x, present

    def _read_text(self, column: Column, dtype: Any) -> dict[str, Any]:
        """Token states of each row, and the vector of the whole text; nothing where missing."""
        import torch

        from medfusion_sdk.nn.ragged import Ragged

        assert self.text_states_ is not None
        assert self.text_encoder_ is not None
        missing = torch.zeros((0, self.architecture_["width"]), dtype=dtype)
        # What both read alike is told of once.
        tell = not same_reading(self.text_states_, self.text_encoder_)
        read = self.text_states_.token_states(column, tell=tell)
        states = [
            missing if row is None else torch.tensor(np.concatenate(row), dtype=dtype)
            for row in read
        ]
        vectors = np.nan_to_num(np.asarray(self.text_encoder_.transform(as_series(column))))
        found = {"tokens": Ragged.of(states), "text": torch.from_numpy(vectors).to(dtype)}
        if self.text_states_.long == "chunks":
            found["windows"] = torch.tensor([0 if row is None else len(row) for row in read])
        return found
