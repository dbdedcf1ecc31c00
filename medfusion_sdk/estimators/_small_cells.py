"""Columns of raw cells as the small network reads them: short series, words, small pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils import murmurhash3_32

from medfusion_sdk.encoders._text_windows import warn_of_cut
from medfusion_sdk.encoders._volume_inputs import KEPT_BYTES, VolumeInputs
from medfusion_sdk.exceptions import CellError, SignalError
from medfusion_sdk.readers.cells import Column, read_column
from medfusion_sdk.readers.image import read_image
from medfusion_sdk.readers.npy import open_npy
from medfusion_sdk.readers.paths import refuse_paths
from medfusion_sdk.readers.resampling import resample
from medfusion_sdk.readers.series import read_series
from medfusion_sdk.readers.signal import read_signal, stated_rate

if TYPE_CHECKING:
    from medfusion_sdk.nn.ragged import Ragged

__all__ = [
    "N_TOKENS",
    "average_steps",
    "read_images",
    "read_signals",
    "read_tokens",
    "read_volumes",
]

# Numbers that words are hashed to; of a thousand different words one in ten shares its own.
N_TOKENS = 4096
# Further words of a text are left out.
_MOST_WORDS = 256
_READS_MORE = (
    "A column of TextEncoder(long='chunks'), by make_modality_transformer, reads all of a text."
)
_WORD = re.compile(r"\w+|[^\w\s]")  # a mark is a word, too: "infarct?" is no infarct
_EMPTY = 0  # the number of what stands in an empty text
_IMAGE_SIZE = (64, 64)
_VOLUME_SIZE = (32, 32, 32)


def read_signals(column: pd.Series, n_channels: int | None) -> Column:
    """Read a column of series or signals.

    Parameters
    ----------
    column : Series
        Arrays (channels, samples), NaN where unobserved, or paths of signals.
    n_channels : int or None
        Channels that each must have; None for those of the first.

    Returns
    -------
    Column
        Arrays; a cell in which nothing was observed is missing.
    """
    cells = read_column(column)
    loaded = np.full(len(cells), None, dtype=object)
    rates: dict[float, Any] = {}  # of records, with the first row of each
    for i in cells.present:
        try:
            loaded[i] = _loaded(cells.cells[i])
            rate = stated_rate(cells.cells[i])
            if rate is not None and rates.setdefault(rate, cells.rows[i]) == cells.rows[i]:
                _require_one(rates)
        except CellError as error:
            raise error.located(cells.rows[i], cells.name) from error
    return read_series(pd.Series(loaded, index=column.index, name=column.name), n_channels)


def _require_one(rates: dict[float, Any]) -> None:
    """Refuse records of several rates, of which samples would be averaged as if they had one."""
    if len(rates) > 1:
        shown = ", ".join(f"{rate:g} Hz (row {row!r})" for rate, row in rates.items())
        raise SignalError(
            f"records have several rates: {shown}. Bring them to one and hand over arrays, or "
            "encode them by SignalEncoder, which resamples."
        )


def _loaded(cell: Any) -> Any:
    """Samples of a path; arrays as they are. What isn't observed in a file may be NaN, too."""
    if not isinstance(cell, str | os.PathLike):
        return cell
    path = Path(cell)
    return open_npy(path, SignalError) if path.suffix == ".npy" else read_signal(path)


def average_steps(cells: Column, step: int) -> pd.Series:
    """Average series over steps of some samples.

    Parameters
    ----------
    cells : Column
        From :func:`read_signals`.
    step : int
        Samples of a step; the last one may have fewer.

    Returns
    -------
    Series
        Named "series": arrays (channels, steps), NaN where nothing was observed in a step.
    """
    averaged = np.full(len(cells), None, dtype=object)
    for i in cells.present:
        averaged[i] = _averaged(cells.cells[i], step)
    return pd.Series(averaged, name="series", dtype=object)


def _averaged(cell: np.ndarray, step: int) -> np.ndarray:
    if step == 1:
        return cell
    lacking = -cell.shape[1] % step
    parts = np.pad(cell, ((0, 0), (0, lacking)), constant_values=np.nan)
    parts = parts.reshape(len(cell), -1, step)
    seen = (~np.isnan(parts)).sum(axis=2)
    total = np.nansum(parts, axis=2, dtype=np.float64)
    return np.where(seen > 0, total / np.maximum(seen, 1), np.nan).astype(np.float32)


def read_tokens(column: pd.Series) -> Ragged:
    """Read texts as the numbers that their words are hashed to.

    Parameters
    ----------
    column : Series
        Strings.

    Returns
    -------
    Ragged of (length,), int64
        The same in every process; at least one unless the cell is missing.

    Warns
    -----
    EncoderWarning
        If texts have more words than are read.
    """
    import torch

    from medfusion_sdk.nn.ragged import Ragged

    cells, tokens, lengths = read_column(column), [], {}
    refuse_paths(cells.cells, cells.rows, cells.name)
    for place, (row, cell) in enumerate(zip(cells.rows, cells.cells, strict=True)):
        if cell is not None and not isinstance(cell, str):
            raise CellError(
                f"expected text, found a {type(cell).__name__}. Convert the column to strings, or "
                "leave the cell empty (None)."
            ).located(row, cells.name)
        words = [] if cell is None else _hashed(cell)
        lengths[place] = len(words)
        tokens.append(torch.tensor(words[:_MOST_WORDS], dtype=torch.int64))
    warn_of_cut(cells, lengths, _MOST_WORDS, _READS_MORE)
    return Ragged.of(tokens)


def _hashed(text: str) -> list[int]:
    words = _WORD.findall(text.lower())
    # Python's own hash is another one in each process.
    numbers = [murmurhash3_32(word.encode("utf-8", "replace"), positive=True) for word in words]
    return [1 + number % (N_TOKENS - 1) for number in numbers] or [_EMPTY]


def read_images(column: pd.Series) -> tuple[Any, np.ndarray]:
    """Read a column of images, each brought to 64 by 64 pixels whatever its proportions.

    Parameters
    ----------
    column : Series
        PNG, JPEG or ``.npy`` files, or arrays.

    Returns
    -------
    images : Tensor or LazyRows of (n, 3, 64, 64), uint8
        Lazy where they would take more than half a gigabyte.
    present : ndarray of shape (n,), bool
        Where there is one.
    """
    import torch

    from medfusion_sdk.training.lazy import LazyRows

    cells = read_column(column)
    present = np.array([cell is not None for cell in cells.cells], dtype=bool)
    rows = range(len(cells))
    if len(cells) * 3 * np.prod(_IMAGE_SIZE) <= KEPT_BYTES:
        return torch.from_numpy(_images(cells, rows)), present
    for row in rows:  # so that a bad one is told of before anything is computed
        _images(cells, [row])
    return LazyRows(partial(_images, cells), torch.arange(len(cells))), present


def _images(cells: Column, rows: Sequence[int]) -> np.ndarray:
    images = np.zeros((len(rows), 3, *_IMAGE_SIZE), dtype=np.uint8)
    for place, row in enumerate(rows):
        if cells.cells[row] is None:
            continue
        try:
            pixels = read_image(cells.cells[row]).astype(np.float32)
        except CellError as error:
            raise error.located(cells.rows[row], cells.name) from error
        images[place] = np.rint(resample(pixels, (*_IMAGE_SIZE, 3))).transpose(2, 0, 1)
    return images


def read_volumes(column: pd.Series) -> tuple[Any, np.ndarray]:
    """Read a column of volumes, each brought to 32 by 32 by 32 voxels.

    Parameters
    ----------
    column : Series
        NIfTI or ``.npy`` files, or arrays.

    Returns
    -------
    volumes : Tensor or LazyRows of (n, 1, 32, 32, 32), float16
        From 0 to 1; lazy where they would take more than half a gigabyte.
    present : ndarray of shape (n,), bool
        Where there is one.
    """
    import torch

    from medfusion_sdk.training.lazy import LazyRows

    cells, reader = read_column(column), VolumeInputs(_VOLUME_SIZE)
    present, kept = reader.survey(cells)
    if kept is not None:
        return torch.from_numpy(kept[:, None]), present
    return LazyRows(
        lambda rows: reader.read(cells, rows)[:, None], torch.arange(len(cells))
    ), present
