"""Whether a resample has what a metric needs: every class, label or event that all rows have."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.multiclass import type_of_target

__all__ = ["on_resample"]

# How balanced_accuracy_score says that a class is lacking.
_LACKS_CLASS = "y_pred contains classes not in y_true"


def on_resample(metric: Callable[..., Any], y_true: Any, y_score: Any) -> Callable[..., float]:
    """Return the metric for resamples of these rows, NaN where one of them can't be compared.

    That is where the metric fails or warns that it isn't defined, and didn't on all rows; and for
    means over classes, where one of the classes is lacking.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        metric(y_true, y_score)
    strict = not any(_is_undefined(warning.message) for warning in said)
    classes = _classes(y_true) if _averages_classes(metric) else None

    def value(y: Any, score: Any) -> float:
        if classes is not None and len(np.unique(np.asarray(y))) < len(classes):
            return float("nan")
        with warnings.catch_warnings():
            action: Literal["error", "ignore"] = "error" if strict else "ignore"
            warnings.simplefilter(action, UndefinedMetricWarning)
            warnings.filterwarnings(action, message=_LACKS_CLASS)
            try:
                return metric(y, score)
            except UserWarning as warning:
                if not _is_undefined(warning):
                    raise
                return float("nan")
            except ValueError:
                # All rows could be scored: this resample lacks something.
                return float("nan")

    return value


def _is_undefined(warning: Any) -> bool:
    return isinstance(warning, UndefinedMetricWarning) or _LACKS_CLASS in str(warning)


def _classes(y_true: Any) -> np.ndarray | None:
    return np.unique(y_true) if type_of_target(y_true) in ("binary", "multiclass") else None


def _averages_classes(metric: Any) -> bool:
    """Whether it is a mean over classes, or a scorer of one, as ``average="macro"`` says."""
    if isinstance(metric, partial):
        inside = [metric.func, *metric.args]
        return metric.keywords.get("average") == "macro" or any(map(_averages_classes, inside))
    scored = getattr(metric, "_score_func", metric)
    options = getattr(metric, "_kwargs", {})
    return scored is balanced_accuracy_score or options.get("average") == "macro"
