"""Heart failure clinical records: thirteen columns, time to death."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from medfusion_sdk.datasets._bundled import bundled, read_table

__all__ = ["load_heart_failure"]


def load_heart_failure(
    *, return_X_y: bool = False, as_frame: bool = True
) -> Bunch | tuple[Any, Any]:
    """Load 299 bundled heart failure patients: clinical values and time to death.

    ``time`` belongs to the outcome and isn't among the features: it is how long the patient was
    followed, which nobody knows when a prediction is due.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.
    as_frame : bool, default=True
        With False, ``data`` is an array and ``target`` a structured array with the fields
        ``event`` and ``time`` (scikit-survival's form); ``frame`` is None.

    Returns
    -------
    Bunch or tuple
        With ``return_X_y=True`` the pair ``(data, target)``, otherwise a
        :class:`~sklearn.utils.Bunch`:

        data : DataFrame of shape (299, 11)
            Clinical values at admission, none missing.
        target : DataFrame of shape (299, 2)
            ``event``, bool: died (96 of 299); ``time``, float: days until death or the end of
            follow-up.
        frame : DataFrame of shape (299, 13)
            ``data`` and ``target`` side by side.
        feature_names, target_names : list of str
            Column names of ``data`` and ``target``.
        DESCR : str
            Source, licence, and the columns with their units.

    Notes
    -----
    Ahmad et al. (2017), doi:10.24432/C5Z89R, CC BY 4.0.

    Examples
    --------
    >>> from medfusion_sdk.datasets import load_heart_failure
    >>> X, y = load_heart_failure(return_X_y=True)
    >>> X.shape, int(y["event"].sum()), float(y["time"].max())
    ((299, 11), 96, 285.0)
    """
    table = read_table("heart_failure", "heart_failure.csv")
    data = table.drop(columns=["event", "time"])
    target = pd.DataFrame(
        {"event": table["event"].astype(bool), "time": table["time"].astype(np.float64)}
    )
    names = {"feature_names": data.columns.to_list(), "target_names": target.columns.to_list()}
    frame = pd.concat([data, target], axis=1)
    if not as_frame:
        pairs = list(zip(target["event"], target["time"], strict=True))
        target = np.array(pairs, dtype=[("event", np.bool_), ("time", np.float64)])
        data, frame = data.to_numpy(dtype=np.float64), None
    if return_X_y:
        return data, target
    description = bundled("heart_failure", "README.md").read_text(encoding="utf-8")
    return Bunch(data=data, target=target, frame=frame, **names, DESCR=description)
