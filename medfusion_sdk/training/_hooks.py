"""What happens around steps and epochs, as callbacks of skorch."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from skorch.callbacks import Callback

from medfusion_sdk.training.state import restore, snapshot

if TYPE_CHECKING:
    from medfusion_sdk.training._net import Net
    from medfusion_sdk.training.callbacks import FitCallbacks


class CosineSchedule(Callback):
    """Lower the rate from its start to zero along half a cosine, step by step.

    In closed form: torch's schedulers wrap the optimizer's step and so tie it into a reference
    cycle, which keeps its state in memory until the garbage collector comes by.
    """

    def on_epoch_begin(self, net: Net, **kwargs: Any) -> None:
        self.step_ = 0
        self.start_ = (len(net.history) - 1) / net.max_epochs

    def on_batch_begin(self, net: Net, training: bool = False, **kwargs: Any) -> None:
        if not training:
            return
        done = self.start_ + self.step_ / (len(net.train_rows) * net.max_epochs)
        for group in net.optimizer_.param_groups:
            group["lr"] = group["lr_factor"] * net.lr * (1 + math.cos(math.pi * done)) / 2

    def on_batch_end(self, net: Net, training: bool = False, **kwargs: Any) -> None:
        self.step_ += bool(training)


class ExponentialSchedule(Callback):
    """Multiply the rate by a factor after each epoch."""

    def on_epoch_begin(self, net: Net, **kwargs: Any) -> None:
        for group in net.optimizer_.param_groups:
            rate = net.lr * net.config.gamma ** (len(net.history) - 1)
            group["lr"] = group["lr_factor"] * rate


class EpochRecord(Callback):
    """Tell the module which epoch begins; record its last rate and how long it took."""

    def on_epoch_begin(self, net: Net, **kwargs: Any) -> None:
        self.begin_ = time.perf_counter()
        if hasattr(net.module_, "set_epoch"):
            net.module_.set_epoch(len(net.history), net.max_epochs)

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        net.history.record("lr", net.optimizer_.param_groups[0]["lr"])
        net.history.record("seconds", time.perf_counter() - self.begin_)


class EarlyStopping(Callback):
    """Stop when the validation loss no longer falls; go back to the best epoch's weights.

    skorch's own keeps a copy of the frozen weights too, and ends a fit like Ctrl-C does.
    """

    def __init__(self, patience: int, tol: float) -> None:
        self.patience = patience
        self.tol = tol

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        self.best_loss_ = math.inf
        self.best_epoch_ = 0
        self.best_state_: dict[str, Any] = {}

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        epoch, loss = len(net.history), net.history[-1, "valid_loss"]
        if loss < self.best_loss_ - self.tol:
            self.best_loss_, self.best_epoch_ = loss, epoch
            self.best_state_ = snapshot(net.module_)
        elif epoch - self.best_epoch_ >= self.patience:
            net.stop_requested = True

    def on_train_end(self, net: Net, **kwargs: Any) -> None:
        restore(net.module_, self.best_state_)
        net.best_epoch = self.best_epoch_


class Notify(Callback):
    """Pass the epochs on to scikit-learn's callbacks."""

    def __init__(self, callbacks: FitCallbacks) -> None:
        self.callbacks = callbacks

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        self.callbacks.begin(net.max_epochs)

    def on_epoch_begin(self, net: Net, **kwargs: Any) -> None:
        self.callbacks.begin_epoch()

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        net.stop_requested |= self.callbacks.end_epoch(net.module_)

    def on_train_end(self, net: Net, **kwargs: Any) -> None:
        self.callbacks.end(net.module_)


class Progress(Callback):
    """Move a bar forward and write the losses beside it."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        row = net.history[-1]
        losses = {name: row[name] for name in ("train_loss", "valid_loss") if name in row}
        self.bar.set_postfix(losses, refresh=False)
        self.bar.update()
