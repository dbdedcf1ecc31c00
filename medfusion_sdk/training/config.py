"""How to train, and what came of it: plain values, importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from medfusion_sdk.exceptions import ParameterError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FULL_BATCH_ROWS", "MINI_BATCH_ROWS", "TrainingConfig", "TrainingResult"]

FULL_BATCH_ROWS = 4096
MINI_BATCH_ROWS = 256


@dataclass(frozen=True)
class TrainingConfig:
    """How a module is trained.

    Parameters
    ----------
    max_epochs : int, default=100
        Passes over the training rows at most.
    batch_size : int or "auto", default="auto"
        Rows per step at most. ``"auto"`` takes all rows in one step up to `FULL_BATCH_ROWS`, and
        `MINI_BATCH_ROWS` beyond; it is halved where memory runs out.
    lr : float, default=1e-3
        Learning rate at the first step.
    weight_decay : float, default=0.0
        Decoupled decay for ``"adamw"``, an L2 penalty for the others. Parameters that need no
        gradient are never touched.
    optimizer : {"adamw", "adam", "sgd"}, default="adamw"
        Update rule; ``"sgd"`` has a Nesterov momentum of 0.9.
    schedule : {"cosine", "exponential", None}, default="cosine"
        ``"cosine"`` lowers the rate step by step to zero at the end of `max_epochs`;
        ``"exponential"`` multiplies it by `gamma` after each epoch.
    gamma : float, default=0.5
        Factor of the exponential schedule.
    clip_norm : float or None, default=1.0
        The largest Euclidean norm of all gradients together.
    early_stopping : bool, default=False
        Stop when the validation loss no longer falls, and return to the best epoch's weights.
    n_iter_no_change : int, default=10
        Epochs without a better validation loss after which early stopping ends the training.
    tol : float, default=0.0
        A validation loss is better when it is lower by more than this.
    verbose : int, default=0
        1 or more shows a progress bar.

    Examples
    --------
    >>> TrainingConfig(max_epochs=20).rows_per_step(353)
    353
    >>> TrainingConfig(batch_size=64).rows_per_step(353)
    64
    """

    max_epochs: int = 100
    batch_size: int | Literal["auto"] = "auto"
    lr: float = 1e-3
    weight_decay: float = 0.0
    optimizer: str = "adamw"
    schedule: str | None = "cosine"
    gamma: float = 0.5
    clip_norm: float | None = 1.0
    early_stopping: bool = False
    n_iter_no_change: int = 10
    tol: float = 0.0
    verbose: int = 0

    def __post_init__(self) -> None:
        auto = self.batch_size == "auto"
        _require(self.max_epochs >= 1, "max_epochs", self.max_epochs, "1 or more")
        _require(auto or int(self.batch_size) >= 1, "batch_size", self.batch_size, "1 or more")
        _require(0 < self.lr < float("inf"), "lr", self.lr, "positive and finite")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(
            self.optimizer in ("adamw", "adam", "sgd"),
            "optimizer",
            self.optimizer,
            "'adamw', 'adam' or 'sgd'",
        )
        _require(
            self.schedule in ("cosine", "exponential", None),
            "schedule",
            self.schedule,
            "'cosine', 'exponential' or None",
        )
        _require(0 < self.gamma <= 1, "gamma", self.gamma, "above 0 and at most 1")
        _require(
            self.clip_norm is None or self.clip_norm > 0,
            "clip_norm",
            self.clip_norm,
            "positive or None",
        )
        _require(self.n_iter_no_change >= 1, "n_iter_no_change", self.n_iter_no_change, "1 or more")

    def rows_per_step(self, n_rows: int) -> int:
        """Return how many rows a step takes at most.

        Parameters
        ----------
        n_rows : int
            Rows to train on.

        Returns
        -------
        int
            `batch_size` itself, or what ``"auto"`` stands for.
        """
        if self.batch_size != "auto":
            return int(self.batch_size)
        return n_rows if n_rows <= FULL_BATCH_ROWS else MINI_BATCH_ROWS


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training.

    Attributes
    ----------
    history : pandas.DataFrame
        One row per epoch: ``epoch`` (from 1), ``train_loss``, ``valid_loss`` where there was
        validation data, ``train_<part>`` and ``valid_<part>`` for each part that the module's loss
        named, ``lr`` at the epoch's last step, ``seconds``.
    n_epochs : int
        Epochs run.
    best_epoch : int
        The epoch whose weights the module has now: with early stopping the one of the lowest
        validation loss, else the last.
    """

    history: pd.DataFrame
    n_epochs: int
    best_epoch: int


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ParameterError(f"{name} must be {allowed}, got {value!r}.")
