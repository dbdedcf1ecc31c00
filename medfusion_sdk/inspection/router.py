"""How much each expert of a mixture is asked."""

from __future__ import annotations

from typing import Any, Self

import pandas as pd

from medfusion_sdk.inspection._axes import axes
from medfusion_sdk.inspection._explained import table_of
from medfusion_sdk.inspection._wrapped import explained

__all__ = ["RouterDisplay"]


class RouterDisplay:
    """Router weights by modality subset.

    Parameters
    ----------
    weights : DataFrame of shape (n_samples, n_experts)
        One column per subset of modalities, such as "ecg+note".

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the bars.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> import pandas as pd
    >>> display = RouterDisplay(pd.DataFrame({"ecg": [0.2], "ecg+note": [0.8]}))
    >>> display.weights.mean().idxmax()
    'ecg+note'
    """

    def __init__(self, weights: pd.DataFrame) -> None:
        self.weights = weights

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None) -> Self:
        """Ask a fitted AdaCoMed and draw.

        Parameters
        ----------
        estimator : AdaCoMedClassifier
            Fitted.
        X : DataFrame or array of shape (n_samples, n_features)
            Block table.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        RouterDisplay
            The display.
        """
        return cls(table_of(explained(estimator, X), "router", ["modality"])).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw mean weights with the spread over rows.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        RouterDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        ax = axes(ax)
        order = self.weights.mean().sort_values().index
        mean, spread = self.weights[order].mean(), self.weights[order].std().fillna(0.0)
        ax.barh(order, mean, xerr=spread, color="tab:blue", ecolor="tab:gray")
        ax.axvline(1 / len(order), color="black", linestyle=":", label="equal weights")
        ax.set(
            xlabel="router weight (not an effect on the answer),\nmean and deviation over rows",
            xlim=(0, None),
        )
        ax.legend(loc="lower right")
        self.ax_, self.figure_ = ax, ax.figure
        return self
