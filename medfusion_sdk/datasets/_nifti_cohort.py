"""A folder of NIfTI files under BIDS names as a cohort table."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medfusion_sdk.exceptions import DataError, DataFileNotFoundError

__all__ = ["load_nifti_cohort"]

# sub-01_ses-02_run-1_T1w.nii.gz: entities "key-value", then what kind of image it is.
_ENTITY = re.compile(r"(?P<key>[a-zA-Z]+)-(?P<value>[a-zA-Z0-9+]+)")
_NAME = re.compile(r"(?P<entities>sub-[^.]*?)_(?P<suffix>[a-zA-Z0-9]+)\.nii(\.gz)?")


def load_nifti_cohort(
    data_home: str | os.PathLike[str],
    *,
    suffixes: str | Sequence[str] = "all",
    entities: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Make a cohort table of a folder whose NIfTI files have BIDS names.

    One row for each person and session, one column for each kind of image. Nothing but names is
    read; the cells are paths, for :class:`VolumeEncoder` and :class:`BrainAdapterClassifier`.

    Parameters
    ----------
    data_home : path
        Folder with files ``sub-<label>[_ses-<label>][_<key>-<value>]_<suffix>.nii[.gz]``, at any
        depth; folders called ``derivatives``, ``sourcedata`` or with a leading dot are left out.
    suffixes : "all", str or list of str, default="all"
        Kinds of image, such as ``"T1w"``.
    entities : dict of str to str, optional
        Further entities that a file's name must have, such as ``{"run": "1", "desc": "preproc"}``.

    Returns
    -------
    DataFrame
        ``subject`` and ``session`` (None where names have none), each suffix with paths or None;
        then the columns of ``participants.tsv`` where the folder has one.

    Raises
    ------
    DataFileNotFoundError
        If there is no folder, or no file of that kind in it.
    DataError
        If two files claim one cell.

    See Also
    --------
    make_volume_cohort : Writes such a folder.

    Examples
    --------
    >>> import tempfile
    >>> from medfusion_sdk.datasets import load_nifti_cohort, make_volume_cohort
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = make_volume_cohort(3, n_subjects=2, folder=folder, random_state=0)
    ...     table = load_nifti_cohort(folder)
    >>> table[["subject", "session"]]
      subject session
    0     001      01
    1     001      02
    2     002      01
    """
    home = Path(data_home)
    if not home.is_dir():
        raise DataFileNotFoundError(f"no folder {home}.")
    wanted = [suffixes] if isinstance(suffixes, str) else list(suffixes)
    cells: dict[tuple[str, str | None], dict[str, str]] = {}
    for path in sorted(_files(home)):
        found = _parse(path.name)
        if found is None:
            continue
        suffix, labels = found
        kind = "all" in wanted or suffix in wanted
        if not kind or any(labels.get(k) != v for k, v in (entities or {}).items()):
            continue
        row = cells.setdefault((labels["sub"], labels.get("ses")), {})
        if suffix in row:
            raise DataError(
                f"{row[suffix]} and {path} are both the {suffix} of one session. Choose by "
                'entities=..., for example entities={"run": "1"}.'
            )
        row[suffix] = str(path)
    if not cells:
        raise DataFileNotFoundError(
            f"{home} holds no file sub-..._<suffix>.nii or .nii.gz with suffix {suffixes!r} and "
            f"entities {entities or {}}."
        )
    kinds = sorted({suffix for row in cells.values() for suffix in row})
    table = pd.DataFrame(
        [[*key, *(row.get(kind) for kind in kinds)] for key, row in cells.items()],
        columns=["subject", "session", *kinds],
        dtype=object,
    )
    return _with_participants(table, home / "participants.tsv")


def _files(home: Path) -> list[Path]:
    left_out = ("derivatives", "sourcedata")
    return [
        path
        for path in home.rglob("sub-*.nii*")
        if path.is_file()
        and not any(
            part in left_out or part.startswith(".") for part in path.relative_to(home).parts
        )
    ]


def _parse(name: str) -> tuple[str, dict[str, str]] | None:
    """Suffix and entities of a name; None for another one."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    parts = [_ENTITY.fullmatch(part) for part in match["entities"].split("_")]
    if not all(parts):
        return None
    return match["suffix"], {part["key"]: part["value"] for part in parts if part is not None}


def _with_participants(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    if not path.is_file():
        return table
    # BIDS has one word for what is missing; NA may well be a person or a site.
    options: Any = {"keep_default_na": False, "na_values": ["n/a", ""]}
    try:
        people = pd.read_csv(path, sep="\t", dtype={"participant_id": str}, **options)
    except (ValueError, OSError) as cause:
        raise DataError(f"{path} is not a readable table: {cause}") from cause
    if "participant_id" not in people or people["participant_id"].duplicated().any():
        raise DataError(f"{path} needs a column participant_id with each person once.")
    subject = people.pop("participant_id").str.removeprefix("sub-")
    taken = [name for name in people if name in table]
    if taken:
        raise DataError(f"{path} has columns that name images already: {taken}.")
    return table.join(people.set_index(subject), on="subject")
