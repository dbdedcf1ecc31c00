"""PhysioNet/CinC Challenge 2012: intensive care stays as a cohort table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from medfusion_sdk.datasets._bundled import bundled
from medfusion_sdk.datasets._physionet2012_files import find_sets, read_events, read_outcomes
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.readers._event_intake import EventColumns
from medfusion_sdk.readers._event_plan import make_plan
from medfusion_sdk.readers.events import put_on_grid

__all__ = ["load_physionet2012"]

GROUPS = {
    "vitals": ["HR", "Temp", "SysABP", "DiasABP", "MAP", "NISysABP", "NIDiasABP", "NIMAP"],
    "respiration": ["RespRate", "SaO2", "FiO2", "MechVent", "PaO2", "PaCO2", "pH"],
    "neuro": ["GCS"],
    "metabolism": ["Lactate", "HCO3", "Glucose", "Na", "K", "Mg"],
    "renal": ["Urine", "Creatinine", "BUN", "Weight"],
    "blood": ["HCT", "WBC", "Platelets"],
    "liver": ["ALP", "ALT", "AST", "Bilirubin", "Albumin", "Cholesterol"],
    "cardiac": ["TroponinI", "TroponinT"],
}
_STATICS = {
    "Age": "age",
    "Gender": "sex",
    "Height": "height",
    "Weight": "weight",
    "ICUType": "icu_type",
}
# In the order of the codes 1 to 4.
_UNITS = ("coronary", "cardiac_surgery", "medical", "surgical")
# -1 stands for "missing", so nothing below 0 is a value; what else is implausible stands here.
_NAMES = {*_STATICS, *(name for members in GROUPS.values() for name in members)}
_LIMITS = dict.fromkeys(_NAMES, (0.0, np.inf)) | {
    "Gender": (0, 1),
    "Height": (100, 230),
    "Weight": (20, 350),
    "ICUType": (1, 4),
    "HR": (0, 300),
    "Temp": (25, 45),
    "SysABP": (20, 300),
    "DiasABP": (5, 200),
    "MAP": (10, 250),
    "NISysABP": (20, 300),
    "NIDiasABP": (5, 200),
    "NIMAP": (10, 250),
    "RespRate": (1, 100),
    "SaO2": (20, 100),
    "FiO2": (0.2, 1),
    "PaO2": (10, 700),
    "PaCO2": (5, 200),
    "pH": (6.3, 8),
    "GCS": (3, 15),
    "Urine": (0, 5000),
}
_OLDEST = 90
_TARGETS = ("in_hospital_death", "length_of_stay", "saps_i", "sofa")


def load_physionet2012(
    data_home: str | os.PathLike[str],
    *,
    sets: str | Sequence[str] = "all",
    target: str = "in_hospital_death",
    return_X_y: bool = False,
    step: float = 60,
    length: int = 48,
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Load intensive care stays of the PhysioNet/CinC Challenge 2012 from a folder.

    Columns and channels are the same for every set, whatever its records hold: eight series
    columns, one per organ system, and eight statics.

    Parameters
    ----------
    data_home : path
        Folder that holds for each set either the challenge's files (``set-a/132539.txt``, ...
        and ``Outcomes-a.txt``) or ``set-a.parquet`` and ``outcomes-a.csv``. The Parquet file
        (columns record_id, minute, parameter, value) is taken where both are there.
    sets : "all" or letters, default="all"
        Sets to read, such as ``"a"``, ``"ab"`` or ``["a", "b"]``.
    target : {"in_hospital_death", "length_of_stay", "saps_i", "sofa"}, default="in_hospital_death"
        What to predict; length of stay is in days. Stays for which it is unknown are left out.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.
    step : float, default=60
        Width of a step in minutes. An hour is how often nurses chart; of a finer grid nearly all
        is empty, and of a coarser one the trend is lost.
    length : int, default=48
        Number of steps. The records end at 48 hours; fewer steps make an earlier prediction.

    Returns
    -------
    Bunch or tuple
        With ``return_X_y=True`` the pair ``(data, target)``, otherwise a
        :class:`~sklearn.utils.Bunch`:

        data : DataFrame of n_stays rows
            Cohort table, indexed by ``record_id``: ``vitals``, ``respiration``, ``neuro``,
            ``metabolism``, ``renal``, ``blood``, ``liver``, ``cardiac`` with cells
            (channels, steps), NaN where nothing was observed and None for a group that a stay
            lacks; then ``static__age``, ``static__sex`` (1 is male), ``static__height``,
            ``static__weight`` and four indicators of the unit, all 0 where a copy doesn't tell.
        target : Series
            The chosen outcome.
        outcomes : DataFrame
            All outcomes, NaN where unknown.
        frame : DataFrame
            ``data`` and ``outcomes`` side by side.
        set : Series of str
            Letter of each stay's set.
        channels : dict of str to list of str
            Channels of each series column, in order.
        feature_names, target_names : list of str
            Columns of ``data`` and of ``outcomes``.
        report : EventReport
            What became of every event. Its counts also say how many ages were capped at 90, and
            how many records were left out, for want of any value or of the target.
        DESCR : str
            Source, licence, the columns with their units, and what was decided.

    Raises
    ------
    DataFileNotFoundError
        If a set, or its outcomes, isn't in the folder.
    DataError
        If a file isn't what the challenge describes.
    MissingDependencyError
        If a Parquet file is to be read and pyarrow isn't installed.

    See Also
    --------
    make_icu_cohort : Generated stays of the same form.
    grid_events : The same for other event tables.

    Notes
    -----
    Each record is another patient's stay, so rows may be split freely.

    Silva et al. (2012), Computing in Cardiology 39, 245-248; Goldberger et al. (2000).

    Examples
    --------
    One stay in the challenge's own layout:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from medfusion_sdk.datasets import load_physionet2012
    >>> folder = tempfile.TemporaryDirectory()
    >>> home = Path(folder.name)
    >>> (home / "set-a").mkdir()
    >>> rows = ["Time,Parameter,Value", "00:00,Age,54", "00:07,GCS,15", "01:30,HR,73"]
    >>> _ = (home / "set-a" / "132539.txt").write_text("\\n".join(rows))
    >>> names = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"
    >>> _ = (home / "Outcomes-a.txt").write_text(names + "\\n132539,6,1,5,-1,0\\n")
    >>> X, y = load_physionet2012(home, return_X_y=True)
    >>> folder.cleanup()
    >>> X.loc[132539, "vitals"][0, :3], X.loc[132539, "cardiac"] is None, y.to_dict()
    (array([nan, 73., nan], dtype=float32), True, {132539: 0})
    """
    if target not in _TARGETS:
        raise ParameterError(f"target={target!r}; known are {_TARGETS}.")
    found = find_sets(Path(data_home), sets)
    by_set = pd.concat({files.letter: read_outcomes(files.outcomes) for files in found})
    outcomes = by_set.droplevel(0)
    # Some records alone may lack a parameter.
    table, report, _ = put_on_grid(
        pd.concat([read_events(files.events) for files in found], ignore_index=True),
        make_plan(GROUPS, _STATICS, _LIMITS, {"Urine": "sum"}, step, length),
        EventColumns("record_id", "minute", "parameter", "value"),
        outcomes.index,
    )
    empty = table.isna().all(axis=1)
    untold = outcomes[target].isna() & ~empty
    kept = ~(empty | untold)
    extra = {
        "ages_capped": int((table["static__age"] > _OLDEST).sum()),
        "records_without_data": int(empty.sum()),
        "records_without_target": int(untold.sum()),
    }
    data, outcomes = _tidy_statics(table)[kept], outcomes[kept]
    wanted = outcomes[target].astype(np.int64 if target == "in_hospital_death" else np.float64)
    if return_X_y:
        return data, wanted
    return Bunch(
        data=data,
        target=wanted,
        outcomes=outcomes,
        frame=pd.concat([data, outcomes], axis=1),
        set=pd.Series(by_set.index.get_level_values(0)[kept], index=data.index, name="set"),
        channels={name: list(members) for name, members in GROUPS.items()},
        feature_names=data.columns.to_list(),
        target_names=outcomes.columns.to_list(),
        report=replace(report, counts=pd.concat([report.counts, pd.Series(extra)])),
        DESCR=bundled("physionet2012", "README.md").read_text(encoding="utf-8"),
    )


def _tidy_statics(table: pd.DataFrame) -> pd.DataFrame:
    """Cap ages, and turn the unit's code, which has no order, into indicators."""
    table["static__age"] = table["static__age"].clip(upper=_OLDEST)
    unit = table.pop("static__icu_type")
    for code, name in enumerate(_UNITS, start=1):
        table[f"static__icu_{name}"] = (unit == code).astype(np.float64)
    return table
