"""Whether a regressor's intervals hold the truth as often as they say."""

from __future__ import annotations

from typing import Any, Self

import pandas as pd

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.inspection._axes import axes
from medfusion_sdk.inspection._wrapped import innermost
from medfusion_sdk.metrics import coverage_table

__all__ = ["CoverageDisplay"]

_IDEAL = "as often as said"


class CoverageDisplay:
    """Calibration of predicted intervals: how often they hold the truth against their level.

    Below the diagonal a regressor is too sure of itself, above it too cautious. For probabilities
    there is :class:`sklearn.calibration.CalibrationDisplay`.

    Parameters
    ----------
    table : DataFrame
        From :func:`~medfusion_sdk.metrics.coverage_table`.
    name : str, optional
        What the legend calls the model.

    Attributes
    ----------
    line_ : matplotlib Line2D
        Coverage against level.
    ax_ : matplotlib Axes
        Axes with the line.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import BayesianRidge
    >>> from medfusion_sdk.inspection import CoverageDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X[:, 0] + rng.normal(size=200)
    >>> model = BayesianRidge().fit(X[:100], y[:100])
    >>> display = CoverageDisplay.from_estimator(model, X[100:], y[100:], random_state=0)
    >>> round(float(display.table.loc[0.9, "coverage"]), 2)
    0.95
    """

    def __init__(self, table: pd.DataFrame, *, name: str | None = None) -> None:
        self.table = table
        self.name = name

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        mean: Any,
        std: Any,
        *,
        name: str | None = None,
        ax: Any = None,
        **options: Any,
    ) -> Self:
        """Compare predicted intervals with the truth and draw.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
            Truth.
        mean, std : array-like of the same shape
            Predictions and their standard deviations.
        name : str, optional
            What the legend calls the model.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default. The lines of several models fit in one.
        **options : object
            Of :func:`~medfusion_sdk.metrics.coverage_table`, such as ``groups``.

        Returns
        -------
        CoverageDisplay
            The display.
        """
        return cls(coverage_table(y_true, mean, std, **options), name=name).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        name: str | None = None,
        ax: Any = None,
        **options: Any,
    ) -> Self:
        """Ask a fitted regressor and draw.

        Parameters
        ----------
        estimator : AMFNRegressor
            Fitted; or any regressor with ``predict(X, return_std=True)``.
        X : DataFrame or array
            Rows that it hasn't seen.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their truth.
        name : str, optional
            What the legend calls the model; by default its class.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default. The lines of several models fit in one.
        **options : object
            Of :func:`~medfusion_sdk.metrics.coverage_table`, such as ``groups``.

        Returns
        -------
        CoverageDisplay
            The display.
        """
        check_aligned(X=X, y=y)
        estimator, X = innermost(estimator, X, method="predict")
        mean, std = estimator.predict(X, return_std=True)
        name = type(estimator).__name__ if name is None else name
        return cls.from_predictions(y, mean, std, name=name, ax=ax, **options)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the line, with the interval of each point.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        CoverageDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        ax = axes(ax, figsize=(4.4, 4.2))
        if _IDEAL not in [line.get_label() for line in ax.lines]:
            ax.plot([0, 1], [0, 1], color="gray", linestyle=":", label=_IDEAL)
        levels = self.table.index
        (self.line_,) = ax.plot(levels, self.table["coverage"], marker="o", label=self.name)
        colour = self.line_.get_color()
        ax.fill_between(levels, self.table["low"], self.table["high"], color=colour, alpha=0.15)
        ax.set(xlabel="level of the intervals", ylabel="share of the truth within them")
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        ax.legend(loc="upper left")
        self.ax_, self.figure_ = ax, ax.figure
        return self
