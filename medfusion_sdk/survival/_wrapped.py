"""Survival curves of an estimator inside a pipeline or a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if

__all__ = ["CURVES", "curve_method", "give_pipelines_curves"]

CURVES = ("predict_survival_function", "predict_cumulative_hazard_function")


def curve_method(estimator: Any, name: str) -> Callable[..., Any]:
    """Find a method that predicts curves, of an estimator or of what it wraps.

    Parameters
    ----------
    estimator : estimator
        Fitted: a model, a pipeline, a search.
    name : str
        One of ``CURVES``.

    Returns
    -------
    callable
        Takes the X that the outermost estimator takes.

    Raises
    ------
    AttributeError
        If nothing inside predicts curves.
    """
    if isinstance(estimator, Pipeline):
        inner = curve_method(estimator.steps[-1][1], name)
        return lambda X, **options: inner(_before_last(estimator, X), **options)
    if not hasattr(estimator, name):
        for part in ("best_estimator_", "estimator_"):
            if hasattr(estimator, part):
                return curve_method(getattr(estimator, part), name)
    return getattr(estimator, name)


def give_pipelines_curves() -> None:
    """Let scikit-learn's pipelines predict the curves of their last step.

    scikit-survival does the same when it is imported; whichever comes first, the methods are alike.
    """
    for name in CURVES:
        if name not in vars(Pipeline):
            setattr(Pipeline, name, _method(name))
    if "unique_times_" not in vars(Pipeline):
        Pipeline.unique_times_ = property(lambda self: self.steps[-1][1].unique_times_)


def _method(name: str) -> Any:
    def method(self: Pipeline, X: Any, **options: Any) -> Any:
        return curve_method(self, name)(X, **options)

    method.__name__ = name
    method.__doc__ = f"Transform X and call ``{name}`` of the last step."
    return available_if(lambda self: hasattr(self.steps[-1][1], name))(method)


def _before_last(pipeline: Pipeline, X: Any) -> Any:
    for _, step in pipeline.steps[:-1]:
        if step is not None and step != "passthrough":
            X = step.transform(X)
    return X
