"""TCGA cohorts: expression, copy number, mutations, age and sex, and survival."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from medfusion_sdk.datasets._bundled import bundled
from medfusion_sdk.exceptions import (
    DataError,
    DataFileNotFoundError,
    MissingDependencyError,
    ParameterError,
)

__all__ = ["load_tcga"]

_COHORTS = ("blca", "kirc")
# What the file's columns end with, and the modality that they make.
_GENES = {"_rnaseq": "rna", "_cnv": "cnv", "_mut": "mut"}
_OTHERS = ("case_id", "site", "age", "is_female", "survival_months", "censorship")


def load_tcga(
    data_home: str | os.PathLike[str], *, cohort: str = "kirc", return_X_y: bool = False
) -> Bunch | tuple[pd.DataFrame, pd.DataFrame]:
    """Load a cohort of The Cancer Genome Atlas from a folder: genomics and survival.

    Parameters
    ----------
    data_home : path
        Folder that holds ``tcga_blca.parquet`` or ``tcga_kirc.parquet``.
    cohort : {"blca", "kirc"}, default="kirc"
        Bladder or clear cell kidney carcinoma.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch or tuple
        With ``return_X_y=True`` the pair ``(data, target)``, otherwise a
        :class:`~sklearn.utils.Bunch`:

        data : DataFrame of n_patients rows
            Block table, indexed by case: ``rna__GENE`` (z-scores), ``cnv__GENE`` (-2 to 2),
            ``mut__GENE`` (0 or 1), ``person__age`` (years) and ``person__sex`` (1 is male).
        target : DataFrame of shape (n_patients, 2)
            ``event``, bool: died; ``time``, float: months until death or the end of follow-up.
        site : Series of str
            Hospital that gave the tissue, by TCGA's code.
        frame : DataFrame
            ``data`` and ``target`` side by side.
        feature_names, target_names : list of str
            Columns of ``data`` and ``target``.
        DESCR : str
            Source, licence, and the columns.

    Raises
    ------
    DataFileNotFoundError
        If the cohort's file isn't in the folder.
    DataError
        If the file isn't such a table.
    MissingDependencyError
        If pyarrow isn't installed.

    Notes
    -----
    The file's ``censorship`` is 1 for those who were censored; ``event`` is its opposite.

    Examples
    --------
    A file with two patients and one gene:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from medfusion_sdk.datasets import load_tcga
    >>> folder = tempfile.TemporaryDirectory()
    >>> table = pd.DataFrame({"case_id": ["A1", "A2"], "site": ["A", "A"], "age": [60, 71],
    ...                       "is_female": [0, 1], "survival_months": [12.5, 40.0],
    ...                       "censorship": [0, 1], "VHL_rnaseq": [0.3, -1.2]})
    >>> table.to_parquet(Path(folder.name) / "tcga_kirc.parquet")
    >>> X, y = load_tcga(folder.name, cohort="kirc", return_X_y=True)
    >>> folder.cleanup()
    >>> X.columns.to_list(), y["event"].to_list()
    (['rna__VHL', 'person__age', 'person__sex'], [True, False])
    """
    if cohort not in _COHORTS:
        raise ParameterError(f"cohort={cohort!r}; known are {_COHORTS}.")
    table = _read(Path(data_home) / f"tcga_{cohort}.parquet")
    data = _blocks(table)
    target = pd.DataFrame(
        {
            "event": table["censorship"] == 0,
            "time": table["survival_months"].astype(np.float64),
        }
    )
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        site=table["site"],
        frame=pd.concat([data, target], axis=1),
        feature_names=data.columns.to_list(),
        target_names=target.columns.to_list(),
        DESCR=bundled("tcga", "README.md").read_text(encoding="utf-8"),
    )


def _blocks(table: pd.DataFrame) -> pd.DataFrame:
    columns = {
        f"{modality}__{name.removesuffix(ending)}": table[name].astype(np.float32)
        for ending, modality in _GENES.items()
        for name in table.columns
        if name.endswith(ending)
    }
    columns["person__age"] = table["age"].astype(np.float32)
    columns["person__sex"] = (1 - table["is_female"]).astype(np.float32)
    return pd.DataFrame(columns)


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        found = sorted(place.name for place in path.parent.glob("*.parquet"))
        raise DataFileNotFoundError(f"no file {path}; Parquet files in its folder: {found}.")
    try:
        table = pd.read_parquet(path)
    except ImportError as cause:
        raise MissingDependencyError(
            f"reading {path} needs pyarrow: pip install 'medfusion-sdk[parquet]'."
        ) from cause
    except Exception as cause:  # pyarrow and pandas raise anything for a damaged file
        raise DataError(f"{path} is not a readable Parquet file: {cause}") from cause
    if absent := [name for name in _OTHERS if name not in table]:
        raise DataError(f"{path} has no columns {absent}.")
    if not table["censorship"].isin([0, 1]).all() or table["case_id"].duplicated().any():
        raise DataError(f"{path}: censorship must be 0 or 1 in every row, and case_id occur once.")
    return table.set_index("case_id")
