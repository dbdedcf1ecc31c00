"""skorch's training loop on our batches: the trainer inside, no base class of any estimator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from medfusion_sdk.backbones.devices import is_out_of_memory
from medfusion_sdk.exceptions import TrainingError, TrainingWarning
from medfusion_sdk.training.batches import Batch, Batches
from medfusion_sdk.training.config import TrainingConfig
from medfusion_sdk.training.state import restore, snapshot, trainable_parameters

Parts = dict[str, float]


class Net(NeuralNet):
    """Trains a module by the loss that it computes itself.

    What skorch wraps around a criterion, a data set and a loader isn't used: a module's ``loss``
    takes whole batches, which are slices of tensors on the device.
    """

    def __init__(
        self,
        module: nn.Module,
        config: TrainingConfig,
        *,
        train_rows: Batches,
        valid_rows: Batches | None,
        device: torch.device,
        callbacks: list[Any],
        reseed: Callable[[], None],
    ) -> None:
        super().__init__(
            module,
            criterion=None,
            optimizer=None,
            lr=config.lr,
            max_epochs=config.max_epochs,
            train_split=None,
            callbacks=callbacks,
            verbose=0,
            device=device,
        )
        self.config = config
        self.train_rows = train_rows
        self.valid_rows = valid_rows
        self.reseed = reseed
        self.stop_requested = False
        self.best_epoch: int | None = None
        self.has_gradient = False

    def get_default_callbacks(self) -> list[Any]:
        return []

    def initialize_criterion(self) -> Net:
        return self

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> Net:
        config, device = self.config, torch.device(self.device)
        self.parameters_ = trainable_parameters(self.module_)
        self.buffers_ = snapshot(self.module_, parameters=False)
        settings: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
        groups: list[dict[str, Any]] = [{"params": self.parameters_}]
        if hasattr(self.module_, "parameter_groups"):
            groups = self.module_.parameter_groups()
        for group in groups:
            group["lr"] = config.lr * group.setdefault("lr_factor", 1.0)
        # One pass over the parameters instead of five; Metal's kernels are younger.
        settings["fused"] = device.type in ("cpu", "cuda")
        if config.optimizer == "sgd":
            settings |= {"momentum": 0.9, "nesterov": True}
        kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        self.optimizer_ = kinds[config.optimizer](groups, **settings)
        return self

    def get_split_datasets(self, X: Any, y: Any = None, **kwargs: Any) -> tuple[Any, Any]:
        return self.train_rows, self.valid_rows

    def get_iterator(self, dataset: Batches, training: bool = False) -> Batches:
        return dataset

    def run_single_epoch(
        self,
        iterator: Batches | None,
        training: bool,
        prefix: str,
        step_fn: Callable[[Batch], Parts],
        **fit_params: Any,
    ) -> None:
        if iterator is None:
            return
        self._set_training(training)
        parts = self._run_or_shrink(iterator, training, step_fn)
        for name, value in parts.items():
            self.history.record(f"{prefix}_{name}", value)

    def train_step_single(self, batch: Batch, **fit_params: Any) -> Parts:
        loss, parts = self._loss(batch)
        loss.backward()
        return parts

    def validation_step(self, batch: Batch, **fit_params: Any) -> Parts:
        with torch.no_grad():
            return self._loss(batch)[1]

    def on_grad_computed(self, net: NeuralNet, named_parameters: Any, **kwargs: Any) -> None:
        """Clip the gradients, and refuse those that would spoil the weights."""
        self.has_gradient = True
        limit = math.inf if self.config.clip_norm is None else self.config.clip_norm
        norm = nn.utils.clip_grad_norm_(self.parameters_, limit)
        if not math.isfinite(norm.item()):
            raise self._not_finite("gradient norm", norm.item())

    def _loss(self, batch: Batch) -> tuple[Tensor, Parts]:
        found = self.module_.loss(batch.tensors, batch.sample_weight)
        tensors = found if isinstance(found, dict) else {"loss": found}
        parts = {name: float(tensor.detach()) for name, tensor in tensors.items()}
        if not math.isfinite(parts["loss"]):
            raise self._not_finite("loss", parts["loss"])
        return tensors["loss"], parts

    def _not_finite(self, what: str, value: float) -> TrainingError:
        epoch = len(self.history)
        return TrainingError(
            f"The {what} became {value} in epoch {epoch}; the weights are those before that step. "
            f"Lower lr ({self.config.lr:g}), set clip_norm ({self.config.clip_norm}), or scale "
            "the inputs: features of very different size are the usual cause."
        )

    def _run_or_shrink(
        self, iterator: Batches, training: bool, step_fn: Callable[[Batch], Parts]
    ) -> Parts:
        while True:
            try:
                return self._run(iterator, training, step_fn)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(iterator, training, error)

    def _run(self, iterator: Batches, training: bool, step_fn: Callable[[Batch], Parts]) -> Parts:
        sums: dict[str, float] = {}
        total = 0.0
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            parts = step_fn(batch)
            self.notify("on_batch_end", batch=batch, training=training)
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + batch.total * value
            total += batch.total
        return {name: value / total for name, value in sums.items()}

    def _shrink(self, rows: Batches, training: bool, error: BaseException) -> None:
        # Once a gradient was computed, memory for this size of batch was there: what lacks is
        # something else, or the weights have moved already.
        stuck = training and self.has_gradient
        if stuck or self.config.batch_size != "auto" or rows.batch_size == 1:
            raise TrainingError(
                f"Memory ran out on {self.device} in epoch {len(self.history)}, with batches of "
                f"{rows.batch_size} rows. Set batch_size={max(1, rows.batch_size // 2)} or less."
            ) from error
        rows.halve()
        if training:  # once more from the start, as if the smaller size had been asked for
            self.reseed()
            restore(self.module_, self.buffers_)
        warnings.warn(
            f"Memory ran out on {self.device}: batches have {rows.batch_size} rows now. "
            f"Set batch_size={rows.batch_size} to start with that.",
            TrainingWarning,
            stacklevel=2,
        )
