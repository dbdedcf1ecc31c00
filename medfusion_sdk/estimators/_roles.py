"""Which column is the signal or the volume, and which the text: found where there is one choice."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import ModalityError, ModalityWarning
from medfusion_sdk.readers.cells import is_missing, plain_cell, read_column
from medfusion_sdk.readers.files import is_file
from medfusion_sdk.readers.paths import refuse_paths
from medfusion_sdk.readers.volume import VOLUME_FILES

__all__ = ["Roles", "VolumeRoles", "find_roles", "find_volume_roles", "names_a_signal"]

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
    kinds = _kinds(X, names_a_signal, axes=1)
    chosen_text = _one(kinds, "text", "text", text)
    _refuse_paths(X, chosen_text)
    found_block = _block(kinds, "signal", signal)
    chosen_signal = None if found_block is not None else _one(kinds, "item", "signal", signal)
    if chosen_signal is None and found_block is None and signal == "auto":
        found_block = _all_numbers(kinds)
    if chosen_signal is None and found_block is None and chosen_text is None:
        raise ModalityError(
            f"found neither a signal nor a text among the columns {_shown(kinds)}. Signals are "
            "arrays or paths of .hea and .npy files, texts are strings; name them with signal= "
            "and text=."
        )
    if _is_auto(signal) and _is_auto(text):
        read = {chosen_signal, chosen_text, *(found_block or [])}
        _tell_unread(kinds, read, "one signal and one text")
    return Roles(chosen_signal, found_block, chosen_text)


@dataclass(frozen=True)
class VolumeRoles:
    """Columns of volumes and reports; all None for a modality that the table lacks.

    Attributes
    ----------
    volume : object or None
        Name of the column of volumes.
    volume_block : list or None
        Names (or positions) of the numeric columns that hold a flattened volume.
    report : object or None
        Name of the column of texts.
    report_block : list or None
        Names (or positions) of the numeric columns that hold a vector of the report.
    """

    volume: Any = None
    volume_block: list[Any] | None = None
    report: Any = None
    report_block: list[Any] | None = None

    def has(self, modality: str) -> bool:
        """Tell whether the table has a modality.

        Parameters
        ----------
        modality : {"image", "text"}
            Which.

        Returns
        -------
        bool
            True where a column or a block was found.
        """
        found = {
            "image": (self.volume, self.volume_block),
            "text": (self.report, self.report_block),
        }[modality]
        return any(place is not None for place in found)


def find_volume_roles(
    X: Any, *, volume: Any, report: Any, volume_shape: Sequence[int] | None, others: Sequence[Any]
) -> VolumeRoles:
    """Find the column of volumes and that of reports.

    Parameters
    ----------
    X : DataFrame or ndarray
        Cohort table, or numbers.
    volume, report : "auto", str, list of str or None
        As the user set it: a column, a prefix or a list of numeric columns, or None for none.
    volume_shape : sequence of int or None
        Where it is given, numbers alone are flattened volumes, else vectors of reports.
    others : sequence
        Further columns that are read.

    Returns
    -------
    VolumeRoles
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
        return VolumeRoles(**{_numbers_are(volume_shape): list(range(X.shape[1]))})
    kinds = {k: v for k, v in _kinds(X, _names_a_volume, axes=3).items() if k not in others}
    blocks = {"volume": _block(kinds, "volume", volume), "report": _block(kinds, "report", report)}
    found = VolumeRoles(
        None if blocks["volume"] is not None else _one(kinds, "item", "volume", volume),
        blocks["volume"],
        None if blocks["report"] is not None else _one(kinds, "text", "report", report),
        blocks["report"],
    )
    _refuse_paths(X, found.report)
    if not found.has("image") and not found.has("text"):
        numbers = _all_numbers(kinds)
        given = volume if volume_shape is not None else report
        if numbers is None or not _is_auto(given):
            raise ModalityError(
                f"found neither a volume nor a report among the columns {_shown(kinds)}. Volumes "
                "are arrays of three axes or paths of .nii, .nii.gz and .npy files, reports are "
                "strings; name them with volume= and report=."
            )
        found = VolumeRoles(**{_numbers_are(volume_shape): numbers})
    if _is_auto(volume) and _is_auto(report):
        named = {found.volume, found.report}
        read = {*named, *(found.volume_block or []), *(found.report_block or [])}
        _tell_unread(kinds, read, "one volume and one report")
    return found


def _refuse_paths(X: pd.DataFrame, name: Any) -> None:
    """Refuse a column chosen for texts that names files."""
    if name is not None:
        cells = read_column(X[name])
        refuse_paths(cells.cells, cells.rows, name)


def _numbers_are(volume_shape: Sequence[int] | None) -> str:
    return "report_block" if volume_shape is None else "volume_block"


def _is_auto(given: Any) -> bool:
    return isinstance(given, str) and given == "auto"


def _tell_unread(kinds: dict[Any, str], read: set[Any], learns_from: str) -> None:
    unread = [name for name in kinds if name not in read]
    if unread:
        warnings.warn(
            f"the columns {_shown(unread)} are not read: this method learns from {learns_from}. "
            "Select the two columns to say that this is meant.",
            ModalityWarning,
            stacklevel=6,
        )


def _one(kinds: dict[Any, str], kind: str, role: str, given: Any) -> Any:
    """The column that the user named for a role, or the only one of a kind."""
    if given is None:
        return None
    if not _is_auto(given):
        if given not in kinds:
            raise ModalityError(
                f"{role}={given!r}: there is no such column; the table has {_shown(kinds)}."
            )
        return given
    candidates = [name for name, found in kinds.items() if found == kind]
    if len(candidates) > 1:
        raise ModalityError(
            f"{len(candidates)} columns could be the {role}: {_shown(candidates)}. Name one with "
            f"{role}=, for example {role}={candidates[0]!r}."
        )
    return candidates[0] if candidates else None


def _block(kinds: dict[Any, str], role: str, given: Any) -> list[Any] | None:
    """Numeric columns that the user named for a role: a list of them, or their prefix."""
    if isinstance(given, list | tuple):
        unknown = [name for name in given if name not in kinds]
        if unknown:
            raise ModalityError(f"{role} names columns that the table lacks: {_shown(unknown)}.")
        return list(given)
    if not isinstance(given, str) or given == "auto" or given in kinds:
        return None
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    return [name for name in numbers if str(name).startswith(f"{given}__")] or None


def _all_numbers(kinds: dict[Any, str]) -> list[Any] | None:
    """All columns, if they are numbers: beside a text they say what they are only where the user
    does."""
    return list(kinds) if kinds and set(kinds.values()) == {"number"} else None


def _kinds(X: pd.DataFrame, names_a_file: Callable[[str], bool], *, axes: int) -> dict[Any, str]:
    """What each column holds: items are files and arrays of so many axes at least."""
    return {name: _kind(X.iloc[:, i], names_a_file, axes) for i, name in enumerate(X.columns)}


def _kind(column: pd.Series, names_a_file: Callable[[str], bool], axes: int) -> str:
    """What a column holds, by its first cell that isn't missing."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "number"
    cell = plain_cell(next((cell for cell in column if not is_missing(cell)), None))
    if cell is None:
        return "empty"
    if isinstance(cell, os.PathLike):
        return "item"
    if isinstance(cell, str):
        return "item" if names_a_file(cell) else "text"
    if isinstance(cell, np.ndarray | list | tuple) or hasattr(cell, "__array__"):
        if np.ndim(cell) >= axes:
            return "item"
        return "other" if np.ndim(cell) else "number"
    return "number" if isinstance(cell, int | float | np.number) else "other"


def _names_a_volume(text: str) -> bool:
    return text.lower().endswith((*VOLUME_FILES, ".npy"))


def names_a_signal(text: str) -> bool:
    """Tell the path of a signal from a text.

    Parameters
    ----------
    text : str
        A cell.

    Returns
    -------
    bool
        True for a path of a WFDB record or a ``.npy`` file.
    """
    if len(text) > 1000 or "\n" in text:
        return False
    path = Path(text)
    if path.suffix.lower() in _SIGNAL_FILES:
        return True
    # A WFDB record is often named without its extension.
    named = path.name != "" and " " not in path.name
    return named and is_file(path.with_name(path.name + ".hea"))


def _shown(names: Any) -> str:
    listed = [str(name) for name in names]
    return str(listed if len(listed) <= 8 else [*listed[:8], f"... ({len(listed)} in all)"])
