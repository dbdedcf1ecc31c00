"""Series as they were known after their first steps."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.readers._cuts import check_sizes, cut_series, read_table
from medfusion_sdk.readers.parts import PREFIX_LEVEL

__all__ = ["make_prefixes"]


def make_prefixes(
    X: pd.DataFrame | pd.Series,
    steps: Sequence[int],
    *,
    columns: Sequence[object] | None = None,
) -> tuple[pd.DataFrame, pd.Series]:
    """Cut the series of a cohort table after their first steps; each row becomes several.

    A model that was fitted on whole series takes the short past of a stay's first hours for a
    stay in which little was measured. One that shall answer at any hour is fitted on prefixes.

    Parameters
    ----------
    X : DataFrame or Series
        Cohort table or one series column. The series of a row share their steps.
    steps : sequence of int
        After how many steps to cut. A shorter series stays as it is.
    columns : sequence of column names, default=None
        The series to cut; by default all columns of arrays.

    Returns
    -------
    prefixes : DataFrame
        The same columns: cut series, and the other columns repeated. A prefix in which a series
        has no observation has None there; where nothing at all is known yet of a row, it has no
        prefix. The index is (label of the row, step).
    groups : Series
        Label of the row that each prefix is from: targets of rows are ``y.loc[groups]``, and
        splits keep rows together by it.

    Raises
    ------
    ModalityError
        If there is no series, or no column of that name.
    SignalError
        For cells that aren't series, or series of a row that differ in steps.
    ParameterError
        If `steps` has a value that it can't have.
    DataError
        If nothing is known of any row.

    See Also
    --------
    make_windows : Parts of equal length from anywhere.
    medfusion_sdk.inspection.explain_over_time : What a model makes of growing prefixes.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from medfusion_sdk import make_prefixes
    >>> table = pd.DataFrame({"vitals": [np.zeros((2, 48)), np.zeros((2, 20))]}, index=["a", "b"])
    >>> prefixes, stays = make_prefixes(table, [6, 24])
    >>> prefixes["vitals"].map(np.shape).to_dict()
    {('a', 6): (2, 6), ('a', 24): (2, 24), ('b', 6): (2, 6), ('b', 24): (2, 20)}
    """
    table, names, cells, n_steps = read_table(X, columns)
    ends = list(steps)
    if not ends:
        raise ParameterError("steps is empty; name one step at least to cut after.")
    for end in ends:
        check_sizes(steps=end)
    places = [(row, 0, min(end, length)) for row, length in enumerate(n_steps) for end in ends]
    prefixes, groups = cut_series(table, cells, places, ends * len(table), PREFIX_LEVEL)
    others = prefixes.drop(columns=names).notna().any(axis=1)
    known = (others | prefixes[names].notna().any(axis=1)).to_numpy()
    if not known.any():
        raise DataError(f"nothing was observed in the first {max(ends)} steps of any row.")
    return prefixes[known], groups[known]
