"""How much each modality takes from each other one, as a map."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from medfusion_sdk.inspection._axes import axes
from medfusion_sdk.inspection._explained import defined_mean, pairs_of, token_map
from medfusion_sdk.inspection._wrapped import explained

__all__ = ["AttentionMapDisplay"]


class AttentionMapDisplay:
    """Map of what modalities (lines) take from sources (columns), averaged over rows.

    Each number is the mean over the rows that have both modalities. Of a single row a line sums
    to one.

    Parameters
    ----------
    values : DataFrame of shape (M, M), or (n_tokens, n_sources)
        From modality, or token of a prompt, (index) to source (columns).
    label : str, default="attention"
        What the numbers are.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The map.
    text_ : ndarray of the shape of `values`
        Its numbers, as matplotlib Text.
    ax_ : matplotlib Axes
        Axes with the map.
    figure_ : matplotlib Figure
        Figure that holds them.

    See Also
    --------
    ModalityGraphDisplay : Both directions of a pair as one edge.

    Examples
    --------
    >>> import pandas as pd
    >>> from medfusion_sdk.inspection import AttentionMapDisplay
    >>> names = ["ecg", "note"]
    >>> display = AttentionMapDisplay(pd.DataFrame([[0.7, 0.3], [0.1, 0.9]], names, names)).plot()
    >>> display.ax_.get_xlabel(), display.ax_.get_ylabel()
    ('source', 'modality')
    """

    def __init__(self, values: pd.DataFrame, *, label: str = "attention") -> None:
        self.values = values
        self.label = label

    @classmethod
    def from_explanation(
        cls,
        told: pd.DataFrame,
        *,
        quantity: str = "attention",
        head: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw what an estimator explained.

        Parameters
        ----------
        told : DataFrame
            From ``explain``; that of a single row draws that row's map.
        quantity : str, default="attention"
            A quantity told by modality and source, such as AMFN's "graph", or by token and
            source: TGMM's "prompt".
        head : object, optional
            Which head of the attention; by default their mean.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        AttentionMapDisplay
            The display.

        Raises
        ------
        ParameterError
            If the explanation has no such quantity or head.
        """
        tokens = token_map(told, quantity)
        if tokens is not None:
            return cls(tokens, label=quantity).plot(ax=ax)
        pairs, names, _ = pairs_of(told, quantity, head)
        label = quantity if head is None else f"{quantity}, head {head}"
        return cls(pd.DataFrame(defined_mean(pairs), names, names), label=label).plot(ax=ax)

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
        AttentionMapDisplay
            The display.
        """
        return cls.from_explanation(explained(estimator, X), ax=ax, **options)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        AttentionMapDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        height, width = (0.7 * n for n in self.values.shape)
        ax = axes(ax, figsize=(width + 2.2, height + 1.2))
        numbers = self.values.to_numpy(dtype=float)
        most = float(np.nanmax(numbers, initial=0.0)) or 1.0
        self.image_ = ax.imshow(numbers, cmap="Blues", vmin=0.0, vmax=most)
        self.text_ = np.empty(numbers.shape, dtype=object)
        for place, number in np.ndenumerate(numbers):
            # Dark on light and light on dark.
            colour = "white" if number > 0.6 * most else "black"
            shown = "–" if np.isnan(number) else f"{number:.2f}"
            self.text_[place] = ax.text(*place[::-1], shown, ha="center", va="center", color=colour)
        ax.set_xticks(range(numbers.shape[1]), self.values.columns, rotation=45, ha="right")
        ax.set_yticks(range(numbers.shape[0]), self.values.index)
        ax.set(xlabel="source", ylabel=self.values.index.name or "modality")
        ax.figure.colorbar(self.image_, ax=ax, label=self.label)
        self.ax_, self.figure_ = ax, ax.figure
        return self
