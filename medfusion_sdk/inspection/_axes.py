"""Where displays draw."""

from __future__ import annotations

from typing import Any

from medfusion_sdk.exceptions import MissingDependencyError

__all__ = ["axes"]


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
