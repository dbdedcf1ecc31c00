"""Strings that name files, told from texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medfusion_sdk.exceptions import ModalityError
from medfusion_sdk.readers.files import is_file, shown

__all__ = ["looks_like_a_path", "refuse_paths"]

# A longer string is no path.
_LONGEST = 1000
# From the root, from here, from a drive, on a server, or at an address.
_ROOTED = re.compile(
    r"(/|~/|\.{1,2}/|[A-Za-z]:[\\/]|\\\\|[a-z][a-z0-9+]*://)\S.*[^.\s]", re.IGNORECASE
)
_ENDING = re.compile(
    r"\.(dcm|dicom|ima|tiff?|bmp|gif|webp|png|jpe?g|svs|ndpi|nii|mha|mhd|nrrd|mgz|img|mp4|avi|mov|"
    r"mkv|edf|bdf|gdf|hea|dat|mat|scp|wav|npy|npz|h5|hdf5|zarr|parquet|csv|tsv|json|xml|txt|pdf|"
    r"docx?|pt|pkl|zip|tar)(\.gz)?",
    re.IGNORECASE,
)
# Of a folder and a name with a number, as records are called; no date and no fraction.
_RECORD = re.compile(r"(?=.*[A-Za-z_])[\w.-]+([\\/][\w.-]+)*[\\/](?=[\w.-]*\d\d)[\w.-]+")
_MOST_LOOKED_UP = 200


def looks_like_a_path(text: str) -> bool:
    """Tell a string that names a file, whether or not the file is there, from a text.

    Parameters
    ----------
    text : str
        A cell.

    Returns
    -------
    bool
        True for "/data/p1.dcm", "scans/p1.nii" and "records/p0001"; False for "and/or".

    Examples
    --------
    >>> [looks_like_a_path(t) for t in ("scans/p1.dcm", "and/or", "RR 120/80", "see a/b.")]
    [True, False, False, False]
    """
    text = text.strip()
    if len(text) > _LONGEST or "\n" in text:
        return False
    if _ROOTED.fullmatch(text) or _RECORD.fullmatch(text):
        return True
    name = re.split(r"[\\/]", text)[-1]
    ending = _ENDING.search(name)
    return ending is not None and ending.end() == len(name) and " " not in name


def refuse_paths(cells: Sequence[Any], rows: Sequence[Any], name: Any) -> None:
    """Refuse a column of texts most of whose cells name files.

    Parameters
    ----------
    cells : sequence
        Cells; None where missing.
    rows : sequence
        Labels of the rows.
    name : object
        Name of the column.

    Raises
    ------
    ModalityError
        Naming the first such cell, and what can be read.
    """
    texts = [i for i, cell in enumerate(cells) if isinstance(cell, str)]
    found = [i for i in texts if looks_like_a_path(cells[i])]
    if 2 * len(found) <= len(texts):
        words = [i for i in texts if len(cells[i]) <= _LONGEST and len(cells[i].split()) == 1]
        there = [i for i in words[:_MOST_LOOKED_UP] if _is_there(cells[i])]
        if 2 * len(there) <= min(len(texts), _MOST_LOOKED_UP):
            return
        found = there
    first = found[0]
    raise ModalityError(
        f"column {name!r} holds names of files, as {shown(Path(cells[first]))!r} in row "
        f"{rows[first]!r}, and is no column of texts ({len(found)} of {len(texts)} cells). Files "
        "that are read are WFDB records (.hea), .npy, .png, .jpg, .nii and .nii.gz, where they "
        "are there; read other kinds into arrays first, or drop the column."
    )


def _is_there(text: str) -> bool:
    path = Path(text)
    return is_file(path) or is_file(Path(text + ".hea"))
