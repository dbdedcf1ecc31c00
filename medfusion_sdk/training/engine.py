"""Train a module on tensors: one function."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from medfusion_sdk.backbones.devices import limit_threads, resolve_device
from medfusion_sdk.exceptions import ParameterError, TrainingError
from medfusion_sdk.training._hooks import (
    CosineSchedule,
    EarlyStopping,
    EpochRecord,
    ExponentialSchedule,
    Notify,
    Progress,
)
from medfusion_sdk.training._net import Net
from medfusion_sdk.training.batches import Batches, move
from medfusion_sdk.training.callbacks import FitCallbacks
from medfusion_sdk.training.config import TrainingConfig, TrainingResult
from medfusion_sdk.training.progress import progress_bar
from medfusion_sdk.training.randomness import lent_generator, seed_generators, spawn_seeds
from medfusion_sdk.training.state import trainable_parameters

__all__ = ["train"]


def train(
    module: nn.Module,
    data: Mapping[str, Tensor],
    *,
    config: TrainingConfig,
    seed: int,
    sample_weight: Tensor | None = None,
    validation: Mapping[str, Tensor] | None = None,
    validation_weight: Tensor | None = None,
    stratify: str | None = None,
    device: str | torch.device = "auto",
    callbacks: FitCallbacks | None = None,
    label: str = "training",
) -> TrainingResult:
    """Train a module in place by the loss that it computes.

    Parameters
    ----------
    module : torch.nn.Module
        Has a method ``loss(batch, sample_weight)`` that takes a dict of tensors and the rows'
        weights or None, and returns the rows' mean loss as a scalar, or a dict of scalars with
        the key ``"loss"``; the others are recorded. It may have ``set_epoch(epoch, max_epochs)``,
        told of each epoch, and ``parameter_groups()``: the trainable parameters as an optimizer's
        groups, each with an ``lr_factor`` on the rate. Parts with an attribute ``generator`` get
        a seeded one and must draw from it. The module stays on `device`, in evaluation mode.
    data : mapping of str to Tensor
        Training rows: tensors of shape (n_rows, ...).
    config : TrainingConfig
        How to train.
    seed : int
        All randomness follows from it. On the CPU equal seeds and equal numbers of threads give
        equal bits; other numbers of threads sum in another order.
    sample_weight : Tensor of shape (n_rows,) or None, default=None
        Passed to the loss, batch by batch.
    validation : mapping of str to Tensor or None, default=None
        Rows whose loss is recorded after each epoch.
    validation_weight : Tensor or None, default=None
        Their weights.
    stratify : str or None, default=None
        Name of a tensor of `data` and `validation`; each mini-batch gets its share of the rows
        of each of its values.
    device : str or torch.device, default="auto"
        Where to train; see :func:`~medfusion_sdk.backbones.devices.resolve_device`.
    callbacks : FitCallbacks or None, default=None
        Those of scikit-learn that the training estimator carries.
    label : str, default="training"
        What stands before the progress bar.

    Returns
    -------
    TrainingResult
        The history and the epoch whose weights the module has.

    Raises
    ------
    TrainingError
        If nothing is trainable, loss or gradient isn't finite, or memory runs out.
    ParameterError
        If early stopping is asked for without validation rows.

    Examples
    --------
    >>> import torch
    >>> class Mean(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.value = torch.nn.Parameter(torch.zeros(()))
    ...     def loss(self, batch, sample_weight):
    ...         return ((batch["x"] - self.value) ** 2).mean()
    >>> module = Mean()
    >>> config = TrainingConfig(max_epochs=200, lr=0.1)
    >>> result = train(module, {"x": torch.tensor([1.0, 3.0])}, config=config, seed=0)
    >>> round(module.value.item(), 3), result.n_epochs
    (2.0, 200)
    """
    where = resolve_device(device)
    module.to(where)
    _check(module, config, validation)
    shuffle_seed, module_seed = spawn_seeds(seed, 2)
    shuffle = torch.Generator()

    def reseed() -> None:
        shuffle.manual_seed(shuffle_seed)
        seed_generators(module, module_seed)

    rows = partial(_rows, config=config, device=where, stratify=stratify)
    with (
        limit_threads(),
        lent_generator(module, module_seed, where),
        progress_bar(config.verbose > 0, config.max_epochs, label, "epoch") as bar,
    ):
        reseed()
        net = Net(
            module,
            config,
            train_rows=rows(data, sample_weight, generator=shuffle),
            valid_rows=None if validation is None else rows(validation, validation_weight),
            device=where,
            callbacks=_hooks(config, bar, callbacks),
            reseed=reseed,
        )
        _run(net)
    return _result(net)


def _check(
    module: nn.Module, config: TrainingConfig, validation: Mapping[str, Tensor] | None
) -> None:
    if not trainable_parameters(module):
        raise TrainingError(
            f"{type(module).__name__} has no parameter that needs a gradient: nothing to train. "
            "Unfreeze a part of it, or use it without fitting."
        )
    if config.early_stopping and validation is None:
        raise ParameterError("early_stopping=True needs validation rows; pass some or turn it off.")


def _rows(
    data: Mapping[str, Tensor],
    weight: Tensor | None,
    *,
    config: TrainingConfig,
    device: torch.device,
    stratify: str | None,
    generator: torch.Generator | None = None,
) -> Batches:
    if weight is not None and not weight.all():
        # So that a weight of zero is the same as no row, in the size of batches and in shuffling.
        kept = weight.nonzero()[:, 0]
        data = {name: tensor[kept.to(tensor.device)] for name, tensor in data.items()}
        weight = weight[kept]
    weight = None if weight is None else weight.to(device)
    n_rows = max((len(tensor) for tensor in data.values()), default=0)
    n_step = config.rows_per_step(n_rows)
    return Batches(move(data, device), weight, n_step, generator, stratify)


def _hooks(config: TrainingConfig, bar: Any, callbacks: FitCallbacks | None) -> list[Any]:
    hooks: list[Any] = [EpochRecord()]
    if config.schedule == "cosine":
        hooks.append(CosineSchedule())
    if config.schedule == "exponential":
        hooks.append(ExponentialSchedule())
    if config.early_stopping:
        hooks.append(EarlyStopping(config.n_iter_no_change, config.tol))
    if config.verbose:
        hooks.append(Progress(bar))
    if callbacks is not None:
        hooks.append(Notify(callbacks))
    return hooks


def _run(net: Net) -> None:
    net.initialize()
    net.notify("on_train_begin")
    try:
        # Epoch by epoch, since skorch's own way to stop is a KeyboardInterrupt that it swallows
        # together with the user's.
        while len(net.history) < net.max_epochs and not net.stop_requested:
            net.fit_loop(None, epochs=1)
        net.notify("on_train_end")
    finally:
        net.module_.eval()
        net.optimizer_.zero_grad()


def _result(net: Net) -> TrainingResult:
    history = pd.DataFrame([dict(row) for row in net.history.to_list()])
    order = ["epoch", *(name for name in history if "_loss" in name)]
    rest = [name for name in history if name not in order and name != "batches"]
    n_epochs = len(history)
    return TrainingResult(history[[*order, *rest]], n_epochs, net.best_epoch or n_epochs)
