"""Weights that make up for rows whose follow-up ended early."""

from __future__ import annotations

from typing import Any

import numpy as np

from medfusion_sdk.exceptions import DataError
from medfusion_sdk.survival import censoring_curve

__all__ = ["inverse_censoring"]


def inverse_censoring(y_train: Any, time: np.ndarray) -> np.ndarray:
    """Return one over the probability of being followed beyond each time.

    Raises ``DataError`` where that is zero: nobody in training stands for such a row.
    """
    followed = censoring_curve(y_train)
    last = followed.domain[1]
    # Where training ends with an event, nothing is known beyond; where all have left, it's zero.
    known = time <= last
    if not known.all() or (followed(time[known]) == 0).any():
        raise DataError(
            f"nobody in y_train was followed beyond {last:g}, but there are rows to weigh up to "
            f"{time.max():g}. Choose an earlier tau or times, or estimate censoring from rows "
            "with a longer follow-up."
        )
    return 1.0 / followed(time)
