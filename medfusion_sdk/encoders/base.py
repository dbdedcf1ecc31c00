"""What every encoder shares: cells in, cache, missing cells, one float32 block out."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk._parameters import Allowed, OneOf, check_parameters
from medfusion_sdk.embedding_cache import as_cache
from medfusion_sdk.exceptions import BackboneMismatchError, CellError, EncoderWarning
from medfusion_sdk.readers.cells import Column, read_column

__all__ = ["FORMAT_VERSION", "BaseEncoder", "require_fingerprint"]

# Joins every cache key: raise it when an encoder's arithmetic changes, so that old vectors
# are never taken for new ones.
FORMAT_VERSION = 2

_CHANGED = (
    "its file changed while it was encoded. Wait until the file is complete, or copy it to a "
    "place of its own."
)
# What the last call of each encoder met. Kept beside the encoders: transform leaves an encoder as
# it was, and rows of patients don't travel in its pickles.
_last_errors: WeakKeyDictionary[BaseEncoder, pd.DataFrame] = WeakKeyDictionary()


class BaseEncoder(TransformerMixin, BaseEstimator, ABC):
    """Encode one raw column as a float32 block; subclasses say how.

    The data go one way: column -> cells -> digests -> cache or (read -> batch -> network) -> block.
    A subclass has the parameters `missing`, `on_error` and `cache`, and implements

    - ``_configuration()``: what, beside the weights, decides a vector (JSON-able);
    - ``_weights_fingerprint()``: digest of the weights, without loading them;
    - ``_n_features()``: width of the block;
    - ``_item_digest(cell)``: digest of the cell's content; raises :class:`CellError` if it is bad;
    - ``_encode(cells, run)``: yields ``(positions, vectors)`` batch by batch; for a cell that
      turns out to be bad it calls ``run.bad(position, error)`` and leaves that position out.
    """

    missing: str
    on_error: str
    cache: Any

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        "missing": OneOf("nan", "zero", "mean"),
        "on_error": OneOf("raise", "missing"),
    }

    def fit(self, X: Any, y: Any = None) -> BaseEncoder:
        """Check parameters and column; learn the mean embedding where ``missing="mean"``.

        Parameters
        ----------
        X : Series, one-column DataFrame, list or ndarray
            Cells of one modality.
        y : None
            Ignored.

        Returns
        -------
        self
            The encoder itself.
        """
        self._check_parameters()
        self._warn_of_stand_in(stacklevel=4)
        column = self._column(X, reset=True)
        self._fit_column(column)
        if self.missing == "mean":
            block = self._embed(column)
            known = ~np.isnan(block).all(axis=1)
            mean = block[known].mean(axis=0) if known.any() else np.zeros(block.shape[1])
            self.mean_embedding_ = mean.astype(np.float32)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Encode each cell.

        Parameters
        ----------
        X : Series, one-column DataFrame, list or ndarray
            Cells of one modality.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
            One row per cell; missing cells as `missing` says.

        Raises
        ------
        CellError
            For a cell that can't be used, unless ``on_error="missing"``.
        """
        self._check_parameters()
        self._warn_of_stand_in(stacklevel=5)  # scikit-learn wraps transform
        if self.missing == "mean":
            check_is_fitted(self, "mean_embedding_")
        block = self._embed(self._column(X, reset=False))
        absent = np.isnan(block).all(axis=1)
        if self.missing == "zero":
            block[absent] = 0.0
        elif self.missing == "mean":
            block[absent] = self.mean_embedding_
        return block

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the block's columns "0000", "0001", ...

        Parameters
        ----------
        input_features : object, optional
            Ignored; a ColumnTransformer puts the modality's name in front.

        Returns
        -------
        ndarray of str
            Zero-padded so that names sort in order.
        """
        n = self._n_features()
        return np.array([f"{i:0{max(4, len(str(n - 1)))}d}" for i in range(n)], dtype=object)

    @property
    def errors_(self) -> pd.DataFrame:
        """Cells of the last call that could not be used."""
        try:
            return _last_errors[self]
        except KeyError:
            raise AttributeError("errors_ is there once a column has been encoded.") from None

    @errors_.setter
    def errors_(self, errors: pd.DataFrame) -> None:
        _last_errors[self] = errors

    def fingerprint(self) -> str:
        """Digest of everything that decides a vector, the cell's content apart.

        Returns
        -------
        str
            Hexadecimal; equal fingerprints and equal cells give equal vectors.
        """
        declared = {
            "encoder": type(self).__name__,
            "format": FORMAT_VERSION,
            "configuration": self._configuration(),
            "weights": self._weights_fingerprint(),
        }
        text = json.dumps(declared, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()

    # -- what subclasses implement ------------------------------------------------------------

    @abstractmethod
    def _configuration(self) -> dict[str, Any]: ...

    @abstractmethod
    def _weights_fingerprint(self) -> str: ...

    @abstractmethod
    def _n_features(self) -> int: ...

    @abstractmethod
    def _item_digest(self, cell: Any) -> bytes: ...

    @abstractmethod
    def _encode(
        self, cells: Sequence[Any], run: _Run
    ) -> Iterable[tuple[Sequence[int], np.ndarray]]: ...

    def _fit_column(self, column: Column) -> None:
        """Learn from the training column; most encoders are frozen and learn nothing."""

    def _column(self, X: Any, *, reset: bool) -> Column:
        """Read the column; encoders of several columns override this."""
        return read_column(X, name=type(self).__name__)

    # -- shared machinery ---------------------------------------------------------------------

    def _doubted(self) -> str:
        """What the cells have in common that ``run.doubt`` was called for, and what to do."""
        return "look wrong"

    def _check_parameters(self) -> None:
        """Refuse parameters before anything is read; a subclass adds what involves several."""
        check_parameters(self)

    def _warn_of_stand_in(self, stacklevel: int) -> None:
        """Say where the default network has random weights; most encoders have another."""

    def _embed(self, column: Column) -> np.ndarray:
        """Encode a column with missing and bad cells as NaN rows; each distinct item once."""
        self._check_expected_backbone()
        run = _Run(self, column)
        run.collect_items()
        block = np.full((len(column), self._n_features()), np.nan, dtype=np.float32)
        for positions, vector in zip(run.positions, self._vectors(run), strict=True):
            if vector is not None:
                block[positions] = vector
        self.errors_ = run.report()
        return block

    def _vectors(self, run: _Run) -> list[np.ndarray | None]:
        """Vectors of a run's distinct items; encoders that keep more beside them override this."""
        return run.vectors()

    def _check_expected_backbone(self) -> None:
        """Hold a loaded encoder to its fingerprint, if loading found no weights to check."""
        expected = getattr(self, "_expected_fingerprint", None)
        if expected is not None:
            require_fingerprint(self, expected)
            del self._expected_fingerprint

    def __sklearn_is_fitted__(self) -> bool:
        return self.missing != "mean" or hasattr(self, "mean_embedding_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.allow_nan = True
        return tags


def require_fingerprint(encoder: Any, expected: str, place: str = "") -> None:
    """Refuse an encoder that isn't the one that a saved model was trained on.

    Parameters
    ----------
    encoder : encoder
        The encoder as it is on this machine.
    expected : str
        Fingerprint that was saved.
    place : str
        Where in the model it stands, for the message.

    Raises
    ------
    BackboneMismatchError
        If the fingerprints differ.
    """
    found = encoder.fingerprint()
    if found != expected:
        raise BackboneMismatchError(
            f"{place + ': ' if place else ''}{encoder!r} doesn't make the embeddings that the "
            f"saved model was trained on (fingerprint {found[:12]}, saved {expected[:12]}): its "
            "weights, its parameters or this package's version differ. Put the original ones in "
            "place, or train again."
        )


def _names_files(cell: Any) -> bool:
    if isinstance(cell, list | tuple):
        return any(isinstance(part, str | os.PathLike) for part in cell)
    return isinstance(cell, str | os.PathLike)


class _Run:
    """One pass over one column: distinct items, their vectors, and the bad cells met on the way."""

    def __init__(self, encoder: BaseEncoder, column: Column) -> None:
        self.encoder = encoder
        self.column = column
        self.positions: list[list[int]] = []  # rows of each distinct item
        self.digests: list[bytes] = []
        self.errors: dict[int, CellError] = {}  # row position -> error
        self.doubts: dict[int, str] = {}  # row position -> what looks wrong in a usable cell

    def collect_items(self) -> None:
        index: dict[bytes, int] = {}
        for row in self.column.present:
            try:
                digest = self.encoder._item_digest(self.column.cells[row])
            except CellError as error:
                self._bad([row], error)
                continue
            item = index.setdefault(digest, len(index))
            if item == len(self.positions):
                self.positions.append([])
                self.digests.append(digest)
            self.positions[item].append(row)

    def vectors(self) -> list[np.ndarray | None]:
        """One vector per distinct item; None for an item that turned out to be bad."""
        cache = as_cache(self.encoder.cache)
        if not self.digests:
            return []
        if cache is None:
            found: list[np.ndarray | None] = [None] * len(self.digests)
            for items, vectors in self._compute(list(range(len(found)))):
                for item, vector in zip(items, vectors, strict=True):
                    found[item] = vector
            return found
        fingerprint = bytes.fromhex(self.encoder.fingerprint())
        keys = [hashlib.blake2b(d + fingerprint, digest_size=32).digest() for d in self.digests]
        return cache.get_or_compute(keys, self._compute)

    def _compute(self, items: list[int]) -> Iterator[tuple[list[int], np.ndarray]]:
        cells = [self.column.cells[self.positions[item][0]] for item in items]
        self._items = items
        for batch, vectors in self.encoder._encode(cells, self):
            sound = np.isfinite(vectors).all(axis=tuple(range(1, vectors.ndim)))
            # A row of NaN would pass for a missing cell.
            for position in np.flatnonzero(~sound).tolist():
                self.bad(batch[position], CellError(self._overflow()))
            for position in np.flatnonzero(sound).tolist():
                item = items[batch[position]]
                if not self._is_unchanged(item, cells[batch[position]]):
                    sound[position] = False
                    self.bad(batch[position], CellError(_CHANGED))
            kept = [items[i] for i, good in zip(batch, sound, strict=True) if good]
            yield kept, vectors[sound]

    def _is_unchanged(self, item: int, cell: Any) -> bool:
        """Tell whether a file that was digested and then decoded holds the same to this moment.

        Where no other row and no later call gets the vector, it is right whatever was read.
        """
        shared = as_cache(self.encoder.cache) is not None or len(self.positions[item]) > 1
        if not shared or not _names_files(cell):
            return True
        return self.encoder._item_digest(cell) == self.digests[item]

    def _overflow(self) -> str:
        dtype = getattr(self.encoder, "dtype", None)
        return "the model's output isn't finite" + (f" with dtype={dtype!r}." if dtype else ".")

    def bad(self, position: int, error: CellError) -> None:
        """Called by an encoder for the cell at `position` of the cells it was handed."""
        self._bad(self.positions[self._items[position]], error)

    def doubt(self, position: int, what: str) -> None:
        """Called by an encoder for a cell that it used and that looks wrong."""
        for row in self.positions[self._items[position]]:
            self.doubts[row] = what

    def _bad(self, rows: list[int], error: CellError) -> None:
        for row in rows:
            located = error.located(self.column.rows[row], self.column.name)
            if self.encoder.on_error == "raise":
                raise located from error
            self.errors[row] = located

    def report(self) -> pd.DataFrame:
        if self.doubts:
            five = sorted(self.doubts)[:5]
            shown = ", ".join(f"row {self.column.rows[row]!r}: {self.doubts[row]}" for row in five)
            warnings.warn(
                f"column {self.column.name!r}: {len(self.doubts)} of {len(self.column)} cells "
                f"{self.encoder._doubted()}: {shown}{', ...' if len(self.doubts) > 5 else ''}.",
                EncoderWarning,
                stacklevel=5,
            )
        if self.errors:
            first = min(self.errors)
            warnings.warn(
                f"{len(self.errors)} of {len(self.column)} cells could not be used and count as "
                f"missing; see errors_. First: {self.errors[first]}",
                EncoderWarning,
                stacklevel=5,
            )
        rows = sorted(self.errors)
        return pd.DataFrame(
            {
                "column": [self.column.name] * len(rows),
                "error": [type(self.errors[row]).__name__ for row in rows],
                "message": [self.errors[row].message for row in rows],
            },
            index=pd.Index([self.column.rows[row] for row in rows], name="row"),
        )
