"""Which modalities a model took for alike, drawn as a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.inspection._axes import axes
from medfusion_sdk.inspection._explained import defined_mean, group_rows, pairs_of, weights_of
from medfusion_sdk.inspection._wrapped import explained

__all__ = ["ModalityGraphDisplay"]

# Circles have radius one; from the middle of one to the middle of the next.
_APART = 4.4
_NODE_AREA = 1100.0
_LEAST_NODE = 0.1
_EDGE_WIDTH = 7.0


class ModalityGraphDisplay:
    """Mean graph of the modalities, in a circle; groups of rows side by side.

    An edge is as wide and dark as what its two modalities take from each other on average, over
    the rows that have both. A node is as large as its weight over the rows that have it, and
    hollow where no row does. What a modality keeps of itself isn't drawn.

    Parameters
    ----------
    graphs : mapping of str to DataFrame of shape (M, M)
        Adjacency from modality (index) to source (columns) under the title of each group.
    weights : DataFrame of shape (n_groups, M), optional
        Weights of the modalities in each group.

    Attributes
    ----------
    edges_ : list of matplotlib LineCollection
        Edges of each group.
    ax_ : matplotlib Axes
        Axes with the graphs.
    figure_ : matplotlib Figure
        Figure that holds them.

    See Also
    --------
    AttentionMapDisplay : The same numbers as a table, in both directions.

    Examples
    --------
    >>> import pandas as pd
    >>> from medfusion_sdk.inspection import ModalityGraphDisplay
    >>> names = ["vitals", "labs", "note"]
    >>> graph = pd.DataFrame([[0.6, 0.4, 0], [0.4, 0.5, 0.1], [0, 0.2, 0.8]], names, names)
    >>> display = ModalityGraphDisplay({"all": graph}).plot()
    >>> display.edges_[0].get_array().round(2).tolist()
    [0.4, 0.0, 0.15]
    """

    def __init__(
        self, graphs: Mapping[str, pd.DataFrame], weights: pd.DataFrame | None = None
    ) -> None:
        self.graphs = graphs
        self.weights = weights

    @classmethod
    def from_explanation(
        cls,
        told: pd.DataFrame,
        *,
        by: Any = None,
        quantity: str = "graph",
        weights: str | None = "gate",
        ax: Any = None,
    ) -> Self:
        """Draw what an estimator explained.

        Parameters
        ----------
        told : DataFrame
            From ``explain``; that of a single row draws that row's graph.
        by : array-like of shape (n_rows,), optional
            Group of each row, such as its outcome.
        quantity : str, default="graph"
            What the edges are: a quantity told by modality and source.
        weights : str or None, default="gate"
            What the nodes' sizes are: a quantity told by modality, such as AMFN's "fusion"
            weights or AdaCoMed's "responsibility"; None for equal ones.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        ModalityGraphDisplay
            The display.

        Raises
        ------
        ParameterError
            If the explanation has no such quantity, or `by` another length.
        """
        pairs, names, rows = pairs_of(told, quantity)
        groups = group_rows(rows, by)
        graphs = {
            title: pd.DataFrame(defined_mean(pairs[members]), names, names)
            for title, members in groups.items()
        }
        sizes = None
        if weights is not None:
            each = weights_of(told, weights)[names]
            sizes = pd.DataFrame({title: each.iloc[own].mean() for title, own in groups.items()}).T
        return cls(graphs, sizes).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None, **options: Any) -> Self:
        """Ask a fitted estimator and draw.

        Parameters
        ----------
        estimator : AMFNClassifier, AMFNRegressor
            Fitted; or any whose ``explain`` tells a graph of modalities.
        X : DataFrame or array
            Rows to explain.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.
        **options : object
            Of :meth:`from_explanation`.

        Returns
        -------
        ModalityGraphDisplay
            The display.
        """
        return cls.from_explanation(explained(estimator, X), ax=ax, **options)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the graphs.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        ModalityGraphDisplay
            The display itself.

        Raises
        ------
        ParameterError
            If there is no graph.
        MissingDependencyError
            Without matplotlib.
        """
        if not self.graphs:
            raise ParameterError("there is no graph to draw.")
        ax = axes(ax, figsize=(4.2 * len(self.graphs) + 0.8, 4))
        both = {title: _undirected(graph) for title, graph in self.graphs.items()}
        most = max(float(edges.max(initial=0.0)) for edges in both.values())
        sizes = np.ones(1) if self.weights is None else self.weights.to_numpy(dtype=float)
        self.edges_ = []
        for column, (title, graph) in enumerate(self.graphs.items()):
            middle = np.array([column * _APART, 0.0])
            places = middle + _circle(len(graph))
            self.edges_.append(_draw_edges(ax, places, both[title], most or 1.0))
            own = None if self.weights is None else self.weights.loc[title]
            _draw_nodes(ax, places, list(graph.index), own, float(np.nanmax(sizes)))
            ax.text(middle[0], 1.85, title, ha="center", va="bottom", fontsize="large")
        ax.set(xlim=(-2.2, _APART * (len(both) - 1) + 2.2), ylim=(-1.8, 2.2), aspect="equal")
        ax.set_axis_off()
        ax.figure.colorbar(self.edges_[0], ax=ax, label="mean adjacency", shrink=0.7)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _circle(n_nodes: int) -> np.ndarray:
    """Places on a circle of radius one, clockwise from the top."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(n_nodes) / n_nodes
    return np.column_stack([np.cos(angles), np.sin(angles)])


def _undirected(graph: pd.DataFrame) -> np.ndarray:
    """Mean of both directions of each pair; zero where no row has both."""
    one, other = np.triu_indices(len(graph), k=1)
    values = graph.to_numpy(dtype=float)
    return np.nan_to_num((values + values.T)[one, other] / 2)


def _draw_edges(ax: Any, places: np.ndarray, values: np.ndarray, most: float) -> Any:
    from matplotlib.collections import LineCollection

    one, other = np.triu_indices(len(places), k=1)
    lines = LineCollection(
        list(np.stack([places[one], places[other]], axis=1)),
        linewidths=_EDGE_WIDTH * values / most,
        cmap="Blues",
        capstyle="round",
        zorder=1,
    )
    lines.set_array(values)
    lines.set_clim(0.0, most)
    return ax.add_collection(lines)


def _draw_nodes(
    ax: Any, places: np.ndarray, names: list[Any], weights: pd.Series | None, heaviest: float
) -> None:
    middle = places.mean(axis=0)
    for m, (name, place) in enumerate(zip(names, places, strict=True)):
        weight = heaviest if weights is None else float(weights[name])
        absent = np.isnan(weight)
        colour = f"C{m % 10}"
        ax.scatter(
            *place,
            s=_NODE_AREA * (_LEAST_NODE if absent else max(weight / heaviest, _LEAST_NODE)),
            facecolor="white" if absent else colour,
            edgecolor=colour,
            linewidth=1.5,
            zorder=2,
        )
        out = place - middle
        side = "center" if abs(out[0]) < 0.1 else "left" if out[0] > 0 else "right"
        label = str(name) if weights is None or absent else f"{name}\n{weight:.2f}"
        ax.text(*(place + [0.32, 0.5] * out), label, ha=side, va="center")
