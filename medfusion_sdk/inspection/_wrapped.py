"""What displays ask: our estimator inside a pipeline, a search or a calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from medfusion_sdk.exceptions import ParameterError

__all__ = ["explained", "innermost"]


def explained(estimator: Any, X: Any) -> pd.DataFrame:
    """Explain rows by what is inside; the mean over the fits that a calibration averages.

    Parameters
    ----------
    estimator : estimator
        Fitted: with ``explain``, or a pipeline, search or calibration around one that has it.
    X : DataFrame or array
        What the outermost estimator reads.

    Returns
    -------
    DataFrame
        As ``explain`` has it, of answers before any calibration.

    Raises
    ------
    ParameterError
        If nothing inside explains, or the fits tell different things.
    """
    fits = getattr(estimator, "calibrated_classifiers_", [])
    if len(fits) < 2:
        model, seen = innermost(estimator, X)
        return model.explain(seen)
    first, *others = (explained(fit.estimator, X) for fit in fits)
    lines = first.drop(columns="value")
    if not all(lines.equals(told.drop(columns="value")) for told in others):
        raise ParameterError(
            f"the {len(fits)} fits of this {type(estimator).__name__} read different modalities "
            "or labels: pass one, .calibrated_classifiers_[i].estimator."
        )
    values = np.mean([told["value"].to_numpy() for told in (first, *others)], axis=0)
    return first.assign(value=values)


def innermost(estimator: Any, X: Any = None, *, method: str = "explain") -> tuple[Any, Any]:
    """Unwrap a fitted estimator, and bring X to what it reads by the steps before it.

    Parameters
    ----------
    estimator : estimator
        Fitted: with the method, or a pipeline, search or calibration around one that has it.
    X : DataFrame or array, optional
        What the outermost estimator reads.
    method : str, default="explain"
        What the display asks.

    Returns
    -------
    estimator : estimator
        The one that has the method.
    X : DataFrame or array
        What it reads.

    Raises
    ------
    ParameterError
        If nothing inside has the method; or a calibration holds several fits, or a pipeline
        or search isn't fitted.
    """
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            for _, step in estimator.steps[:-1]:
                if X is not None and step is not None and step != "passthrough":
                    X = step.transform(X)
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, method):
            return estimator, X
        else:
            estimator = _inside(estimator, method)


def _inside(estimator: Any, method: str) -> Any:
    """Take one wrapping off."""
    fits = getattr(estimator, "calibrated_classifiers_", None)
    if fits is not None:
        if len(fits) > 1:
            raise ParameterError(
                f"this {type(estimator).__name__} averages {len(fits)} fits, each with its "
                "own: pass .calibrated_classifiers_[i].estimator, or fit it with "
                "ensemble=False."
            )
        return fits[0].estimator
    if hasattr(estimator, "estimator_"):
        return estimator.estimator_
    if isinstance(estimator, FrozenEstimator):
        return estimator.estimator
    raise ParameterError(
        f"{type(estimator).__name__} has no {method}, nor has anything inside it that is fitted. "
        "Fit it (a search with refit=True) before it is shown."
    )
