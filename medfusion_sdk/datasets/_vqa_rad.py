"""VQA-RAD: radiology images with clinicians' questions and answers, read from a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.utils import Bunch

from medfusion_sdk.datasets._bundled import bundled
from medfusion_sdk.exceptions import DataError, DataFileNotFoundError

__all__ = ["load_vqa_rad"]

_TABLES = ("vqa_rad.csv", "VQA_RAD Dataset Public.json")
_FOLDERS = ("images256", "VQA_RAD Image Folder", "images")
# The published file's names of the columns that the prepared table has.
_PUBLISHED = {"image_name": "image", "image_organ": "organ"}
_COLUMNS = ["image", "organ", "question", "answer", "answer_type", "question_type"]


def load_vqa_rad(
    data_home: str | os.PathLike[str], *, return_X_y: bool = False
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Load VQA-RAD from a folder: one row per image, with its questions and answers as a caption.

    Images stay files: the table holds their paths, which :class:`~medfusion_sdk.ImageEncoder`
    reads batch by batch.

    Parameters
    ----------
    data_home : path
        Folder that holds ``vqa_rad.csv`` (columns image, organ, question, answer, answer_type,
        question_type) or the published ``VQA_RAD Dataset Public.json``, and the images in
        ``images256``, ``VQA_RAD Image Folder`` or ``images``.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch or tuple
        With ``return_X_y=True`` the pair ``(data, target)``, otherwise a
        :class:`~sklearn.utils.Bunch`:

        data : DataFrame of n_images rows
            Cohort table, indexed by the image's name: ``image`` (path) and ``caption`` (its
            questions and answers, each pair once, in the order of the file).
        target : Series
            ``organ``: HEAD, CHEST or ABD.
        frame : DataFrame
            ``data`` and ``target`` side by side.
        questions : DataFrame
            Every question with its answer and their types, indexed by the image's name.
        n_without_image : int
            Questions that were left out because their image isn't in the folder.
        feature_names, target_names : list of str
            Columns of ``data``, and the organs.
        DESCR : str
            Source, licence and what was decided.

    Raises
    ------
    DataFileNotFoundError
        If the table or the images aren't in the folder.
    DataError
        If the table isn't what is described above, or an image has two organs.

    Notes
    -----
    Rows are images, so they may be split freely. A caption may name the organ.

    Lau et al. (2018), doi:10.1038/sdata.2018.251, CC0 1.0.

    Examples
    --------
    A folder with one image:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from medfusion_sdk.datasets import load_vqa_rad
    >>> folder = tempfile.TemporaryDirectory()
    >>> home = Path(folder.name)
    >>> (home / "images").mkdir()
    >>> _ = (home / "images" / "synpic1.jpg").write_bytes(b"...")
    >>> names = "image,organ,question,answer,answer_type,question_type"
    >>> _ = (home / "vqa_rad.csv").write_text(
    ...     names + "\\nsynpic1.jpg,HEAD,Is this a CT?,No,CLOSED,MODALITY")
    >>> X, y = load_vqa_rad(home, return_X_y=True)
    >>> folder.cleanup()
    >>> X.loc["synpic1", "caption"], y.to_dict()
    ('Is this a CT? No.', {'synpic1': 'HEAD'})
    """
    home = Path(data_home)
    questions = _read_questions(home)
    files = _find_images(home)
    known = questions["image"].isin(files)
    questions = questions[known].set_index(questions["image"][known].map(_stem))
    by_image = questions.groupby(level=0, sort=False)
    organs = by_image["organ"].nunique()
    if (organs > 1).any():
        raise DataError(f"{home}: image {organs.idxmax()!r} is said to show several organs.")
    data = pd.DataFrame(
        {
            "image": by_image["image"].first().map(files),
            "caption": by_image[["question", "answer"]].apply(_caption),
        }
    )
    target = by_image["organ"].first()
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=data.join(target),
        questions=questions.drop(columns=["image", "organ"]),
        n_without_image=int((~known).sum()),
        feature_names=data.columns.to_list(),
        target_names=sorted(target.unique()),
        DESCR=bundled("vqa_rad", "README.md").read_text(encoding="utf-8"),
    )


def _read_questions(home: Path) -> pd.DataFrame:
    path = next((home / name for name in _TABLES if (home / name).is_file()), None)
    if path is None:
        raise DataFileNotFoundError(f"{home} has none of {_TABLES}.")
    try:
        # "None" and "NA" are answers.
        table = (
            pd.read_csv(path, keep_default_na=False, dtype=str)
            if path.suffix == ".csv"
            else pd.DataFrame(json.loads(path.read_text(encoding="utf-8")), dtype=str)
        )
    except (ValueError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise DataError(f"{path} is not a readable table: {error}") from error
    table = table.rename(columns=_PUBLISHED)
    if absent := [name for name in _COLUMNS if name not in table]:
        raise DataError(f"{path} has no column {absent}; found {list(table.columns)}.")
    return table[_COLUMNS].apply(lambda column: column.str.strip())


def _find_images(home: Path) -> dict[str, str]:
    """Map file names to paths."""
    folder = next((home / name for name in _FOLDERS if (home / name).is_dir()), None)
    if folder is None:
        raise DataFileNotFoundError(f"{home} has no folder of images; looked for {_FOLDERS}.")
    return {path.name: str(path) for path in folder.iterdir()}


def _stem(name: str) -> str:
    return Path(name).stem


def _caption(pairs: Any) -> str:
    """Join questions and answers, each pair once."""
    said = dict.fromkeys(zip(pairs["question"], pairs["answer"], strict=True))
    return " ".join(f"{question} {answer.rstrip('.')}." for question, answer in said)
