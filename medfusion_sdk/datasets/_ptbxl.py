"""PTB-XL: twelve-lead ECGs with reports, demographics and diagnostic superclasses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from medfusion_sdk.datasets._bundled import bundled, read_table, to_arrays

__all__ = ["load_ptbxl"]

LEAD_NAMES = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
SUPERCLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]
FEATURES = ["ecg", "report", "age", "sex", "height", "weight"]


def load_ptbxl(*, return_X_y: bool = False, as_frame: bool = True) -> Bunch | tuple[Any, Any]:
    """Load 353 bundled PTB-XL records: ECG, report, demographics, five diagnostic superclasses.

    The task is multilabel: a record may have several superclasses, and one has none. Some
    patients have several records, so split by ``groups``, never by row.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.
    as_frame : bool, default=True
        With False, ``data`` is a dict of one array per column (``ecg`` is stacked to shape
        (353, 12, 1000)), ``target``, ``groups`` and ``strat_fold`` are arrays, and ``frame`` is
        None.

    Returns
    -------
    Bunch or tuple
        With ``return_X_y=True`` the pair ``(data, target)``, otherwise a
        :class:`~sklearn.utils.Bunch`:

        data : DataFrame of shape (353, 6)
            Cohort table, indexed by ``ecg_id``. ``ecg`` has cells of shape (12, 1000), float32,
            in mV at 100 Hz, read-only; ``report`` is text (1 missing); ``age`` is in years
            (4 missing); ``sex`` is 0 for male and 1 for female; ``height`` is in cm (227
            missing); ``weight`` is in kg (68 missing).
        target : DataFrame of shape (353, 5)
            Columns of 0 and 1: NORM, MI, STTC, CD, HYP.
        frame : DataFrame of shape (353, 13)
            ``data``, ``patient_id``, ``strat_fold`` and ``target`` side by side.
        groups : Series of shape (353,)
            ``patient_id``, 339 different ones.
        strat_fold : Series of shape (353,)
            PTB-XL's own fold, 1 to 8 here.
        feature_names, target_names, lead_names : list of str
            Column names of ``data`` and ``target``, and the leads in the order of the signals.
        fs : float
            Sampling rate in Hz.
        DESCR : str
            Source, licence and what the columns mean.

    Notes
    -----
    Missing values stay missing. PTB-XL codes a withheld age above 89 as 300; none of these
    records carries that code.

    Wagner et al. (2020), doi:10.13026/kfzx-aw45, CC BY 4.0.

    Examples
    --------
    >>> from medfusion_sdk.datasets import load_ptbxl
    >>> ptbxl = load_ptbxl()
    >>> ptbxl.data.loc[1, "ecg"].shape, ptbxl.data.loc[1, "report"]
    ((12, 1000), 'sinusrhythmus periphere niederspannung')
    >>> ptbxl.target.sum().to_dict()
    {'NORM': 225, 'MI': 49, 'STTC': 59, 'CD': 57, 'HYP': 25}
    """
    records = read_table("ptbxl", "records.csv", index_col="ecg_id")
    records.insert(0, "ecg", pd.Series(list(_read_signals()), index=records.index, dtype=object))
    labels = records[SUPERCLASSES].astype(np.int8)
    data, target = records[FEATURES], labels
    groups, strat_fold = records["patient_id"], records["strat_fold"]
    frame = pd.concat([data, groups, strat_fold, labels], axis=1)
    if not as_frame:
        data, target, frame = to_arrays(data), labels.to_numpy(), None
        groups, strat_fold = groups.to_numpy(), strat_fold.to_numpy()
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        groups=groups,
        strat_fold=strat_fold,
        feature_names=list(FEATURES),
        target_names=list(SUPERCLASSES),
        lead_names=list(LEAD_NAMES),
        fs=100.0,
        DESCR=bundled("ptbxl", "README.md").read_text(encoding="utf-8"),
    )


def _read_signals() -> np.ndarray:
    """Rebuild the signals in mV, (records, leads, samples), from their compact form."""
    with bundled("ptbxl", "signals.npz").open("rb") as file, np.load(file) as stored:
        independent = np.cumsum(stored["steps"], axis=2, dtype=np.int32)
        residual = stored["limb_residual"].astype(np.int32)
        gain = float(stored["gain"])
    one, two = independent[:, 0], independent[:, 1]
    # Einthoven's and Goldberger's relations; the residual makes the recorded rounding exact.
    derived = [two - one, -(one + two) // 2, (2 * one - two) // 2, (2 * two - one) // 2]
    limb = np.stack(derived, axis=1) + residual
    counts = np.concatenate([independent[:, :2], limb, independent[:, 2:]], axis=1)
    signals = (counts / gain).astype(np.float32)
    signals.flags.writeable = False
    return signals
