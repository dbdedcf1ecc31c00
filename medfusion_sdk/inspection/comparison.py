"""Models on the same folds: scores and differences with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.inspection._axes import axes

__all__ = ["ComparisonDisplay"]


class ComparisonDisplay:
    """One line per model: its score with its interval, or its difference to the reference.

    Parameters
    ----------
    table : DataFrame
        From :func:`~medfusion_sdk.model_selection.compare` or
        :func:`~medfusion_sdk.metrics.score_table`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the lines.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from medfusion_sdk.inspection import ComparisonDisplay
    >>> from medfusion_sdk.model_selection import compare
    >>> X, y = load_iris(return_X_y=True)
    >>> table = compare([DummyClassifier(), GaussianNB()], X, y, random_state=0)
    >>> [label.get_text() for label in ComparisonDisplay(table).plot().ax_.get_yticklabels()]
    ['DummyClassifier', 'GaussianNB']
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    @classmethod
    def from_estimators(
        cls, estimators: Any, X: Any, y: Any, *, ax: Any = None, **options: Any
    ) -> Self:
        """Compare and draw.

        Parameters
        ----------
        estimators : mapping of str to estimator, or sequence of estimators
            See :func:`~medfusion_sdk.model_selection.compare`.
        X, y : object
            Rows and targets.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.
        **options : object
            For :func:`~medfusion_sdk.model_selection.compare`.

        Returns
        -------
        ComparisonDisplay
            The display.
        """
        from medfusion_sdk.model_selection import compare

        return cls(compare(estimators, X, y, **options)).plot(ax=ax)

    def plot(self, *, ax: Any = None, difference: bool = False) -> Self:
        """Draw the lines, the table's first model on top.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.
        difference : bool, default=False
            Draw differences to the reference instead of scores; the reference lies at 0.

        Returns
        -------
        ComparisonDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        ParameterError
            For differences of a table without a reference.
        """
        if difference and "difference" not in self.table:
            raise ParameterError("the table has no differences: name a reference in compare().")
        ax = axes(ax)
        names = ("difference", "difference_low", "difference_high")
        columns = names if difference else ("score", "low", "high")
        middle, low, high = (self.table[name].fillna(0.0).to_numpy() for name in columns)
        places = np.arange(len(self.table))
        ax.errorbar(middle, places, xerr=_reach(middle, low, high), fmt="o", capsize=3)
        if difference:
            ax.axvline(0.0, color="grey", linestyle=":")
        ax.set_yticks(places, [str(name) for name in self.table.index])
        ax.invert_yaxis()
        ax.set_xlabel("difference to the reference" if difference else "score")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _reach(middle: np.ndarray, low: np.ndarray, high: np.ndarray) -> Sequence[np.ndarray]:
    """Lengths of the bars to both sides; a skewed interval may not hold its own estimate."""
    return [np.maximum(middle - low, 0.0), np.maximum(high - middle, 0.0)]
