"""From a table to what AMFN's networks and its expert read; all that is learnt on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.encoders._series_fill import fill_forward, last_seen
from medfusion_sdk.estimators._amfn_table import read_cells, read_images
from medfusion_sdk.estimators._layout import Layout, require_some
from medfusion_sdk.estimators._ranks import RankScaling
from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.estimators._series_summary import pad_series, summarise, summarise_parts
from medfusion_sdk.exceptions import ModalityError

__all__ = ["ImageReading", "SeriesReading", "TableReading", "TableValues"]

# A standardised column beyond this is a typing error or another unit; it shan't drown a row.
_FURTHEST = 10.0


@dataclass(frozen=True)
class SeriesReading:
    """What a fit learns about a column of series.

    Attributes
    ----------
    centre, scale : ndarray of shape (n_channels,)
        Median and spread (from the quartiles) of what was observed. A channel that training never
        observed has scale 0: it is unobserved ever after.
    summary : RankScaling
        Of its summary.
    observed : float
        Share of the steps and channels of those rows in which something was observed.
    """

    centre: np.ndarray
    scale: np.ndarray
    summary: RankScaling
    observed: float

    @classmethod
    def fit(cls, cells: list[np.ndarray | None]) -> SeriesReading:
        """Learn from training rows.

        Parameters
        ----------
        cells : list of ndarray or None
            Series; at least one is there.

        Returns
        -------
        SeriesReading
            Ready to read.
        """
        n_channels = next(len(cell) for cell in cells if cell is not None)
        values, lengths = pad_series(cells, n_channels)
        centre, scale = np.zeros(n_channels), np.zeros(n_channels)
        for channel in range(n_channels):
            seen = values[:, channel][~np.isnan(values[:, channel])].astype(np.float64)
            if seen.size:
                low, centre[channel], high = np.quantile(seen, [0.25, 0.5, 0.75])
                # From the quartiles; a channel that is mostly one value by its deviation.
                scale[channel] = (high - low) / 1.349 or seen.std() or 1.0
        summary = RankScaling.fit(summarise(values, lengths)[lengths > 0])
        observed = float((~np.isnan(values)).sum() / (lengths.sum() * n_channels))
        return cls(centre, scale, summary, observed)

    def pad(self, cells: list[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        """Put series into one array; channels that training never observed are unobserved.

        Parameters
        ----------
        cells : list of ndarray or None
            Series.

        Returns
        -------
        values : ndarray of shape (n, n_channels, steps)
            NaN where unobserved.
        lengths : ndarray of shape (n,)
            Steps; 0 where nothing was observed.
        """
        values, lengths = pad_series(cells, len(self.centre))
        values[:, self.scale == 0] = np.nan
        lengths[np.isnan(values).all(axis=(1, 2))] = 0
        return values, lengths

    def channels(self, values: np.ndarray) -> np.ndarray:
        """Make what a sequence encoder reads of each step.

        Parameters
        ----------
        values : ndarray of shape (n, n_channels, steps)
            From :meth:`pad`.

        Returns
        -------
        ndarray of shape (n, steps, 3 * n_channels), float32
            The last value seen, standardised and squeezed; whether it was seen in this step; and
            how recently, one over one plus the steps since.
        """
        seen = ~np.isnan(values)
        scale = np.where(self.scale > 0, self.scale, 1.0)[:, None]
        filled = np.nan_to_num(fill_forward((values - self.centre[:, None]) / scale))
        before = last_seen(seen)
        since = np.arange(values.shape[-1]) - before
        recency = np.where(before < 0, 0.0, 1.0 / (1.0 + since))
        parts = np.concatenate([np.arcsinh(filled), seen, recency], axis=1)
        return parts.transpose(0, 2, 1).astype(np.float32)


@dataclass(frozen=True)
class ImageReading:
    """What a fit learns about a column of images.

    Attributes
    ----------
    shape : tuple of int
        Channels, height, width.
    mean, scale : ndarray of shape (channels, 1, 1)
        Of the pixels.
    """

    shape: tuple[int, ...]
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, images: np.ndarray) -> ImageReading:
        """Learn from training images.

        Parameters
        ----------
        images : ndarray of shape (n, channels, height, width)
            Those that are there.

        Returns
        -------
        ImageReading
            Ready to read.
        """
        mean = images.mean(axis=(0, 2, 3), dtype=np.float64)[:, None, None]
        spread = images.std(axis=(0, 2, 3), dtype=np.float64)[:, None, None]
        return cls(images.shape[1:], mean, np.where(spread > 0, spread, 1.0))


@dataclass(frozen=True)
class TableValues:
    """A table as arrays.

    Attributes
    ----------
    present : ndarray of shape (n, M), bool
        Which modalities each row has.
    vectors : dict of int to ndarray of shape (n, n_vector)
        Scaled summary of a series, or columns of a block; zero where missing.
    sequences : dict of int to (ndarray of shape (n, steps, channels), ndarray of shape (n,))
        What a sequence encoder reads, and the lengths.
    images : dict of int to ndarray of shape (n, channels, height, width)
        Standardised.
    plain : ndarray of shape (n, n_columns)
        Summaries, also of parts of a series, and columns as they are, side by side, NaN where
        missing: for trees. The networks did worse with the parts on PhysioNet 2012.
    """

    present: np.ndarray
    vectors: dict[int, np.ndarray]
    sequences: dict[int, tuple[np.ndarray, np.ndarray]]
    images: dict[int, np.ndarray]
    plain: np.ndarray

    def n_values(self, rows: np.ndarray) -> int:
        """Count the values of some rows, series as long as the longest of these.

        Parameters
        ----------
        rows : ndarray of int
            Which.

        Returns
        -------
        int
            Of columns, summaries, steps and pixels together.
        """
        steps = [
            x.shape[2] * int(lengths[rows].max(initial=0)) for x, lengths in self.sequences.values()
        ]
        pixels = [int(np.prod(own.shape[1:])) for own in self.images.values()]
        return len(rows) * (self.plain.shape[1] + sum(steps) + sum(pixels))


@dataclass(frozen=True)
class TableReading:
    """What a fit learns about a table.

    Attributes
    ----------
    layout : Layout
        Its modalities.
    series : dict of int to SeriesReading
        Of each series modality.
    images : dict of int to ImageReading
        Of each image modality.
    blocks : BlockScaling or None
        Of the numeric columns.
    """

    layout: Layout
    series: dict[int, SeriesReading]
    images: dict[int, ImageReading]
    blocks: BlockScaling | None

    @classmethod
    def fit(cls, X: Any, weight: np.ndarray, layout: Layout, scaling: Any) -> TableReading:
        """Learn from training rows.

        Parameters
        ----------
        X : DataFrame or ndarray
            Rows to learn from.
        weight : ndarray of shape (n,)
            Their weights; series and images are scaled without.
        layout : Layout
            Modalities of the table.
        scaling : str or mapping
            Of the blocks; see :class:`BlockScaling`.

        Returns
        -------
        TableReading
            Ready to :meth:`read`.

        Raises
        ------
        ModalityError
            If a modality is missing in every row.
        """
        series, images = {}, {}
        for m in layout.of_kind("series"):
            cells = read_cells(X, layout.columns[m], None)
            if all(cell is None for cell in cells):
                raise ModalityError(
                    f"nothing was observed of {layout.names[m]!r} in any training row: nothing "
                    "can be learnt about it. Drop its column."
                )
            series[m] = SeriesReading.fit(cells)
        for m in layout.of_kind("image"):
            pixels, present = read_images(X, layout.columns[m], None)
            images[m] = ImageReading.fit(pixels[present])
        columns = {layout.names[m]: layout.columns[m] for m in layout.of_kind("block")}
        blocks = _fit_blocks(X, weight, columns, scaling) if columns else None
        return cls(layout, series, images, blocks)

    @property
    def vector_widths(self) -> dict[int, int]:
        """Width of the vector of each modality that has one."""
        widths = {m: reading.summary.width for m, reading in self.series.items()}
        blocks = self.layout.of_kind("block")
        dims = [] if self.blocks is None else self.blocks.dims
        return widths | dict(zip(blocks, dims, strict=True))

    def read(self, X: Any, rows: pd.Index, *, sequences: list[int]) -> TableValues:
        """Read a table.

        Parameters
        ----------
        X : DataFrame or ndarray
            Rows.
        rows : Index
            Their labels.
        sequences : list of int
            Series modalities that are read step by step.

        Returns
        -------
        TableValues
            Its arrays.

        Raises
        ------
        ModalityError
            If a row has no modality.
        """
        present = np.zeros((len(X), len(self.layout.names)), dtype=bool)
        vectors: dict[int, np.ndarray] = {}
        steps: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        plain: list[np.ndarray] = []
        for m, own in self.series.items():
            cells = read_cells(X, self.layout.columns[m], len(own.centre))
            values, lengths = own.pad(cells)
            summary = summarise(values, lengths)
            present[:, m] = lengths > 0
            vectors[m] = own.summary.apply(summary) * present[:, [m]]
            plain += [summary, summarise_parts(values, lengths)]
            if m in sequences:
                steps[m] = own.channels(values), lengths
        images = {}
        for m, reading in self.images.items():
            pixels, present[:, m] = read_images(X, self.layout.columns[m], reading.shape)
            there = present[:, m, None, None, None]
            images[m] = np.where(there, (pixels - reading.mean) / reading.scale, 0.0)
        if self.blocks is not None:
            plain.append(self._read_blocks(X, present, vectors))
        require_some(present, rows, self.layout.names)
        side_by_side = np.concatenate([np.zeros((len(X), 0)), *plain], axis=1)
        return TableValues(present, vectors, steps, images, side_by_side)

    def _read_blocks(
        self, X: Any, present: np.ndarray, vectors: dict[int, np.ndarray]
    ) -> np.ndarray:
        """Fill in the blocks' vectors and presence; return their columns as they are."""
        assert self.blocks is not None
        positions = self.layout.of_kind("block")
        block = _numbers(X, [self.layout.columns[m] for m in positions])
        some = ~np.isnan(block).all(axis=1)  # others have a series or an image
        x = np.zeros((len(block), sum(self.blocks.dims)))
        if some.any():
            x[some], present[np.ix_(some, positions)] = self.blocks.apply(block[some])
        start = 0
        for m, width in zip(positions, self.blocks.dims, strict=True):
            # Blocks come with rows of norm one; here each column has spread one.
            own = x[:, start : start + width] * np.sqrt(width)
            vectors[m] = np.clip(own, -_FURTHEST, _FURTHEST)
            start += width
        return block


def _fit_blocks(
    X: Any, weight: np.ndarray, columns: dict[str, np.ndarray], scaling: Any
) -> BlockScaling:
    block = _numbers(X, list(columns.values()))
    bounds = np.cumsum([0, *map(len, columns.values())])
    slices = {
        name: slice(int(start), int(stop))
        for name, start, stop in zip(columns, bounds, bounds[1:], strict=False)
    }
    some = ~np.isnan(block).all(axis=1)
    if not some.any():
        raise ModalityError(f"the columns of {list(columns)} are empty in every training row.")
    return BlockScaling.fit(
        block[some], weight[some], feature_names=None, modalities=slices, scaling=scaling
    )


def _numbers(X: Any, columns: list[np.ndarray]) -> np.ndarray:
    positions = np.concatenate(columns)
    taken = X.iloc[:, positions] if isinstance(X, pd.DataFrame) else X[:, positions]
    return np.asarray(taken, dtype=np.float64)
