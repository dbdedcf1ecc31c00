"""How far each attention head lets the other modality in."""

from __future__ import annotations

from typing import Any, Self

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk.estimators._dual_explanations import explain_gates
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.inspection._axes import axes
from medfusion_sdk.inspection._wrapped import innermost

__all__ = ["GateDisplay"]


class GateDisplay:
    """Map of a dual adapter's gates, layer by head.

    Parameters
    ----------
    gates : DataFrame of shape (n_layers, n_heads)
        Activated gates, between -1 and 1 for tanh; 0 keeps the other modality out.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The map.
    ax_ : matplotlib Axes
        Axes with the map.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> import pandas as pd
    >>> from medfusion_sdk.inspection import GateDisplay
    >>> GateDisplay(pd.DataFrame([[0.1, -0.4]], index=[5])).gates.shape
    (1, 2)
    """

    def __init__(self, gates: pd.DataFrame) -> None:
        self.gates = gates

    @classmethod
    def from_estimator(cls, estimator: Any, *, path: str = "both", ax: Any = None) -> Self:
        """Ask a fitted dual adapter and draw.

        Parameters
        ----------
        estimator : DualAdapterClassifier
            Fitted.
        path : {"both", "temporal", "textual"}, default="both"
            Whose gates: "both" where the paths share them.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        GateDisplay
            The display.

        Raises
        ------
        ParameterError
            If there are no gates of that path.
        """
        estimator, _ = innermost(estimator)
        check_is_fitted(estimator, "state_")
        told = explain_gates(estimator)
        if path not in set(told["path"]):
            raise ParameterError(f"path={path!r}: gates are those of {sorted(set(told['path']))}.")
        return cls(
            told[told["path"] == path].pivot(index="layer", columns="head", values="value")
        ).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        GateDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        ax = axes(ax)
        # One scale for every model, so that maps compare and gates near zero look closed.
        self.image_ = ax.imshow(self.gates, cmap="RdBu_r", vmin=-1.0, vmax=1.0, aspect="auto")
        ax.set(xlabel="head", ylabel="layer of the language model")
        ax.set_xticks(range(self.gates.shape[1]), self.gates.columns)
        ax.set_yticks(range(self.gates.shape[0]), self.gates.index)
        ax.figure.colorbar(self.image_, ax=ax, label="gate (0 keeps the other modality out)")
        self.ax_, self.figure_ = ax, ax.figure
        return self
