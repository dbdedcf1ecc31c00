"""Event tables in memory or on disk -> pieces of bounded size, and batches of whole stays."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import (
    DataError,
    DataFileNotFoundError,
    MedFusionError,
    MissingDependencyError,
    ParameterError,
)
from medfusion_sdk.readers._event_intake import EVENT, EventColumns
from medfusion_sdk.readers.files import is_file

# Events that are held and sorted at once: about 50 MB with everything that sorting takes.
PIECE = 1 << 18
# Files that a spill has open at once.
_MOST_BATCHES = 512
# A short line of a CSV file, to guess from its size how many events it holds.
_LINE_BYTES = 16


class FrameSource:
    """An event table in memory."""

    as_text = False

    def __init__(self, events: pd.DataFrame, columns: EventColumns) -> None:
        columns.check(events.columns, "the event table")
        self._events = events[list(vars(columns).values())]

    @property
    def n_batches(self) -> int:
        return 1 + len(self._events) // PIECE

    def pieces(self) -> Iterator[pd.DataFrame]:
        for start in range(0, len(self._events), PIECE):
            yield self._events.iloc[start : start + PIECE]


class ParquetSource:
    """A Parquet file, read row group by row group."""

    as_text = False

    def __init__(self, path: Path, columns: EventColumns) -> None:
        self._path = path
        self._columns = list(vars(columns).values())
        with self._open() as file:
            columns.check(file.schema_arrow.names, str(path))
            self.n_batches = 1 + file.metadata.num_rows // PIECE

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as cause:
            raise MissingDependencyError(
                f"reading {self._path} needs pyarrow: pip install 'medfusion-sdk[parquet]'."
            ) from cause
        try:
            # Buffering ahead keeps what it has read, and so in the end the whole file.
            with parquet.ParquetFile(self._path, pre_buffer=False) as file:
                yield file
        except MedFusionError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as cause:
            raise DataError(f"{self._path} is not a readable Parquet file: {cause}") from cause

    def pieces(self) -> Iterator[pd.DataFrame]:
        with self._open() as file:
            for batch in file.iter_batches(batch_size=PIECE, columns=self._columns):
                yield batch.to_pandas()


class CsvSource:
    """A CSV file, plain or compressed."""

    as_text = True

    def __init__(self, path: Path, columns: EventColumns) -> None:
        self._path = path
        self._columns = columns
        self.n_batches = 1 + path.stat().st_size // (_LINE_BYTES * PIECE)
        columns.check(list(self._read(nrows=0).columns), str(path))

    def _read(self, **options: Any) -> Any:
        try:
            return pd.read_csv(self._path, **options)
        except (ValueError, UnicodeDecodeError) as cause:
            raise DataError(f"{self._path} is not a readable CSV file: {cause}") from cause

    def pieces(self) -> Iterator[pd.DataFrame]:
        names = self._columns
        # Ids and names as text: what pandas guesses may differ from piece to piece.
        kinds = {names.id: str, names.parameter: str}
        reader = self._read(usecols=list(vars(names).values()), dtype=kinds, chunksize=PIECE)
        with reader:
            try:
                yield from reader
            except ValueError as cause:
                raise DataError(f"{self._path} is not a readable CSV file: {cause}") from cause


Source = FrameSource | ParquetSource | CsvSource


def open_source(events: Any, columns: EventColumns) -> Source:
    """Choose the reader of an event table by its type or its file's ending."""
    if isinstance(events, pd.DataFrame):
        return FrameSource(events, columns)
    path = Path(events)
    if not is_file(path):
        raise DataFileNotFoundError(f"no file {path}.")
    if path.suffix in (".parquet", ".pq"):
        return ParquetSource(path, columns)
    if ".csv" in path.suffixes:
        return CsvSource(path, columns)
    raise ParameterError(f"{path}: expected a .parquet or a .csv file, or a DataFrame.")


def whole_stays(
    pieces: Iterable[np.ndarray], n_batches: int, *, spill: bool
) -> Iterator[np.ndarray]:
    """Regroup records so that each batch holds all events of its stays, in their first order.

    A table in memory is regrouped there. Records of a file pass through files of a private
    temporary folder, so that memory doesn't grow with their number.
    """
    n_batches = min(n_batches, _MOST_BATCHES)
    if not spill:
        records = np.concatenate([np.empty(0, dtype=EVENT), *pieces])
        for batch in range(n_batches):
            yield records[records["stay"] % n_batches == batch]
        return
    with tempfile.TemporaryDirectory(prefix="medfusion-events-") as folder:
        paths = [Path(folder) / str(batch) for batch in range(n_batches)]
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in paths]
            for records in pieces:
                batch_of = records["stay"] % n_batches
                order = np.argsort(batch_of, kind="stable")
                bounds = np.searchsorted(batch_of[order], np.arange(1, n_batches))
                for file, part in zip(files, np.split(records[order], bounds), strict=True):
                    file.write(part.tobytes())
        for path in paths:
            yield np.fromfile(path, dtype=EVENT)
