"""Intervals of a score, differences between models, tables of models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import _num_samples

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.metrics._auroc import macro_auroc
from medfusion_sdk.metrics._resampling import Interval, Metric, Resamples
from medfusion_sdk.metrics._retrieval import row_scores

__all__ = ["bootstrap_interval", "paired_difference", "score_table"]

RandomState = int | np.random.Generator | None


def bootstrap_interval(
    metric: Metric,
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: RandomState = None,
) -> Interval:
    """Bootstrap interval of a metric, resampling whole patients.

    Rows of one patient resemble each other; resampling them one by one would make the interval too
    narrow.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_score) -> float``. :func:`macro_auroc`, :func:`recall_at_k` and
        :func:`lrap` are computed on all resamples at once; any other is called once per resample.
    y_true, y_score : array-like of n_samples rows
        Passed to ``metric`` row by row of the resample. Out-of-fold scores of a cross-validation
        are the usual case; the interval then holds for the models as they were fitted.
    groups : array-like of shape (n_samples,), default=None
        Patient of each row. By default each row is a patient of its own.
    n_resamples : int, default=1000
        Number of resamples. Those that lack a label, a class or an event that the metric needs
        don't count; ``n_resamples`` of the result says how many do.
    confidence_level : float, default=0.95
        Between 0 and 1.
    random_state : int, Generator or None, default=None
        Seed of the resamples.

    Returns
    -------
    Interval
        Estimate, bounds and standard error. A share that is 0 or 1 in every patient has the exact
        binomial bounds.

    Warns
    -----
    MedFusionWarning
        If more than 6 % of the resamples don't count.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk.metrics import bootstrap_interval, macro_auroc
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> score = y + rng.normal(size=200)
    >>> print(bootstrap_interval(macro_auroc, y, score, random_state=0))
    0.757 [0.690, 0.825]
    """
    check_aligned(y_true=y_true, y_score=y_score, groups=groups)
    resamples = Resamples(_num_samples(y_true), groups, n_resamples, confidence_level, random_state)
    estimate = float(metric(y_true, y_score))
    values = resamples.values(metric, y_true, y_score)
    return resamples.interval(estimate, values, share=row_scores(metric) is not None)


def paired_difference(
    metric: Metric,
    y_true: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: RandomState = None,
) -> Interval:
    """Interval of ``metric(a) - metric(b)``, both on the same resampled patients.

    What makes a patient hard is hard for both models, so the difference is known better than
    two separate intervals suggest.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_score) -> float``, as for :func:`bootstrap_interval`.
    y_true : array-like of n_samples rows
        Target.
    score_a, score_b : array-like of n_samples rows
        Scores of the two models for the same rows.
    groups : array-like of shape (n_samples,), default=None
        Patient of each row. By default each row is a patient of its own.
    n_resamples : int, default=1000
        Number of resamples.
    confidence_level : float, default=0.95
        Between 0 and 1.
    random_state : int, Generator or None, default=None
        Seed of the resamples.

    Returns
    -------
    Interval
        Of the difference; ``excludes(0)`` says whether it is beyond chance.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk.metrics import macro_auroc, paired_difference
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> good, poor = y + rng.normal(size=200), y + 3 * rng.normal(size=200)
    >>> paired_difference(macro_auroc, y, good, poor, random_state=0).excludes(0)
    True
    """
    check_aligned(y_true=y_true, score_a=score_a, score_b=score_b, groups=groups)
    resamples = Resamples(_num_samples(y_true), groups, n_resamples, confidence_level, random_state)
    estimate = float(metric(y_true, score_a)) - float(metric(y_true, score_b))
    values_a = resamples.values(metric, y_true, score_a)
    return resamples.interval(estimate, values_a - resamples.values(metric, y_true, score_b))


def score_table(
    y_true: ArrayLike,
    scores: Mapping[str, ArrayLike],
    *,
    reference: str | None = None,
    metric: Metric = macro_auroc,
    groups: ArrayLike | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Compare models on the same rows: score and interval, difference and interval.

    Parameters
    ----------
    y_true : array-like of n_samples rows
        Target.
    scores : mapping of str to array-like
        Scores of each model, in the order of the table.
    reference : str, default=None
        Name of the model that the others are compared with.
    metric : callable, default=macro_auroc
        ``metric(y_true, y_score) -> float``.
    groups : array-like of shape (n_samples,), default=None
        Patient of each row. By default each row is a patient of its own.
    n_resamples : int, default=1000
        Number of resamples, the same ones for all models.
    confidence_level : float, default=0.95
        Between 0 and 1.
    random_state : int, Generator or None, default=None
        Seed of the resamples.

    Returns
    -------
    DataFrame
        Indexed by ``model``: ``score``, ``low``, ``high``; with a reference also ``difference``
        (model minus reference), ``difference_low`` and ``difference_high``, NaN for the
        reference itself.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk.metrics import score_table
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=300)
    >>> scores = {"ecg": y + 2 * rng.normal(size=300), "both": y + rng.normal(size=300)}
    >>> score_table(y, scores, reference="ecg", random_state=0).round(2)
           score   low  high  difference  difference_low  difference_high
    model
    ecg     0.71  0.65  0.76         NaN             NaN              NaN
    both    0.81  0.76  0.86        0.11            0.03             0.18
    """
    if reference is not None and reference not in scores:
        raise ParameterError(f"reference={reference!r} is none of the models {list(scores)}.")
    for name, score in scores.items():
        check_aligned(**{"y_true": y_true, f"score of {name}": score, "groups": groups})
    resamples = Resamples(_num_samples(y_true), groups, n_resamples, confidence_level, random_state)
    estimates = {name: float(metric(y_true, score)) for name, score in scores.items()}
    values = {name: resamples.values(metric, y_true, score) for name, score in scores.items()}
    share = row_scores(metric) is not None
    return interval_table(resamples, estimates, values, reference, share=share)


def interval_table(
    resamples: Resamples,
    estimates: Mapping[str, float],
    values: Mapping[str, np.ndarray],
    reference: str | None,
    *,
    share: bool = False,
) -> pd.DataFrame:
    """Make the table of models from their scores on all rows and on each resample."""
    if np.isnan(list(estimates.values())).all():
        raise DataError(
            f"no score of {list(estimates)} is defined on these rows; a table of NaN would say "
            "nothing. The target may lack a class or an event among the rows that are scored."
        )
    rows = {}
    for name, estimate in estimates.items():
        own = resamples.interval(estimate, values[name], share=share)
        rows[name] = {"score": own.estimate, "low": own.low, "high": own.high}
        if reference is not None and name != reference:
            difference = resamples.interval(
                estimate - estimates[reference], values[name] - values[reference]
            )
            rows[name] |= {
                "difference": difference.estimate,
                "difference_low": difference.low,
                "difference_high": difference.high,
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
