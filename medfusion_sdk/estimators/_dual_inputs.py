"""From a table's signal and text column to what the dual adapter's network reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from medfusion_sdk.backbones.text_source import find_text_source
from medfusion_sdk.encoders._token_states import TokenStateEncoder
from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.estimators._roles import Roles
from medfusion_sdk.estimators._rows import refuse_infinity
from medfusion_sdk.exceptions import CellError, ModalityError, ParameterError, SignalError
from medfusion_sdk.readers.cells import Column, read_column
from medfusion_sdk.readers.signal import read_signal
from medfusion_sdk.tables import shown_rows

__all__ = [
    "SignalReader",
    "as_series",
    "default_signal_encoder",
    "require_primary",
    "same_reading",
    "text_encoders",
]


def default_signal_encoder(fs: float | None, duration: float | None, cache: Any) -> SignalEncoder:
    """Make the frozen series encoder of small training sets.

    Parameters
    ----------
    fs : float or None
        Samples per second.
    duration : float or None
        Seconds.
    cache : EmbeddingCache, path or None
        Where its embeddings are kept.

    Returns
    -------
    SignalEncoder
        MiniRocket on the median beat, or on the whole signal where no rate is known.
    """
    if fs is None:
        return SignalEncoder(fs=None, duration=duration, cache=cache)
    return SignalEncoder(view="beats", fs=fs, duration=duration, cache=cache)


class SignalReader:
    """Read the signals of a table.

    Parameters
    ----------
    roles : Roles
        Where they are.
    signal_shape : tuple of int or None
        Channels and samples of a flattened signal; None where a block is an embedding already.
    fs, duration : float or None
        As in :class:`SignalEncoder`.
    """

    def __init__(
        self,
        roles: Roles,
        *,
        signal_shape: tuple[int, int] | None,
        fs: float | None,
        duration: float | None,
    ) -> None:
        self.roles = roles
        self.signal_shape = signal_shape
        self.fs = fs
        self.duration = duration

    @property
    def is_embedding(self) -> bool:
        """Whether the table holds embeddings of the signals instead of these."""
        return self.roles.block is not None and self.signal_shape is None

    def embeddings(self, X: Any) -> np.ndarray:
        """Take the block as it is.

        Parameters
        ----------
        X : DataFrame or ndarray
            The table.

        Returns
        -------
        ndarray of shape (n, F)
            NaN where missing.

        Raises
        ------
        CellError
            If a value is infinite.
        """
        block = X[self.roles.block] if isinstance(X, pd.DataFrame) else X
        values = np.asarray(block, dtype=np.float64)
        refuse_infinity(values, block)
        return values

    def column(self, X: Any) -> Column:
        """Make one cell per row of the signals.

        Parameters
        ----------
        X : DataFrame or ndarray
            The table.

        Returns
        -------
        Column
            Paths or arrays; None where missing.
        """
        if self.roles.block is None:
            return read_column(X[self.roles.signal])
        values = self.embeddings(X)
        shape = self.signal_shape
        if shape is None or len(shape) != 2 or shape[0] * shape[1] != values.shape[1]:
            raise ParameterError(
                f"signal_shape={shape}: the signal has {values.shape[1]} columns, which must be "
                "channels times samples, channel after channel."
            )
        cells = [None if np.isnan(row).all() else row.reshape(shape) for row in values]
        rows = X.index if isinstance(X, pd.DataFrame) else range(len(values))
        return Column(cells, rows, "signal")

    def first_shape(self, X: Any) -> tuple[int, ...]:
        """Read the first signal for its shape.

        Parameters
        ----------
        X : DataFrame or ndarray
            The table.

        Returns
        -------
        tuple of int
            Channels and samples.
        """
        first = self.column(X).present[:1]
        return self.signals(X.iloc[first] if isinstance(X, pd.DataFrame) else X[first], None)[
            0
        ].shape[1:]

    def signals(self, X: Any, shape: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
        """Read every signal.

        Parameters
        ----------
        X : DataFrame or ndarray
            The table.
        shape : tuple of int or None
            Channels and samples that each must have; None takes the first one's.

        Returns
        -------
        signals : ndarray of shape (n, V, T), float32
            Zero where missing.
        present : ndarray of shape (n,), bool
            Where there is one.

        Raises
        ------
        SignalError
            For a cell that can't be read, or is of another shape.
        """
        column = self.column(X)
        read: dict[int, np.ndarray] = {}
        for i in column.present:
            try:
                signal = read_signal(column.cells[i], fs=self.fs, duration=self.duration)
                if shape is not None and signal.shape != shape:
                    raise SignalError(
                        f"expected {shape[0]} channels of {shape[1]} samples, found "
                        f"{signal.shape[0]} of {signal.shape[1]}. Set duration= to bring signals "
                        "to one length."
                    )
            except CellError as error:
                raise error.located(column.rows[i], column.name) from error
            shape = signal.shape
            read[i] = signal
        if shape is None:
            raise ModalityError("no row has a signal: nothing can be learnt about it.")
        signals = np.zeros((len(column), *shape), dtype=np.float32)
        for i, signal in read.items():
            signals[i] = signal
        present = np.zeros(len(column), dtype=bool)
        present[list(read)] = True
        return signals, present


def text_encoders(
    estimator: Any, n_layers: int, dtype: str
) -> tuple[TokenStateEncoder, TextEncoder]:
    """Make what reads the texts, from an estimator's parameters.

    Parameters
    ----------
    estimator : estimator
        With the parameters of the dual adapter.
    n_layers : int
        Frozen layers below the first adapted one.
    dtype : {"float32", "float64"}
        Of the states.

    Returns
    -------
    states : TokenStateEncoder
        Makes the token states of the textual-primary path.
    vector : TextEncoder
        Makes the vector that the temporal-primary path is given.
    """
    where: dict[str, Any] = {
        name: getattr(estimator, name)
        for name in ("backbone", "revision", "allow_download", "device", "cache")
    }
    source = find_text_source(
        where["backbone"], revision=where["revision"], allow_download=where["allow_download"]
    )
    where["max_length"] = min(int(estimator.max_text_tokens), source.window)
    where["long"] = estimator.long_text
    states = TokenStateEncoder(n_layers=n_layers, dtype=dtype, **where)
    if estimator.secondary_text_encoder is not None:
        return states, clone(estimator.secondary_text_encoder)
    # In bfloat16 a row's vector would depend on the rows beside it.
    return states, TextEncoder(pooling=source.pooling or "mean", dtype="float32", **where)


def same_reading(states: TokenStateEncoder, vector: Any) -> bool:
    """Tell whether what both encoders read of a text is the same part of it.

    Parameters
    ----------
    states : TokenStateEncoder
        Reads the token states.
    vector : transformer
        Makes the vector.

    Returns
    -------
    bool
        True for the vector encoder that :func:`text_encoders` makes.
    """
    names = ("backbone", "revision", "max_length", "long")
    return isinstance(vector, TextEncoder) and all(
        getattr(states, name) == getattr(vector, name) for name in names
    )


def require_primary(mode: str, has_signal: np.ndarray, has_text: np.ndarray, rows: Any) -> None:
    """Refuse rows that no path can start from.

    Parameters
    ----------
    mode : {"dual", "ts_primary", "text_primary"}
        Which paths there are.
    has_signal, has_text : ndarray of shape (n,), bool
        What each row has.
    rows : sequence
        Labels of the rows.

    Raises
    ------
    ModalityError
        Naming the first five of them.
    """
    usable = {"dual": has_signal | has_text, "ts_primary": has_signal, "text_primary": has_text}
    lacking = np.flatnonzero(~usable[mode])
    if lacking.size:
        what = {"dual": "neither signal nor text", "ts_primary": "no signal"}.get(mode, "no text")
        raise ModalityError(
            f"{lacking.size} row(s) have {what}: {shown_rows(rows, lacking)}. Drop them; "
            f"with mode={mode!r} there is nothing to learn or to predict from."
        )


def as_series(column: Column) -> pd.Series:
    """Make a Series of a column, for a transformer.

    Parameters
    ----------
    column : Column
        Cells.

    Returns
    -------
    Series
        The same cells, under the same labels.
    """
    index = pd.Index(column.rows)
    return pd.Series(column.cells, index=index, name=column.name, dtype=object)
