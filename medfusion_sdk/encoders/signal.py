"""Signals -> embeddings: ECGs and any other recordings of one or more channels."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from medfusion_sdk._parameters import (
    FLAG,
    NONE,
    Allowed,
    InstanceOf,
    ListOf,
    Number,
    OneOf,
    Whole,
)
from medfusion_sdk.encoders._signal_networks import SignalNetwork, learn_biases, signal_network
from medfusion_sdk.encoders._signal_view import is_matrix
from medfusion_sdk.encoders.base import BaseEncoder, _Run
from medfusion_sdk.exceptions import CellError, SignalError
from medfusion_sdk.readers.beats import RHYTHM
from medfusion_sdk.readers.cells import Column, read_column
from medfusion_sdk.readers.signal import signal_digest

__all__ = ["SignalEncoder"]

# Signals that biases are learned from at most; a bias needs no more than one of them.
FIT_SAMPLE = 256

# Kept beside the encoders, as the base does with errors_: transform leaves an encoder as it was.
_last_unaligned: WeakKeyDictionary[BaseEncoder, list[Any]] = WeakKeyDictionary()


class SignalEncoder(BaseEncoder):
    """Encode signals by a frozen network; for ECGs as a whole or as the median heart beat.

    A cell is the path of a WFDB record or a ``.npy`` file, or an array ``(channels, time)``. A
    matrix of numbers is taken as one signal of one channel per row.

    Parameters
    ----------
    backbone : {"minirocket", "st-mem", "standin-conv"}, default="minirocket"
        ``minirocket`` has fixed convolutional kernels [1]_ and biases from generated signals, so
        it depends on no data. ``st-mem`` is a transformer trained on ECGs [2]_, of which you have
        the weights. ``standin-conv`` is a tiny random network for tests.
    weights : str or path, optional
        Checkpoint of ``st-mem`` as its authors publish it.
    view : {"full", "beats"}, default="full"
        What the network sees: the whole signal, or for ECGs the median beat around the R peaks
        (0.4 s before to 0.6 s after). With beats, the last four features are the number of beats
        in the median, the median RR interval, its standard deviation and the root mean square of
        successive differences, in seconds.
    fs : float, "auto" or None, default="auto"
        Samples per second that signals are resampled to; None leaves them as they are. "auto" is
        the 250 that ``st-mem`` was trained on, and 100 for the others.
    duration : float or None, default=None
        Seconds: longer signals keep their beginning, shorter ones are followed by zeros. By
        default all signals must have the same length for ``view="full"``.
    leads : sequence of str or int, optional
        Channels to use, by name (records) or position; by default all of them. ``st-mem`` takes
        the twelve standard leads or some of them, and arrays that hold these in their order.
    source_fs : float, optional
        Samples per second of arrays and ``.npy`` files; by default they are taken to be at `fs`.
        With ``view="beats"``, and ``st-mem``, a warning names the rows whose beats are then
        slower than 20 or faster than 300 a minute.
    max_gap : float, default=0.0
        Seconds: longest run of NaN that is filled by a straight line.
    n_features : int, default=2016
        Features of ``minirocket``, rounded down to a multiple of 84; more of them scored no
        better on PTB-XL.
    fit_biases : bool, default=False
        Let ``minirocket`` take its biases from the signals that it is fitted on. The embedding
        then depends on them, and a cache serves one fit only.
    random_state : int, default=0
        Seed of channel combinations and biases, or of the stand-in's weights.
    missing : {"nan", "zero", "mean"}, default="nan"
        What a missing cell becomes.
    on_error : {"raise", "missing"}, default="raise"
        What happens to a cell that can't be used.
    device : str, default="auto"
        Torch device.
    batch_size : int or "auto", default="auto"
        Signals at once; doesn't change the results.
    cache : EmbeddingCache, path or None, default=None
        Where embeddings are kept.

    Attributes
    ----------
    signal_shape_ : tuple of int
        Channels and samples that the network sees; every later signal must have them.
    biases_ : ndarray of shape (n_features,)
        Learned biases, with ``fit_biases=True``.
    errors_ : DataFrame
        Cells of the last call that couldn't be used.
    unaligned_ : list
        Rows of the last call, by index label, in which no R peak was found: there the middle of
        the signal took the median beat's place and the four rhythm features are 0.

    References
    ----------
    .. [1] Dempster, Schmidt, Webb, "MiniRocket: A Very Fast (Almost) Deterministic Transform for
       Time Series Classification", KDD 2021.
    .. [2] Na, Park, Tae, Joo, "Guiding Masked Representation Learning to Capture Spatio-Temporal
       Relationship of Electrocardiogram", ICLR 2024.

    Examples
    --------
    >>> from medfusion_sdk.datasets import load_ptbxl
    >>> ecgs = load_ptbxl().data["ecg"].head(3)
    >>> SignalEncoder(view="beats", n_features=840).fit_transform(ecgs).shape
    (3, 844)
    """

    def __init__(
        self,
        backbone: str = "minirocket",
        *,
        weights: str | PathLike[str] | None = None,
        view: str = "full",
        fs: float | str | None = "auto",
        duration: float | None = None,
        leads: Sequence[str | int] | None = None,
        source_fs: float | None = None,
        max_gap: float = 0.0,
        n_features: int = 2016,
        fit_biases: bool = False,
        random_state: int = 0,
        missing: str = "nan",
        on_error: str = "raise",
        device: str = "auto",
        batch_size: int | str = "auto",
        cache: Any = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.view = view
        self.fs = fs
        self.duration = duration
        self.leads = leads
        self.source_fs = source_fs
        self.max_gap = max_gap
        self.n_features = n_features
        self.fit_biases = fit_biases
        self.random_state = random_state
        self.missing = missing
        self.on_error = on_error
        self.device = device
        self.batch_size = batch_size
        self.cache = cache

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **BaseEncoder._allowed,
        "backbone": OneOf("minirocket", "st-mem", "standin-conv"),
        "weights": InstanceOf(str, PathLike) | NONE,
        "view": OneOf("full", "beats"),
        "fs": Number(above=0) | OneOf("auto", None),
        "duration": Number(above=0) | NONE,
        "leads": ListOf(Whole() | InstanceOf(str)) | NONE,
        "source_fs": Number(above=0) | NONE,
        "max_gap": Number(least=0),
        "n_features": Whole(least=84),
        "fit_biases": FLAG,
        "random_state": Whole(least=0),
        "batch_size": Whole(least=1) | OneOf("auto"),
    }

    # -- the column ---------------------------------------------------------------------------

    def _column(self, X: Any, *, reset: bool) -> Column:
        if hasattr(X, "__array__") and not isinstance(X, pd.DataFrame | pd.Series):
            X = np.asarray(X)
        if is_matrix(X):
            values = validate_data(self, X, reset=reset, ensure_all_finite="allow-nan")
            cells = [None if pd.isna(row).all() else row for row in values]
            rows = X.index if isinstance(X, pd.DataFrame) else range(len(cells))
            return Column(cells, rows, type(self).__name__)
        if isinstance(X, pd.DataFrame) and X.shape[1] == 1:
            validate_data(self, X, reset=reset, skip_check_array=True)
        return read_column(X, name=type(self).__name__)

    def _fit_column(self, column: Column) -> None:
        for learned in ("signal_shape_", "biases_"):
            if hasattr(self, learned):
                delattr(self, learned)
        shape = self._first_shape(column)
        if shape is not None:
            self.signal_shape_ = shape
        if self.fit_biases:
            self.biases_ = self._learn_biases(column)

    def _embed(self, column: Column) -> np.ndarray:
        # A signal's place in the cache depends on the shape that was asked for. Without a fit
        # the first signal of the column says it, as it does in a fit.
        if self.fit_biases:
            check_is_fitted(self, "biases_")
        bound = copy.copy(self)
        bound._original = self
        if not hasattr(self, "signal_shape_"):
            shape = self._first_shape(column)
            if shape is not None:
                bound.signal_shape_ = shape
        block = super(SignalEncoder, bound)._embed(column)
        self.errors_ = bound.errors_
        if self.view == "beats":
            unaligned = np.flatnonzero(block[:, -len(RHYTHM)] == 0).tolist()
            _last_unaligned[self] = [column.rows[row] for row in unaligned]
        return block

    def _first_shape(self, column: Column) -> tuple[int, int] | None:
        view = self._network().view()
        return next((view.shape(signal) for signal in self._signals(column, column.present)), None)

    def _learn_biases(self, column: Column) -> np.ndarray:
        rng = np.random.default_rng(self.random_state)
        rows = rng.permutation(column.present)[:FIT_SAMPLE].tolist()
        view = self._network().view()
        seen = [view.look(signal)[0] for signal in self._signals(column, rows)]
        if not seen:
            raise SignalError("fit_biases=True needs at least one signal to learn from.")
        return learn_biases(np.stack(seen), self.n_features, self.random_state)

    def _signals(self, column: Column, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """Read signals outside of a run, which would report the bad ones."""
        view = self._network().view()
        for row in rows:
            try:
                yield view.read(column.cells[row])
            except CellError as error:
                if self.on_error == "raise":
                    raise error.located(column.rows[row], column.name) from error

    # -- what the backbone sees ---------------------------------------------------------------

    def view_signals(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return what the backbone sees of signals: cut or aligned, and standardised.

        ``st-mem`` cuts and standardises for itself; here it sees the recording at 250 Hz.

        Parameters
        ----------
        X : Series, DataFrame of one column, or array
            Signals, none of them missing.

        Returns
        -------
        views : ndarray of shape (n_samples, channels, samples)
            With ``view="beats"`` the median beat, 0.4 s before to 0.6 s after its R peak.
        beside : ndarray of shape (n_samples, n)
            Numbers that go beside the backbone's features: the rhythm, for beats.

        Raises
        ------
        SignalError
            For a signal that is missing or can't be read.
        """
        column = self._column(X, reset=False)
        view, looks = self._network().view(), []
        for cell, row in zip(column.cells, column.rows, strict=True):
            try:
                looks.append(view.look(view.read(cell)))
            except CellError as error:
                raise error.located(row, column.name) from error
        views, beside = zip(*looks, strict=True)
        return np.stack(views), np.stack(beside)

    def embed_views(self, views: np.ndarray, beside: np.ndarray) -> np.ndarray:
        """Embed what :meth:`view_signals` returned, or a changed form of it.

        Parameters
        ----------
        views : ndarray of shape (n_samples, channels, samples)
            Signals.
        beside : ndarray of shape (n_samples, n)
            Numbers that go beside the features.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
            As :meth:`transform` would.
        """
        embedder = self._network().embedder(views.shape[1:])
        size = embedder.rows_at_once
        parts = [
            embedder.embed(views[start : start + size]) for start in range(0, len(views), size)
        ]
        return np.hstack([np.concatenate(parts), beside])

    # -- one cell, one batch ------------------------------------------------------------------

    def _network(self) -> SignalNetwork:
        return signal_network(self)

    def _item_digest(self, cell: Any) -> bytes:
        return signal_digest(cell)

    def _encode(self, cells: Sequence[Any], run: _Run) -> Iterator[tuple[list[int], np.ndarray]]:
        shape = getattr(self, "signal_shape_", None)
        if shape is None:
            # No cell could be read; reading each once more tells the run why.
            list(self._batches(cells, run, size=1))
            return
        embedder = self._network().embedder(shape)
        size = embedder.rows_at_once if self.batch_size == "auto" else int(self.batch_size)
        for positions, seen, beside in self._batches(cells, run, size):
            yield positions, np.hstack([embedder.embed(seen), beside])

    def _batches(
        self, cells: Sequence[Any], run: _Run, size: int
    ) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        view = self._network().view()
        positions: list[int] = []
        looks: list[tuple[np.ndarray, np.ndarray]] = []
        for position, cell in enumerate(cells):
            try:
                signal = view.read(cell)
                peaks = view.peaks(signal)
                looks.append(view.look(signal, peaks))
                positions.append(position)
                doubt = view.doubt(cell, signal, peaks)
                if doubt is not None:
                    run.doubt(position, doubt)
            except CellError as error:
                run.bad(position, error)
            if looks and (len(looks) == size or position == len(cells) - 1):
                seen, beside = zip(*looks, strict=True)
                yield positions, np.stack(seen), np.stack(beside)
                positions, looks = [], []

    def _doubted(self) -> str:
        return (
            f"have no heart's beats at {self.sampling_rate:g} Hz, which arrays are taken to have; "
            "if they were recorded at another rate, say so by source_fs=..."
        )

    # -- what decides a vector ----------------------------------------------------------------

    def _configuration(self) -> dict[str, Any]:
        shape = getattr(self, "signal_shape_", None)
        return {**self._network().configuration(), "shape": shape}

    def _weights_fingerprint(self) -> str:
        return self._network().fingerprint()

    def _n_features(self) -> int:
        return self._network().n_features

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._network().check()

    # -- scikit-learn's side ------------------------------------------------------------------

    @property
    def sampling_rate(self) -> float | None:
        """Samples per second of what the backbone sees; None for those of the signals."""
        return self._network().fs

    @property
    def _borrower(self) -> BaseEncoder:
        # A network is lent to the encoder that the user has, not to its copy of one call.
        return vars(self).get("_original", self)

    @property
    def unaligned_(self) -> list[Any]:
        """Rows of the last call in which no R peak was found."""
        try:
            return _last_unaligned[self]
        except KeyError:
            raise AttributeError("unaligned_ is there once beats have been encoded.") from None

    def __sklearn_is_fitted__(self) -> bool:
        learned = not self.fit_biases or hasattr(self, "biases_")
        return learned and super().__sklearn_is_fitted__()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        # A missing cell is legal, a missing sample is not.
        tags.input_tags.allow_nan = False
        tags.requires_fit = self.fit_biases
        tags.transformer_tags.preserves_dtype = []
        return tags
