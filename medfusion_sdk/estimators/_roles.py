"""Which column is the signal and which the text: found where there is one choice."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import ModalityError, ModalityWarning
from medfusion_sdk.readers.cells import is_missing

__all__ = ["Roles", "find_roles"]

_SIGNAL_FILES = (".hea", ".dat", ".npy")


@dataclass(frozen=True)
class Roles:
    """Columns of the two modalities.

    Attributes
    ----------
    signal : object or None
        Name of the column of signals; None where there is none, or a block.
    block : list or None
        Names (or positions) of the numeric columns that hold a flattened signal.
    text : object or None
        Name of the column of texts.
    """

    signal: Any = None
    block: list[Any] | None = None
    text: Any = None


def find_roles(X: Any, *, signal: Any, text: Any) -> Roles:
    """Find the signal and the text column of a table.

    Parameters
    ----------
    X : DataFrame or ndarray
        Cohort table, or numbers.
    signal : "auto", str, list of str or None
        As the user set it: a column of signals, a prefix or a list of numeric columns, or None
        for none.
    text : "auto", str or None
        As the user set it.

    Returns
    -------
    Roles
        At least one of them.

    Raises
    ------
    ModalityError
        If a named column isn't there, or the choice isn't unique; the message names the parameter
        that settles it.

    Warns
    -----
    ModalityWarning
        If both are found and columns that hold something else are left unread.
    """
    if not isinstance(X, pd.DataFrame):
        return Roles(block=list(range(X.shape[1])))
    kinds = {name: _kind(X.iloc[:, i]) for i, name in enumerate(X.columns)}
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    chosen_text = _one(kinds, "text", text)
    found_block = _block(list(X.columns), numbers, signal)
    chosen_signal = None if found_block is not None else _one(kinds, "signal", signal)
    if chosen_signal is None and found_block is None and signal == "auto":
        # A table of numbers alone is one flattened signal; beside a text they say what they are
        # only where the user does.
        found_block = numbers if numbers and len(numbers) == len(kinds) else None
    if chosen_signal is None and found_block is None and chosen_text is None:
        raise ModalityError(
            f"found neither a signal nor a text among the columns {_shown(kinds)}. Signals are "
            "arrays or paths of .hea and .npy files, texts are strings; name them with signal= "
            "and text=."
        )
    read = {chosen_signal, chosen_text, *(found_block or [])}
    unread = [name for name in kinds if name not in read]
    if unread and all(isinstance(role, str) and role == "auto" for role in (signal, text)):
        warnings.warn(
            f"the columns {_shown(unread)} are not read: this method learns from one signal and "
            "one text. Select the two columns to say that this is meant.",
            ModalityWarning,
            stacklevel=5,
        )
    return Roles(chosen_signal, found_block, chosen_text)


def _one(kinds: dict[Any, str], role: str, given: Any) -> Any:
    if given is None:
        return None
    if not isinstance(given, str) or given != "auto":
        if given not in kinds:
            raise ModalityError(
                f"{role}={given!r}: there is no such column; the table has {_shown(kinds)}."
            )
        return given
    candidates = [name for name, kind in kinds.items() if kind == role]
    if len(candidates) > 1:
        raise ModalityError(
            f"{len(candidates)} columns could be the {role}: {_shown(candidates)}. Name one with "
            f"{role}=, for example {role}={candidates[0]!r}."
        )
    return candidates[0] if candidates else None


def _block(names: list[Any], numbers: list[Any], signal: Any) -> list[Any] | None:
    """Numeric columns that the user named as the signal: a list of them, or their prefix."""
    if isinstance(signal, list | tuple):
        unknown = [name for name in signal if name not in names]
        if unknown:
            raise ModalityError(f"signal names columns that the table lacks: {_shown(unknown)}.")
        return list(signal)
    if not isinstance(signal, str) or signal == "auto" or signal in names:
        return None
    block = [name for name in numbers if str(name).startswith(f"{signal}__")]
    return block or None


def _kind(column: pd.Series) -> str:
    """What a column holds, by its first cell that isn't missing."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "number"
    cell = next((cell for cell in column if not is_missing(cell)), None)
    if cell is None:
        return "empty"
    if isinstance(cell, os.PathLike):
        return "signal"
    if isinstance(cell, str):
        return "signal" if _names_a_signal(cell) else "text"
    if isinstance(cell, np.ndarray | list | tuple) or hasattr(cell, "__array__"):
        return "signal" if np.ndim(cell) else "number"
    return "number" if isinstance(cell, int | float | np.number) else "other"


def _names_a_signal(text: str) -> bool:
    if len(text) > 1000 or "\n" in text:
        return False
    path = Path(text)
    if path.suffix.lower() in _SIGNAL_FILES:
        return True
    # A WFDB record is often named without its extension.
    return " " not in path.name and path.with_name(path.name + ".hea").is_file()


def _shown(names: Any) -> str:
    listed = [str(name) for name in names]
    return str(listed if len(listed) <= 8 else [*listed[:8], f"... ({len(listed)} in all)"])
