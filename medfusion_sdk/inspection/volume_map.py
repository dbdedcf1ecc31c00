"""Which part of a volume speaks for a prediction, drawn over its slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from medfusion_sdk.exceptions import ModalityError, ParameterError
from medfusion_sdk.inspection._axes import axes
from medfusion_sdk.inspection._wrapped import innermost

__all__ = ["VolumeMapDisplay"]

# Of the largest value; weaker ones are left transparent.
_FAINT = 0.05
_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}


class VolumeMapDisplay:
    """Slices of a volume side by side, each with a map over it.

    Parameters
    ----------
    volume : ndarray of shape (D, H, W)
        What the model sees.
    values : ndarray of shape (D, H, W)
        The map; its sign is shown by colour, its size by opacity.
    title : str, default=""
        What the map tells.
    orientation : str, optional
        Where depth, height and width point to, such as "SPL"; the slices' sides are marked by it.
        By default it isn't known, which the picture says.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The map.
    ax_ : matplotlib Axes
        Axes with the slices.
    figure_ : matplotlib Figure
        Figure that holds them.

    Raises
    ------
    ParameterError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk.inspection import VolumeMapDisplay
    >>> VolumeMapDisplay(np.zeros((8, 4, 4)), np.ones((8, 4, 4))).slices(3).tolist()
    [1, 4, 6]
    """

    def __init__(
        self,
        volume: np.ndarray,
        values: np.ndarray,
        *,
        title: str = "",
        orientation: str | None = None,
    ) -> None:
        if volume.ndim != 3 or volume.shape != values.shape:
            raise ParameterError(
                f"volume has the shape {volume.shape} and its map {values.shape}; expected the "
                "same (depth, height, width)."
            )
        self.volume = volume
        self.values = values
        self.title = title
        self.orientation = orientation

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, *, kind: str = "gradient", n_slices: int = 6, ax: Any = None
    ) -> Self:
        """Map one row by a fitted Brain-Adapter and draw.

        Parameters
        ----------
        estimator : BrainAdapterClassifier
            Fitted on volumes.
        X : DataFrame or array of one row
            The row, with a volume.
        kind : {"gradient", "occlusion", "attention", "adapter"}, default="gradient"
            As in :meth:`BrainAdapterClassifier.volume_maps`.
        n_slices : int, default=6
            Slices to draw.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        VolumeMapDisplay
            The display.

        Raises
        ------
        ParameterError
            If `X` isn't one row.
        ModalityError
            If the row has no volume, or the model reads none.
        """
        if len(X) != 1:
            raise ParameterError(f"one row is drawn at a time, X has {len(X)}: pass X.iloc[[0]].")
        estimator, X = innermost(estimator, X, method="volume_maps")
        values = estimator.volume_maps(X, kind=kind)[0]
        if np.isnan(values).all():
            raise ModalityError("this row has no volume.")
        volume = estimator.seen_volumes(X)[0]
        orientation = _orientation(estimator, X)
        return cls(volume, values, title=kind, orientation=orientation).plot(
            n_slices=n_slices, ax=ax
        )

    def slices(self, n_slices: int) -> np.ndarray:
        """Choose slices, evenly over the depth.

        Parameters
        ----------
        n_slices : int
            How many.

        Returns
        -------
        ndarray of int
            Their positions.
        """
        depth = len(self.volume)
        return ((np.arange(n_slices) + 0.5) * depth / n_slices).astype(int)

    def plot(self, *, n_slices: int = 6, ax: Any = None) -> Self:
        """Draw the slices, the lowest on the left.

        Parameters
        ----------
        n_slices : int, default=6
            Slices to draw.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        VolumeMapDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        ax = axes(ax, figsize=(2.0 * n_slices, 2.6))
        chosen = self.slices(n_slices)
        grey, over = (np.concatenate(part[chosen], axis=1) for part in (self.volume, self.values))
        most = float(np.abs(self.values).max()) or 1.0
        ax.imshow(grey, cmap="gray")
        strength = np.abs(over) / most
        self.image_ = ax.imshow(
            over,
            cmap="RdBu_r",
            vmin=-most,
            vmax=most,
            alpha=np.where(strength > _FAINT, 0.25 + 0.6 * strength, 0.0),
        )
        width = self.volume.shape[2]
        ax.set_xticks((np.arange(n_slices) + 0.5) * width, [f"slice {i}" for i in chosen])
        ax.set_yticks([])
        ax.set_title(self.title)
        if self.orientation is None:
            ax.set_title(f"{self.title} (left and right unknown)".strip())
        else:
            _mark_sides(ax, self.orientation[2], n_slices, width)
        ax.figure.colorbar(self.image_, ax=ax, label=self.title, shrink=0.8)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _orientation(estimator: Any, X: Any) -> str | None:
    """Tell how the row's volume lies; None of voxels without a header, which don't say."""
    cell = estimator._volumes(estimator._validate(X)).cells[0]
    told = isinstance(cell, str | Path) and str(cell).lower().endswith((".nii", ".nii.gz"))
    return estimator.volume_inputs_.orientation if told else None


def _mark_sides(ax: Any, to: str, n_slices: int, width: int) -> None:
    """Write into each slice which sides of the patient its left and right edges are."""
    look = {"color": "yellow", "va": "top", "fontsize": "small", "fontweight": "bold"}
    for start in range(0, n_slices * width, width):
        ax.text(start - 0.3, -0.3, _OPPOSITE[to], ha="left", **look)
        ax.text(start + width - 0.7, -0.3, to, ha="right", **look)
