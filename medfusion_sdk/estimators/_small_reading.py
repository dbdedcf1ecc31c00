"""From a cohort table to what the small network reads; all that is learnt on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medfusion_sdk.encoders.series import SeriesPreprocessor
from medfusion_sdk.estimators._layout import Layout, require_some
from medfusion_sdk.estimators._scaling import BlockScaling, apply_where
from medfusion_sdk.estimators._small_cells import (
    N_TOKENS,
    average_steps,
    read_images,
    read_signals,
    read_tokens,
    read_volumes,
)
from medfusion_sdk.exceptions import ModalityError

if TYPE_CHECKING:
    from medfusion_sdk.nn.ragged import Ragged

__all__ = ["CohortReading", "SeriesReading"]


@dataclass(frozen=True)
class SeriesReading:
    """What a fit learns about a column of series.

    Attributes
    ----------
    step : int
        Samples that are averaged into one step.
    prepare : SeriesPreprocessor
        Standardises and fills, and marks what was observed if training had gaps.
    """

    step: int
    prepare: SeriesPreprocessor

    @classmethod
    def fit(cls, column: pd.Series, max_steps: int) -> SeriesReading:
        """Learn from training rows.

        Parameters
        ----------
        column : Series
            Arrays (channels, samples), NaN where unobserved, or paths of signals.
        max_steps : int
            Steps of the longest.

        Returns
        -------
        SeriesReading
            Ready to read.

        Raises
        ------
        ModalityError
            If nothing was observed in any row.
        """
        cells = read_signals(column, None)
        there = [cells.cells[i] for i in cells.present]
        if not there:
            raise ModalityError(
                f"nothing was observed of {column.name!r} in any training row: nothing can be "
                "learnt about it. Drop its column."
            )
        step = -(-max(cell.shape[1] for cell in there) // max_steps)
        steps = average_steps(cells, step)
        gaps = any(np.isnan(steps[i]).any() for i in cells.present)
        return cls(step, SeriesPreprocessor(add_mask=gaps).fit(steps))

    @property
    def width(self) -> int:
        """Values of each step."""
        return len(self.prepare.mean_["series"]) * (2 if self.prepare.add_mask else 1)

    def read(self, column: pd.Series) -> Ragged:
        """Read rows.

        Parameters
        ----------
        column : Series
            As in training.

        Returns
        -------
        Ragged of (steps, width)
            No step where nothing was observed.
        """
        import torch

        from medfusion_sdk.nn.ragged import Ragged

        cells = read_signals(column, len(self.prepare.mean_["series"]))
        steps = self.prepare.transform(average_steps(cells, self.step))["series"]
        nothing = torch.zeros((0, self.width))
        return Ragged.of(
            [nothing if cell is None else torch.from_numpy(cell.T.copy()) for cell in steps]
        )


@dataclass(frozen=True)
class CohortReading:
    """What a fit learns about a cohort table.

    Attributes
    ----------
    layout : Layout
        Its modalities.
    series : dict of int to SeriesReading
        Of each modality of that kind.
    blocks : BlockScaling or None
        Of the numeric columns.
    """

    layout: Layout
    series: dict[int, SeriesReading]
    blocks: BlockScaling | None

    @classmethod
    def fit(
        cls, X: pd.DataFrame, weight: np.ndarray, layout: Layout, *, scaling: Any, max_steps: int
    ) -> CohortReading:
        """Learn from training rows.

        Parameters
        ----------
        X : DataFrame
            Rows to learn from.
        weight : ndarray of shape (n,)
            Their weights; series are scaled without.
        layout : Layout
            Modalities of the table.
        scaling : str or mapping
            Of the blocks; see :class:`BlockScaling`.
        max_steps : int
            Steps of the longest series.

        Returns
        -------
        CohortReading
            Ready to :meth:`read`.
        """
        series = {
            m: SeriesReading.fit(X[layout.columns[m]], max_steps) for m in layout.of_kind("series")
        }
        reading = cls(layout, series, None)
        if not layout.of_kind("block"):
            return reading
        values, some = reading._numbers(X)
        bounds = np.cumsum([0, *(len(layout.columns[m]) for m in layout.of_kind("block"))])
        slices = {
            layout.names[m]: slice(int(start), int(stop))
            for m, start, stop in zip(layout.of_kind("block"), bounds, bounds[1:], strict=False)
        }
        if not some.any():
            raise ModalityError(f"the columns of {list(slices)} are empty in every training row.")
        blocks = BlockScaling.fit(
            values[some], weight[some], feature_names=None, modalities=slices, scaling=scaling
        )
        return cls(layout, series, blocks)

    @property
    def dims(self) -> list[int]:
        """What each modality's encoder reads: a block's width, or channels, or token numbers."""
        widths = {m: own.width for m, own in self.series.items()}
        if self.blocks is not None:
            widths |= dict(zip(self.layout.of_kind("block"), self.blocks.dims, strict=True))
        usual = {"text": N_TOKENS, "image": 3, "volume": 1}
        return [widths[m] if m in widths else usual[k] for m, k in enumerate(self.layout.kinds)]

    def read(
        self, X: pd.DataFrame, rows: pd.Index
    ) -> tuple[np.ndarray, np.ndarray, dict[int, Any]]:
        """Read a table.

        Parameters
        ----------
        X : DataFrame
            Rows.
        rows : Index
            Their labels.

        Returns
        -------
        x : ndarray of shape (n, width)
            Scaled blocks side by side.
        present : ndarray of shape (n, M), bool
            Presence mask.
        raw : dict of int to Ragged, Tensor or LazyRows
            What the encoder of each other modality reads.

        Raises
        ------
        CellError
            For a cell that can't be used; the message names its row and column.
        ModalityError
            If a row has no modality.
        """
        present = np.zeros((len(X), len(self.layout.names)), dtype=bool)
        raw: dict[int, Any] = {}
        for m, kind in enumerate(self.layout.kinds):
            if kind != "block":
                raw[m], present[:, m] = self._read_cells(m, kind, X[self.layout.columns[m]])
        x = np.zeros((len(X), 0))
        if self.blocks is not None:
            values, some = self._numbers(X)
            x, present[:, self.layout.of_kind("block")] = apply_where(self.blocks, values, some)
        require_some(present, rows, self.layout.names)
        return x, present, raw

    def _numbers(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Numeric columns, block after block, and the rows that have any of them."""
        positions = np.concatenate([self.layout.columns[m] for m in self.layout.of_kind("block")])
        values = X.iloc[:, positions].to_numpy(dtype=np.float64)
        return values, ~np.isnan(values).all(axis=1)

    def _read_cells(self, m: int, kind: str, column: pd.Series) -> tuple[Any, np.ndarray]:
        if kind in ("series", "text"):
            found = self.series[m].read(column) if kind == "series" else read_tokens(column)
            return found, (found.lengths > 0).numpy()
        return read_volumes(column) if kind == "volume" else read_images(column)
