"""scikit-learn's callbacks (1.9, experimental): all that touches that young protocol.

Below 1.9 everything here is there and does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CallbackSupportMixin", "FitCallbacks", "with_callbacks"]

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in for scikit-learn's mixin, which came with 1.9."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method unchanged; scikit-learn's decorator came with 1.9.

        Parameters
        ----------
        method : callable
            A ``fit``.

        Returns
        -------
        callable
            The same.
        """
        return method


class FitCallbacks:
    """The callbacks of one fit, told of each epoch.

    An estimator with :class:`CallbackSupportMixin` makes one inside its ``fit``, which is decorated
    by :func:`with_callbacks`, and hands it to the engine.

    Parameters
    ----------
    estimator : estimator
        The one being fitted.
    X, y : array-like
        Data for callbacks that score.
    sample_weight : array-like or None, default=None
        Weights for them.
    fitted_attributes : callable, default=None
        Takes the module and returns the attributes that make the estimator ready to predict; only
        called when a callback asks for a fitted estimator. By default ``state_`` alone.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        *,
        sample_weight: Any = None,
        fitted_attributes: Callable[[nn.Module], dict[str, Any]] | None = None,
    ) -> None:
        self._estimator = estimator
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._about = {"estimator": estimator, "X": X, "y": y, "metadata": weights}
        self._fitted_attributes = fitted_attributes or _state_alone
        self._fit_task: Any = None
        self._epoch_task: Any = None

    def begin(self, max_epochs: int) -> None:
        """Say that training begins.

        Parameters
        ----------
        max_epochs : int
            Epochs at most.
        """
        if hasattr(self._estimator, "_init_callback_context"):
            self._fit_task = self._estimator._init_callback_context(max_subtasks=max_epochs)
            self._fit_task.call_on_fit_task_begin(**self._about)

    def begin_epoch(self) -> None:
        """Say that an epoch begins."""
        if self._fit_task is not None:
            self._epoch_task = self._fit_task.subcontext(task_name="epoch")
            self._epoch_task.call_on_fit_task_begin(**self._about)

    def end_epoch(self, module: nn.Module) -> bool:
        """Say that an epoch has ended.

        Parameters
        ----------
        module : torch.nn.Module
            The module as it is now.

        Returns
        -------
        bool
            Whether a callback asks to stop.
        """
        return self._epoch_task is not None and self._end(self._epoch_task, module)

    def end(self, module: nn.Module) -> None:
        """Say that training has ended.

        Parameters
        ----------
        module : torch.nn.Module
            The module with its final weights.
        """
        if self._fit_task is not None:
            self._end(self._fit_task, module)

    def _end(self, task: Any, module: nn.Module) -> bool:
        return task.call_on_fit_task_end(
            **self._about, reconstruction_attributes=lambda: self._fitted_attributes(module)
        )


def _state_alone(module: nn.Module) -> dict[str, Any]:
    from medfusion_sdk.training.state import module_to_state

    return {"state_": module_to_state(module)}
