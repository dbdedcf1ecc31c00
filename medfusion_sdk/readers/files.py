"""Paths that cells name: what stands there is looked at before it is opened."""

from __future__ import annotations

import stat
from pathlib import Path

from medfusion_sdk.exceptions import CellError, CellFileNotFoundError

__all__ = ["is_file", "require_file", "shown"]

_SHOWN = 200  # characters of a path in a message
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_file(path: Path, error: type[CellError], what: str) -> Path:
    """Make sure that a regular file stands under a path; a pipe would be waited for without end.

    Parameters
    ----------
    path : Path
        What a cell names.
    error : type
        Class of the error where something else stands there, or it may not be looked at.
    what : str
        What is expected, for the message, such as "volume file".

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    CellFileNotFoundError
        If nothing stands there.
    CellError
        (of class `error`) If it is no regular file.

    Examples
    --------
    >>> require_file(Path("."), CellError, "volume file")
    Traceback (most recent call last):
        ...
    medfusion_sdk.exceptions.CellError: . is a folder, expected a volume file.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as cause:  # a zero byte in the name
        raise CellFileNotFoundError(f"no {what} at {shown(path)}.") from cause
    except OSError as cause:  # a folder that may not be entered, a name longer than names may be
        raise error(f"{shown(path)} can't be looked at: {cause.strerror}.") from cause
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise error(f"{shown(path)} is {kind}, expected a {what}.")
    return path


def is_file(path: Path) -> bool:
    """Tell whether a regular file stands under a path, of which anything may be asked.

    Parameters
    ----------
    path : Path
        Perhaps longer than names of files may be, or in a folder that may not be entered.

    Returns
    -------
    bool
        True for a file.

    Examples
    --------
    >>> is_file(Path("a" * 5000))
    False
    """
    try:
        return path.is_file()
    except OSError:
        return False


def shown(path: Path) -> str:
    """Write a path for a message, a very long one in part.

    Parameters
    ----------
    path : Path
        Any path.

    Returns
    -------
    str
        At most some 200 characters.

    Examples
    --------
    >>> len(shown(Path("a" * 5000)))
    203
    """
    text = str(path)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
