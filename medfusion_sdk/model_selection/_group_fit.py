"""Fit an estimator, whatever it is wrapped in, and tell it which rows are one patient's."""

from __future__ import annotations

from typing import Any

from sklearn import config_context
from sklearn.utils.metadata_routing import get_routing_for_object

__all__ = ["fit_with_groups"]


def fit_with_groups(estimator: Any, X: Any, y: Any, groups: Any) -> Any:
    """Fit an estimator, with groups where it or something inside of it takes them.

    Parameters
    ----------
    estimator : estimator
        To be fitted: a model, a pipeline, a search; a clone that is nobody else's, since
        what takes groups inside is told to ask for them.
    X, y : object
        Rows and targets.
    groups : array-like of shape (n,) or None
        Patient of each row.

    Returns
    -------
    estimator
        The fitted one.
    """
    if groups is None:
        return estimator.fit(X, y)
    with config_context(enable_metadata_routing=True):
        parts = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else ()
        for part in (estimator, *parts):
            _ask_for_groups(part)
        if get_routing_for_object(estimator).consumes("fit", ["groups"]):
            return estimator.fit(X, y, groups=groups)
    return estimator.fit(X, y)


def _ask_for_groups(part: Any) -> None:
    """Let a model's fit ask for groups, unless its user has decided."""
    if not hasattr(part, "set_fit_request") or isinstance(part, type):
        return
    asked = getattr(get_routing_for_object(part), "fit", None)  # of a router there is none
    if asked is not None and asked.requests.get("groups", False) is None:
        part.set_fit_request(groups=True)
