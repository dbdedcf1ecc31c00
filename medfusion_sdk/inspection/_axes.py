"""Where displays draw."""

from __future__ import annotations

from typing import Any

import numpy as np

from medfusion_sdk.exceptions import MissingDependencyError

__all__ = ["axes", "from_zero"]


def axes(ax: Any = None, **figure: Any) -> Any:
    """Return the user's axes, or new ones.

    Parameters
    ----------
    ax : matplotlib Axes, optional
        The user's.
    **figure : object
        How to make the figure of new ones, as ``figsize``.

    Returns
    -------
    matplotlib Axes
        Where to draw.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependencyError(
            "drawing needs matplotlib: pip install medfusion-sdk[plots]."
        ) from error
    return plt.subplots(layout="constrained", **figure)[1] if ax is None else ax


def from_zero(ax: Any, values: np.ndarray) -> None:
    """Begin the vertical axis at zero, or mark zero where values lie on both sides of it.

    Parameters
    ----------
    ax : matplotlib Axes
        Where they are drawn.
    values : ndarray
        What is drawn; NaN where nothing is.
    """
    if np.nanmin(values, initial=0.0) < 0:
        ax.axhline(0.0, color="black", linewidth=0.8, zorder=0)
    else:
        ax.set_ylim(0, None)
