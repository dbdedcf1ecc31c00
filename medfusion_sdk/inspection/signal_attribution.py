"""Which stretch of a signal speaks for a prediction, drawn over the signal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from medfusion_sdk.estimators._dual_explanations import attributed_signal
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.inspection._axes import axes
from medfusion_sdk.inspection._wrapped import innermost

__all__ = ["SignalAttributionDisplay"]


class SignalAttributionDisplay:
    """A signal's channels one above the other, coloured by what each stretch adds to the score.

    Parameters
    ----------
    signal : ndarray of shape (channels, samples)
        What the model sees.
    attribution : ndarray of shape (channels, n_stretches) or (1, n_stretches)
        What each stretch adds to the score; one row stands for all channels together.
    bounds : ndarray of shape (n_stretches + 1,)
        Samples at which stretches begin, and the end of the last.
    fs : float, default=1.0
        Samples per second; 1 counts samples.
    channel_names : sequence of str, optional
        Names of the channels.
    label : object, optional
        Whose score.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the signal.
    figure_ : matplotlib Figure
        Figure that holds them.

    Raises
    ------
    ParameterError
        If the shapes don't belong together.

    Examples
    --------
    >>> import numpy as np
    >>> from medfusion_sdk.inspection import SignalAttributionDisplay
    >>> display = SignalAttributionDisplay(np.zeros((2, 8)), np.ones((2, 2)), np.array([0, 4, 8]))
    >>> display.attribution.shape
    (2, 2)
    """

    def __init__(
        self,
        signal: np.ndarray,
        attribution: np.ndarray,
        bounds: np.ndarray,
        *,
        fs: float = 1.0,
        channel_names: Sequence[str] | None = None,
        label: Any = None,
    ) -> None:
        rows, columns = attribution.shape
        if rows not in (1, len(signal)) or columns != len(bounds) - 1:
            raise ParameterError(
                f"attribution has the shape {attribution.shape}; expected 1 or {len(signal)} rows "
                f"and {len(bounds) - 1} columns."
            )
        if channel_names is not None and len(channel_names) != len(signal):
            raise ParameterError(f"{len(channel_names)} names for {len(signal)} channels.")
        self.signal = signal
        self.attribution = attribution
        self.bounds = bounds
        self.fs = fs
        self.channel_names = channel_names
        self.label = label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        channel_names: Sequence[str] | None = None,
        ax: Any = None,
    ) -> Self:
        """Explain one row by a fitted dual adapter and draw.

        Parameters
        ----------
        estimator : DualAdapterClassifier
            Fitted on signals.
        X : DataFrame or array of one row
            The row, with a signal.
        channel_names : sequence of str, optional
            Names of the channels.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        SignalAttributionDisplay
            The display.

        Raises
        ------
        ParameterError
            If `X` isn't one row.
        ModalityError
            If the model sees no signal, or the row has none.
        """
        if len(X) != 1:
            raise ParameterError(f"one row is drawn at a time, X has {len(X)}: pass X.iloc[[0]].")
        estimator, X = innermost(estimator, X)
        signal, bounds, fs, told = attributed_signal(estimator, X)
        # Without a channel a stretch stands for all of them.
        told = told.assign(part=[0 if channel is None else channel for channel in told["part"]])
        attribution = told.astype({"position": int}).pivot(
            index="part", columns="position", values="value"
        )
        return cls(
            signal,
            attribution.to_numpy(),
            bounds,
            fs=fs or 1.0,
            channel_names=channel_names,
            label=told["label"].iloc[0],
        ).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the signal over its attribution.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        SignalAttributionDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        n_channels, n_samples = self.signal.shape
        ax = axes(ax, figsize=(8, 0.6 * n_channels + 1.5))
        spread = float(np.ptp(self.signal, axis=1).max()) or 1.0
        levels = -np.arange(n_channels)  # the first channel on top
        each = np.broadcast_to(self.attribution, (n_channels, self.attribution.shape[1]))
        edges = 0.5 - np.arange(n_channels + 1)
        most = float(np.abs(each).max()) or 1.0
        mesh = ax.pcolormesh(
            self.bounds / self.fs, edges, each, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.6
        )
        middle = self.signal.mean(axis=1, keepdims=True)
        traces = (self.signal - middle) * 0.9 / spread + levels[:, None]
        ax.plot(np.arange(n_samples) / self.fs, traces.T, color="black", linewidth=0.8)
        names = range(n_channels) if self.channel_names is None else self.channel_names
        ax.set_yticks(levels, [str(name) for name in names])
        ax.set(
            xlabel="sample" if self.fs == 1 else "seconds",
            title="" if self.label is None else f"for {self.label}",
        )
        ax.figure.colorbar(mesh, ax=ax, label="added to the score")
        self.ax_, self.figure_ = ax, ax.figure
        return self
