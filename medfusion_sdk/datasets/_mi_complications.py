"""Complications of myocardial infarction: history, ECG findings and labs at admission."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from medfusion_sdk.datasets._bundled import bundled, read_table
from medfusion_sdk.exceptions import ParameterError

__all__ = ["load_mi_complications"]

_FIRST_OUTCOME = "FIBR_PREDS"
_ECG = ("ant_im", "lat_im", "inf_im", "post_im", "IM_PG_P")
_LABS = ("GIPO_K", "GIPER_NA", "ROE")


def load_mi_complications(
    *, target: str = "ZSN", return_X_y: bool = False
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Load 1,143 bundled patients with myocardial infarction: admission and complications.

    A block table of three modalities. Treatments in hospital and everything of the days after
    admission are left out, so that what predicts is known when the prediction is due.

    Parameters
    ----------
    target : str, default="ZSN"
        What to predict: ``"ZSN"`` (chronic heart failure), ``"death"``, or another outcome's
        column.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch or tuple
        With ``return_X_y=True`` the pair ``(data, target)``, otherwise a
        :class:`~sklearn.utils.Bunch`:

        data : DataFrame of shape (1143, 87)
            Block table ``history__``, ``ecg__`` and ``labs__``, NaN where missing; 42 patients
            have no labs at all.
        target : Series
            The chosen outcome, 0 or 1; causes of death 0 to 7 for ``"LET_IS"``.
        outcomes : DataFrame of shape (1143, 13)
            All outcomes.
        frame : DataFrame
            ``data`` and ``outcomes`` side by side.
        feature_names, target_names : list of str
            Columns of ``data`` and of ``outcomes``.
        DESCR : str
            Source, licence, and the columns with their units.

    Raises
    ------
    ParameterError
        For an unknown target.

    Notes
    -----
    Each row is another patient.

    Golovenkin et al. (2020), doi:10.1093/gigascience/giaa128, CC BY 4.0.

    Examples
    --------
    >>> from medfusion_sdk.datasets import load_mi_complications
    >>> X, y = load_mi_complications(target="death", return_X_y=True)
    >>> X.shape, int(y.sum())
    ((1143, 87), 187)
    """
    table = read_table("mi_complications", "mi_complications.csv", index_col="id")
    first = table.columns.get_loc(_FIRST_OUTCOME)
    outcomes = table.iloc[:, first:].astype(np.int64)
    outcomes["death"] = (outcomes["LET_IS"] > 0).astype(np.int64)
    if target not in outcomes:
        raise ParameterError(f"target={target!r}; known are {list(outcomes)}.")
    data = table.iloc[:, :first].astype(np.float64)
    modality = [_modality(name) for name in data]
    data.columns = [f"{own}__{name}" for own, name in zip(modality, data, strict=True)]
    order = np.argsort([("history", "ecg", "labs").index(own) for own in modality], kind="stable")
    data = data.iloc[:, order]
    if return_X_y:
        return data, outcomes[target]
    return Bunch(
        data=data,
        target=outcomes[target],
        outcomes=outcomes,
        frame=pd.concat([data, outcomes], axis=1),
        feature_names=data.columns.to_list(),
        target_names=outcomes.columns.to_list(),
        DESCR=bundled("mi_complications", "README.md").read_text(encoding="utf-8"),
    )


def _modality(column: str) -> str:
    if column in _ECG or "_ecg_p_" in column:
        return "ecg"
    return "labs" if column in _LABS or column.endswith("_BLOOD") else "history"
