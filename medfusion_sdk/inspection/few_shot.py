"""Scores against the number of labelled rows."""

from __future__ import annotations

from typing import Any, Self

import pandas as pd

from medfusion_sdk.inspection._axes import axes

__all__ = ["FewShotDisplay"]


class FewShotDisplay:
    """The k-shot curve: one line per representation, with its interval.

    Parameters
    ----------
    table : DataFrame
        From :func:`~medfusion_sdk.model_selection.few_shot_table`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the lines.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from medfusion_sdk.inspection import FewShotDisplay
    >>> from medfusion_sdk.model_selection import few_shot_table
    >>> X, y = load_iris(return_X_y=True)
    >>> table = few_shot_table({"PCA": PCA(2)}, X, y, shots=(2, 10), n_draws=2, random_state=0)
    >>> FewShotDisplay(table).plot().ax_.get_xlabel()
    'labelled rows per class'
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        FewShotDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        ax = axes(ax)
        for model, rows in self.table.groupby("model", sort=False):
            shots = rows.index.get_level_values("shots")
            ax.plot(shots, rows["score"], marker="o", label=model)
            ax.fill_between(shots, rows["low"], rows["high"], alpha=0.15)
        shots = self.table.index.unique("shots")
        ax.set_xscale("log")
        ax.set_xticks(shots, shots)
        ax.minorticks_off()
        ax.set(xlabel="labelled rows per class", ylabel="macro AUROC")
        ax.legend(loc="lower right")
        self.ax_, self.figure_ = ax, ax.figure
        return self
