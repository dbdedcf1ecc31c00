"""Weights of the modalities and predictions as a stay goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pandas as pd

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.inspection._axes import axes, from_zero
from medfusion_sdk.inspection._explained import (
    choose_label,
    label_of,
    name_quantity,
    table_of,
    weights_of,
)
from medfusion_sdk.inspection.over_time import explain_over_time

__all__ = ["WeightsOverTimeDisplay"]

# What explanations call a prediction, and what an axis says.
_PREDICTIONS = {"probability": "probability", "mean": "prediction"}


class WeightsOverTimeDisplay:
    """Weights of the modalities as series grow, and the prediction that goes with them.

    Of several rows lines are means: over the rows that have the modality by then, and over all
    rows, of which a band holds the middle half.

    Parameters
    ----------
    weights : DataFrame of shape (n_steps * n_rows, M)
        Indexed by step and row; NaN where a row lacks the modality.
    prediction : Series of shape (n_steps * n_rows,), optional
        Predictions of the same rows.
    label : str, default="weight"
        What the weights are.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        Line of each modality.
    prediction_line_ : matplotlib Line2D or None
        Line of the predictions, on an axis of its own.
    ax_ : matplotlib Axes
        Axes with the weights.
    prediction_ax_ : matplotlib Axes or None
        Axes with the predictions, on the same steps.
    figure_ : matplotlib Figure
        Figure that holds them.

    See Also
    --------
    explain_over_time : What it draws.

    Examples
    --------
    >>> import pandas as pd
    >>> from medfusion_sdk.inspection import WeightsOverTimeDisplay
    >>> index = pd.MultiIndex.from_tuples([(6, "stay"), (12, "stay")], names=["step", "row"])
    >>> weights = pd.DataFrame({"vitals": [1.0, 0.6], "labs": [None, 0.4]}, index)
    >>> display = WeightsOverTimeDisplay(weights, pd.Series([0.3, 0.7], index)).plot()
    >>> display.lines_["vitals"].get_ydata().tolist()
    [1.0, 0.6]
    """

    def __init__(
        self, weights: pd.DataFrame, prediction: pd.Series | None = None, *, label: str = "weight"
    ) -> None:
        self.weights = weights
        self.prediction = prediction
        self.label = label

    @classmethod
    def from_explanation(
        cls,
        told: pd.DataFrame,
        *,
        quantity: str = "gate",
        label: Any = None,
        hours_per_step: float | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw what an estimator explained of growing series.

        Parameters
        ----------
        told : DataFrame
            From :func:`explain_over_time`; that of a single row draws that row's course.
        quantity : str, default="gate"
            A quantity told by modality, such as AMFN's importance "gate" or the "contribution"
            to a score.
        label : object, optional
            Whose probability and score, or which target. By default the second of two classes,
            and the one there is where there is one.
        hours_per_step : float, optional
            How long a step is, to draw time in hours; by default it is counted in steps.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        WeightsOverTimeDisplay
            The display.

        Raises
        ------
        ParameterError
            If the explanation has no steps or no such quantity, or it isn't clear which label.
        """
        if "step" not in told:
            raise ParameterError("this explanation has no steps; take that of explain_over_time.")
        by_step = dict(tuple(told.groupby("step", sort=True)))
        weights = {step: weights_of(part, quantity, label) for step, part in by_step.items()}
        levels = ["step", "row"]
        found = next((name for name in _PREDICTIONS if name in set(told["quantity"])), None)
        prediction = None
        if found is not None:
            own = {step: table_of(part, found, ["label"]) for step, part in by_step.items()}
            each = pd.concat(own, names=levels)
            prediction = each[choose_label(list(each.columns), label)].rename(_PREDICTIONS[found])
        axis = name_quantity(quantity, label_of(told, quantity, label))
        return cls(pd.concat(weights, names=levels), prediction, label=axis).plot(
            hours_per_step=hours_per_step, ax=ax
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: pd.DataFrame,
        steps: Sequence[int],
        *,
        columns: Sequence[Any] | None = None,
        ax: Any = None,
        **options: Any,
    ) -> Self:
        """Ask a fitted estimator about growing series and draw.

        Parameters
        ----------
        estimator : AMFNClassifier, AMFNRegressor
            Fitted; or any whose ``explain`` tells such a quantity.
        X : DataFrame
            Rows to explain.
        steps : sequence of int
            After how many steps.
        columns : sequence of column names, default=None
            The series that grow; by default all columns of arrays.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.
        **options : object
            Of :meth:`from_explanation`.

        Returns
        -------
        WeightsOverTimeDisplay
            The display.
        """
        told = explain_over_time(estimator, X, steps, columns=columns)
        return cls.from_explanation(told, ax=ax, **options)

    def plot(self, *, hours_per_step: float | None = None, ax: Any = None) -> Self:
        """Draw the courses.

        Parameters
        ----------
        hours_per_step : float, optional
            How long a step is, to draw time in hours; by default it is counted in steps.
        ax : matplotlib Axes, optional
            Where to draw; new axes by default.

        Returns
        -------
        WeightsOverTimeDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            Without matplotlib.
        """
        ax = axes(ax, figsize=(7, 3.8))
        self.lines_ = {
            name: _course(ax, self.weights[name], color=f"C{m % 10}", label=str(name))
            for m, name in enumerate(self.weights)
            if self.weights[name].notna().any()
        }
        ax.set(xlabel="steps" if hours_per_step is None else "time in hours", ylabel=self.label)
        from_zero(ax, self.weights.to_numpy())
        steps = self.weights.index.unique("step")
        hours = steps if hours_per_step is None else [f"{hours_per_step * s:g}" for s in steps]
        ax.set_xticks(steps, hours)
        self.prediction_ax_: Any = None
        self.prediction_line_: Any = None
        if self.prediction is not None:
            self.prediction_ax_, self.prediction_line_ = _draw_prediction(ax, self.prediction)
        ax.legend(loc="upper left", bbox_to_anchor=(1.12, 1.0), frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _course(ax: Any, values: pd.Series, **options: Any) -> Any:
    """Draw the mean over rows against steps."""
    mean = values.groupby(level="step").mean()
    return ax.plot(mean.index, mean, marker="o", **options)[0]


def _draw_prediction(ax: Any, values: pd.Series) -> tuple[Any, Any]:
    """Draw predictions over the same steps, on an axis of their own."""
    other = ax.twinx()
    line = _course(other, values, color="black", linestyle="--")
    steps = values.groupby(level="step")
    if (steps.size() > 1).any():
        low, high = steps.quantile(0.25), steps.quantile(0.75)
        other.fill_between(low.index, low, high, color="black", alpha=0.08, linewidth=0)
    other.set_ylabel(f"{values.name or 'prediction'} (dashed)")
    if values.name == "probability":
        other.set_ylim(0, 1)
    return other, line
