"""How to train, and what came of it: plain values, importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from medfusion_sdk._parameters import FLAG, NONE, Allowed, Number, OneOf, Whole, check_parameters

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
    auto_rows : int or None, default=None
        What ``"auto"`` starts with, where a method has a number of its own.
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
    auto_rows: int | None = None
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

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        "max_epochs": Whole(least=1),
        "batch_size": Whole(least=1) | OneOf("auto"),
        "auto_rows": Whole(least=1) | NONE,
        "lr": Number(above=0),
        "weight_decay": Number(least=0),
        "optimizer": OneOf("adamw", "adam", "sgd"),
        "schedule": OneOf("cosine", "exponential", None),
        "gamma": Number(above=0, most=1),
        "clip_norm": Number(above=0) | NONE,
        "early_stopping": FLAG,
        "n_iter_no_change": Whole(least=1),
        "tol": Number(least=0),
        "verbose": Whole(least=0) | FLAG,
    }

    def __post_init__(self) -> None:
        check_parameters(self)

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
        if self.auto_rows is not None:
            return self.auto_rows
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
