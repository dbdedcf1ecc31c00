"""What windows and prefixes are parts of, told by the index that cutting gives them."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["PREFIX_LEVEL", "WINDOW_LEVEL", "whole_of_parts"]

# What the level of the index is called that tells the parts of a row apart.
WINDOW_LEVEL, PREFIX_LEVEL = "start", "step"


def whole_of_parts(rows: pd.Index) -> np.ndarray | None:
    """Tell which row of the table that was cut each part is from.

    Parameters
    ----------
    rows : Index
        Of a table; of windows or prefixes, or of prefixes of windows, where it has been cut.

    Returns
    -------
    ndarray of shape (n,) or None
        Label of the row that was cut; None where the index isn't one of parts.

    Examples
    --------
    >>> import pandas as pd
    >>> parts = pd.MultiIndex.from_tuples([("a", 0), ("a", 3), ("b", 0)], names=[None, "start"])
    >>> whole_of_parts(parts).tolist()
    ['a', 'a', 'b']
    """
    whole = rows
    while whole.nlevels > 1 and whole.names[-1] in (WINDOW_LEVEL, PREFIX_LEVEL):
        whole = whole.droplevel(-1)
    if whole.nlevels == rows.nlevels:
        return None
    return whole.to_flat_index().to_numpy() if whole.nlevels > 1 else whole.to_numpy()
