"""Which rows belong to one patient."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import column_or_1d

from medfusion_sdk.exceptions import DataError

__all__ = ["group_codes"]


def group_codes(groups: ArrayLike, n_rows: int) -> np.ndarray:
    """Number the groups from 0 in order of appearance; refuse missing ones."""
    labels = column_or_1d(groups)
    if len(labels) != n_rows:
        raise DataError(f"groups has {len(labels)} entries for {n_rows} rows.")
    codes = pd.factorize(labels)[0]
    if (codes < 0).any():
        raise DataError(
            f"groups is missing in {int((codes < 0).sum())} rows, the first at position "
            f"{int(np.argmax(codes < 0))}. Give a row without a known patient a value of its own."
        )
    return codes
