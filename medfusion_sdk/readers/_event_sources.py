"""Event tables in memory or on disk -> pieces of bounded size, and batches of whole stays."""

from __future__ import annotations

import contextlib
import lzma
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.fixes import parse_version

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
# Since 3.1 pandas reads the nearest float by itself, and warns of being asked to.
_EXACT_FLOATS: dict[str, Any] = (
    {}
    if parse_version(pd.__version__) >= parse_version("3.1")
    else {"float_precision": "round_trip"}
)
# What pandas raises of CSV files that are cut off, damaged or none.
_UNREADABLE = (
    ValueError,
    KeyError,
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)
# Files that a spill has open at once.
_MOST_BATCHES = 512
# A short line of a CSV file, to guess from its size how many events it holds.
_LINE_BYTES = 16


class FrameSource:
    """An event table in memory."""

    as_text = False

    def __init__(self, events: pd.DataFrame, columns: EventColumns) -> None:
        names = list(vars(columns).values())
        if any(name not in events.columns and name in events.index.names for name in names):
            events = events.reset_index()
        columns.check(list(events.columns), "the event table")
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
        import pyarrow as pa

        whole = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}
        with self._open() as file:
            for batch in file.iter_batches(batch_size=PIECE, columns=self._columns):
                # Whole numbers stay whole where some are missing; an index is a column.
                yield batch.to_pandas(types_mapper=whole.get, ignore_metadata=True)


class CsvSource:
    """A CSV file, plain or compressed."""

    as_text = True

    def __init__(self, path: Path, columns: EventColumns) -> None:
        self._path = path
        self._columns = columns
        self.n_batches = 1 + path.stat().st_size // (_LINE_BYTES * PIECE)
        with self._named():
            columns.check(self._header(), str(path))

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Turn what damaged files raise into an error that names the file."""
        try:
            yield
        except DataError:
            raise
        except ImportError as cause:
            raise MissingDependencyError(f"reading {self._path}: {cause}") from cause
        except _UNREADABLE as cause:
            raise DataError(f"{self._path} is not a readable CSV file: {cause}") from cause

    def _header(self) -> list[str]:
        """Read the first line as it stands: pandas renames a column that is there twice."""
        plain: dict[str, Any] = {"dtype": str, "keep_default_na": False, "nrows": 1}
        header = pd.read_csv(self._path, header=None, **plain).iloc[0].tolist()
        if not isinstance(pd.read_csv(self._path, **plain).index, pd.RangeIndex):
            raise DataError(
                f"{self._path}: the first line has {len(header)} names, and the next one more "
                "fields. Which field is which isn't clear; a comma within a field needs quotes."
            )
        return [str(name) for name in header]

    def pieces(self) -> Iterator[pd.DataFrame]:
        names = self._columns
        with self._named():
            # Nothing but an empty field is missing: sodium is called NA, and so may a stay be.
            # Ids and names are text: what pandas guesses may differ from piece to piece. With
            # usecols= it would let lines of too many fields pass.
            reader = pd.read_csv(
                self._path,
                dtype={names.id: str, names.parameter: str},
                keep_default_na=False,
                na_values=[""],
                index_col=False,
                low_memory=False,
                **_EXACT_FLOATS,
                chunksize=PIECE,
            )
            with reader:
                yield from reader


Source = FrameSource | ParquetSource | CsvSource


def open_source(events: Any, columns: EventColumns) -> Source:
    """Choose the reader of an event table by its type or its file's ending."""
    if isinstance(events, pd.DataFrame):
        return FrameSource(events, columns)
    if not isinstance(events, str | os.PathLike):
        raise ParameterError(
            f"events has to be a DataFrame or the path of a file, found {type(events).__name__}. "
            "Put pieces together with pandas.concat, or give the path of the file they are from."
        )
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
