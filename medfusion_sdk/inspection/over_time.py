"""What a model makes of series as they grow, hour by hour."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd

from medfusion_sdk.exceptions import ModalityWarning, ParameterError
from medfusion_sdk.inspection._wrapped import explained
from medfusion_sdk.readers.prefixes import make_prefixes

__all__ = ["explain_over_time"]


def explain_over_time(
    estimator: Any,
    X: pd.DataFrame,
    steps: Sequence[int],
    *,
    columns: Sequence[Any] | None = None,
    quantities: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Explain each row as it was known after some steps of its series.

    Parameters
    ----------
    estimator : object
        Fitted, with ``explain``. One fitted on whole series takes a short past for one in which
        little was measured: fit it on prefixes (see :func:`~medfusion_sdk.make_prefixes`) to
        read what it says of them as a prediction.
    X : DataFrame
        Cohort table that the estimator reads.
    steps : sequence of int
        After how many steps; a shorter series stays as it is.
    columns : sequence of column names, default=None
        The series that grow; by default all columns of arrays.
    quantities : sequence of str, default=None
        What to keep of the explanations; by default all.

    Returns
    -------
    DataFrame
        What ``explain`` returns, with a column ``step`` after ``row``. A row of which nothing was
        known yet after some steps has no lines there.

    Raises
    ------
    ModalityError
        If there is no series, or no column of that name.
    SignalError
        For cells that aren't series, or series of a row that differ in steps.
    ParameterError
        If `steps` has a value that it can't have, or nothing told is among `quantities`.
    DataError
        If nothing is known of any row.

    See Also
    --------
    WeightsOverTimeDisplay : Draws it.

    Examples
    --------
    >>> from medfusion_sdk import AMFNClassifier
    >>> from medfusion_sdk.datasets import make_icu_cohort
    >>> from medfusion_sdk.inspection import explain_over_time
    >>> cohort = make_icu_cohort(n_stays=40, random_state=0)
    >>> model = AMFNClassifier(max_epochs=1, ensemble_size=1, random_state=0)
    >>> model = model.fit(cohort.data, cohort.target)
    >>> told = explain_over_time(model, cohort.data[:5], [6, 48], quantities=["entropy"])
    >>> list(told.columns[:4]), len(told)
    (['row', 'step', 'quantity', 'modality'], 10)
    """
    # In one call: a modality is then warned of only if no row has it even at the end.
    prefixes, _ = make_prefixes(X, steps, columns=columns)
    with warnings.catch_warnings():
        if len(X) == 1:  # one patient alone often lacks something
            warnings.simplefilter("ignore", ModalityWarning)
        told = explained(estimator, prefixes)
    if quantities is not None:
        told = told[told["quantity"].isin(quantities)]
        if told.empty:
            raise ParameterError(f"nothing is told of quantities={list(quantities)}.")
    # A table of several index levels has as many more in its prefixes.
    labels = [row[:-1] if len(row) > 2 else row[0] for row in told["row"]]
    after = [row[-1] for row in told["row"]]
    rest = told.drop(columns="row").reset_index(drop=True)
    place = {
        "row": pd.Series(labels, name="row", dtype=object if X.index.nlevels > 1 else None),
        "step": pd.Series(after, name="step"),
    }
    return pd.concat([pd.DataFrame(place), rest], axis=1)
