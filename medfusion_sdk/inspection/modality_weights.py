"""How much each modality counts, over the rows of a cohort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.inspection._axes import axes, from_zero
from medfusion_sdk.inspection._explained import (
    group_rows,
    label_of,
    name_quantity,
    weights_of,
)
from medfusion_sdk.inspection._wrapped import explained

__all__ = ["ModalityWeightsDisplay"]


class ModalityWeightsDisplay:
    """Boxes of each modality's weights over rows, groups of rows beside each other.

    A box holds the middle half of the rows that have the modality, with their median; below its
    name stands which share of all rows they are.

    Parameters
    ----------
    weights : mapping of str to DataFrame of shape (n_rows, M)
        Weights of each group's rows under its title; NaN where a row lacks the modality.
    label : str, default="weight"
        What the numbers are.

    Attributes
    ----------
    boxes_ : dict of str to dict
        What matplotlib's boxplot returned for each group.
    ax_ : matplotlib Axes
        Axes with the boxes.
    figure_ : matplotlib Figure
        Figure that holds them.

    See Also
    --------
    WeightsOverTimeDisplay : How the weights move as a stay goes on.

    Examples
    --------
    >>> import pandas as pd
    >>> from medfusion_sdk.inspection import ModalityWeightsDisplay
    >>> weights = pd.DataFrame({"vitals": [0.7, 0.6, 1.0], "labs": [0.3, 0.4, None]})
    >>> display = ModalityWeightsDisplay({"all": weights}).plot()
    >>> [label.get_text().split("\\n") for label in display.ax_.get_xticklabels()]
    [['vitals', '100 %'], ['labs', '67 %']]
    """

    def __init__(self, weights: Mapping[str, pd.DataFrame], *, label: str = "weight") -> None:
        self.weights = weights
        self.label = label

    @classmethod
    def from_explanation(
        cls,
        told: pd.DataFrame,
        *,
        quantity: str = "gate",
        label: Any = None,
        by: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw what an estimator explained.

        Parameters
        ----------
        told : DataFrame
            From ``explain``.
        quantity : str, default="gate"
            A quantity told by modality: AMFN's importance "gate", its "fusion" weights or the
            "contribution" to a score, AdaCoMed's "responsibility", TGMM's "gate", or "drop_one".
        label : object, optional
            To whose score, where a quantity is told by label. By default the second of two, and
            the one there is where there is one.
        by : array-like of shape (n_rows,), optional
            Group of each row, such as its outcome.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        ModalityWeightsDisplay
            The display.

        Raises
        ------
        ParameterError
            If the explanation has no such quantity, it isn't clear of which label, or `by` has
            another length.
        """
        each = weights_of(told, quantity, label)
        weights = {title: each.iloc[own] for title, own in group_rows(each.index, by).items()}
        axis = name_quantity(quantity, label_of(told, quantity, label))
        return cls(weights, label=axis).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None, **options: Any) -> Self:
        """Ask a fitted estimator and draw.

        Parameters
        ----------
        estimator : AMFNClassifier, AMFNRegressor, AdaCoMedClassifier, TGMMClassifier
            Fitted; or any whose ``explain`` tells such a quantity.
        X : DataFrame or array
            Rows to explain.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.
        **options : object
            Of :meth:`from_explanation`.

        Returns
        -------
        ModalityWeightsDisplay
            The display.
        """
        return cls.from_explanation(explained(estimator, X), ax=ax, **options)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the boxes.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        ModalityWeightsDisplay
            The display itself.

        Raises
        ------
        ParameterError
            If there is nothing to draw.
        MissingDependencyError
            Without matplotlib.
        """
        if not self.weights:
            raise ParameterError("there are no weights to draw.")
        everyone = pd.concat(list(self.weights.values()))
        names, n_groups = list(everyone.columns), len(self.weights)
        ax = axes(ax, figsize=(max(4.0, 0.5 * len(names) * (n_groups + 1)), 3.8))
        width = 0.8 / n_groups
        self.boxes_ = {}
        for g, (title, own) in enumerate(self.weights.items()):
            places = np.arange(len(names)) + (g - (n_groups - 1) / 2) * width
            self.boxes_[title] = boxes = ax.boxplot(
                [own[name].dropna() for name in names],
                positions=places,
                widths=0.8 * width,
                patch_artist=True,
                manage_ticks=False,
                flierprops={"marker": ".", "markersize": 3, "alpha": 0.4},
                medianprops={"color": "black"},
            )
            for box in boxes["boxes"]:
                box.set_facecolor(f"C{g % 10}")
                box.set_alpha(0.6)
        shares = 100 * everyone.notna().mean()
        ax.set_xticks(range(len(names)), [f"{name}\n{shares[name]:.0f} %" for name in names])
        ax.set_ylabel(self.label)
        from_zero(ax, everyone.to_numpy())
        if n_groups > 1:
            ax.legend([boxes["boxes"][0] for boxes in self.boxes_.values()], self.boxes_)
        self.ax_, self.figure_ = ax, ax.figure
        return self
