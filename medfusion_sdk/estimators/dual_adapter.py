"""DualAdapterClassifier: MedualTime on one signal and one text column."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_X_y

from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.estimators._classifier import NetworkClassifier
from medfusion_sdk.estimators._dual_adapter import DualAdapterBase
from medfusion_sdk.estimators._network_estimator import TrainingTable

if TYPE_CHECKING:
    from medfusion_sdk.nn.dual_adapter import DualAdapterNetwork
    from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask

__all__ = ["DualAdapterClassifier"]


class DualAdapterClassifier(DualAdapterBase, NetworkClassifier):
    """Two adapters on one frozen language model: MedualTime (IJCAI 2025)."""

    def __init__(
        self,
        backbone: str | PathLike[str] = "minilm",
        *,
        signal: Any = "auto",
        text: str | None = "auto",
        signal_shape: tuple[int, int] | None = None,
        signal_encoder: str | SignalEncoder = "auto",
        secondary_text_encoder: TextEncoder | None = None,
        fs: float | None = 100.0,
        duration: float | None = None,
        mode: str = "dual",
        combine: str = "mean",
        adapter_layers: int | str = "auto",
        adapter_len: int = 5,
        patch_len: int = 25,
        stride: int | None = None,
        share_gates: bool = True,
        gate_activation: str = "tanh",
        revin: bool = True,
        secondary_revin: bool = False,
        norm_secondary: bool = False,
        readout: str = "auto",
        max_text_tokens: int = 256,
        path_weight: float = 1.0,
        alpha: float = 1.0,
        weight_decay: float = 0.01,
        learning_rate: float = 1e-3,
        lr_gamma: float | None = None,
        max_epochs: int = 20,
        batch_size: int | str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
        warm_start: bool = False,
        gradient_checkpointing: bool = False,
        revision: str | None = None,
        allow_download: bool = False,
        dtype: str = "auto",
        device: str = "auto",
        cache: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.signal = signal
        self.text = text
        self.signal_shape = signal_shape
        self.signal_encoder = signal_encoder
        self.secondary_text_encoder = secondary_text_encoder
        self.fs = fs
        self.duration = duration
        self.mode = mode
        self.combine = combine
        self.adapter_layers = adapter_layers
        self.adapter_len = adapter_len
        self.patch_len = patch_len
        self.stride = stride
        self.share_gates = share_gates
        self.gate_activation = gate_activation
        self.revin = revin
        self.secondary_revin = secondary_revin
        self.norm_secondary = norm_secondary
        self.readout = readout
        self.max_text_tokens = max_text_tokens
        self.path_weight = path_weight
        self.alpha = alpha
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.lr_gamma = lr_gamma
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.gradient_checkpointing = gradient_checkpointing
        self.revision = revision
        self.allow_download = allow_download
        self.dtype = dtype
        self.device = device
        self.cache = cache
        self.random_state = random_state
        self.verbose = verbose

    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        X = self._check_table(X, reset=True)
        # For y alone; the table has been checked.
        _, y = check_X_y(np.zeros((len(X), 1)), y, multi_output=True)
        return X, y

    def _fit_table(self, table: TrainingTable) -> None:
        from medfusion_sdk.training import module_to_state

        network, data = self._prepare(table)
        self.architecture_ |= {
            "n_outputs": len(table.targets.classes),
            "multilabel": table.targets.multilabel,
        }
        data["target"] = self._target_tensor(table.targets, network.queries.dtype)
        task = self._seeded(lambda: self._with_task(network, alpha=self.alpha / table.weight.sum()))

        def finish(trained: SupervisedTask) -> SupervisedTask:
            self._widen(trained.network)
            return trained

        self._module = self._train(task, table, data, finish)
        self.state_ = module_to_state(self._module)
        del self._spans

    def _with_task(self, network: DualAdapterNetwork, alpha: float = 0.0) -> SupervisedTask:
        from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask

        a = self.architecture_
        return SupervisedTask(
            network,
            a["n_outputs"],
            multilabel=a["multilabel"],
            path_weight=self.path_weight,
            alpha=alpha,
        ).to(network.queries.dtype)
