"""What the estimators on the block table share: one fit from table to state, lazy modules."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.estimators._targets import Targets, row_weights
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.tables import group_blocks, presence_mask
from medfusion_sdk.training import CallbackSupportMixin, TrainingConfig, with_callbacks

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["BlockClassifier", "TrainingTable"]

# "auto" computes in float64 below this number of values: there it costs nothing that anyone
# notices, and weights of two equal doubled rows to the last digits that scikit-learn checks.
_SMALL_TABLE = 50_000
# "auto" holds rows out for early stopping from here on; fewer are worth more as training rows.
_EARLY_STOPPING_ROWS = 10_000


@dataclass(frozen=True)
class TrainingTable:
    """Rows of positive weight, ready to train on.

    Attributes
    ----------
    X : ndarray of shape (n, n_features)
        Values, NaN where missing.
    targets : Targets
        Encoded y.
    weight : ndarray of shape (n,)
        Sample weight times class weight.
    """

    X: np.ndarray
    targets: Targets
    weight: np.ndarray


class BlockClassifier(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    ClassifierMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Base of the classifiers that read a block table and keep their weights as arrays.

    A subclass implements ``_fit_table`` (sets ``state_`` and ``architecture_``),
    ``_build_network`` (an untrained module from ``architecture_``) and ``_inputs`` (tensors of a
    table). The live module is a cache: it is rebuilt from ``state_`` when needed and never pickled.
    """

    state_: dict[str, np.ndarray]
    architecture_: dict[str, Any]
    history_: pd.DataFrame

    # Parameters that every subclass's constructor has.
    modalities: Any
    scaling: Any
    class_weight: Any
    dtype: str
    device: Any
    batch_size: Any
    max_epochs: int
    learning_rate: float
    alpha: float
    early_stopping: bool | str
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    random_state: Any
    verbose: int

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit on a block table.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Block table with columns ``modality__feature``; an all-NaN block is a missing modality,
            other NaN are imputed and flagged. A bare array is one modality.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Classes, or 0/1 labels.
        sample_weight : array-like of shape (n_samples,), optional
            Rows of weight zero are as good as removed.

        Returns
        -------
        self
            The fitted classifier.

        Raises
        ------
        ModalityError
            If a row has no modality, or a modality no row.
        ParameterError
            For a parameter outside its range.
        TrainingError
            If the loss stops being finite.
        """
        raw_y = y
        X, y = validate_data(
            self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", multi_output=True
        )
        weight = row_weights(X, y, sample_weight, self.class_weight)
        counted = weight > 0
        if not counted.all():
            # Before rows are left out, so that an error names a row by its place in X.
            names = getattr(self, "feature_names_in_", None)
            blocks = group_blocks(names, X.shape[1], self.modalities)
            presence_mask(np.where(counted[:, None], X, 0.0), blocks)
        targets = Targets.encode(y[counted], raw_y)
        self.classes_ = targets.classes
        self.label_names_ = targets.names
        self.multilabel_ = targets.multilabel
        self._module = None if not self.warm_start else getattr(self, "_module", None)
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        self._fit_table(TrainingTable(X[counted], targets, weight[counted]))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, or of each label.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Block table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns follow ``classes_``; rows sum to one unless y was multilabel.
        """
        return self._predict(X)["proba"].astype(np.float64)

    def decision_function(self, X: Any) -> np.ndarray:
        """Class scores before the softmax, or label scores before the sigmoid.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Block table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logits; for two classes the second's less the first's.
        """
        logits = self._predict(X)["logits"].astype(np.float64)
        if len(self.classes_) == 2 and not self.multilabel_:
            return logits[:, 1] - logits[:, 0]
        return logits

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class, or the labels of probability above one half.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Block table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Classes, or 0/1 labels.
        """
        proba = self.predict_proba(X)
        if self.multilabel_:
            return (proba > 0.5).astype(int)
        return self.classes_[proba.argmax(axis=1)]

    def transform(self, X: Any) -> np.ndarray:
        """Fused representation whose linear head gives the class scores.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Block table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_dims)
            One vector per row.
        """
        return self._predict(X)["embedding"]

    # -- what subclasses implement ------------------------------------------------------------

    @abstractmethod
    def _fit_table(self, table: TrainingTable) -> None: ...

    @abstractmethod
    def _build_network(self) -> nn.Module: ...

    @abstractmethod
    def _inputs(self, X: np.ndarray) -> dict[str, Tensor]: ...

    # -- shared steps -------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return int(self.architecture_["embed_width"])

    def _predict(self, X: Any) -> dict[str, np.ndarray]:
        """Run the network over a table; every output, row by row."""
        from medfusion_sdk.training import predict_batches

        check_is_fitted(self, "state_")
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        network = self._network()
        return predict_batches(
            network.predict, self._inputs(X), batch_size=self.batch_size, device=self.device
        )

    def _network(self) -> Any:
        """The fitted module, rebuilt from ``state_`` where it isn't at hand."""
        from medfusion_sdk.training import load_state

        if getattr(self, "_module", None) is None:
            module = self._build_network()
            load_state(module, self.state_)
            self._module = module.eval()
        return self._module

    def _torch_dtype(self, n_values: int) -> Any:
        import torch

        if self.dtype == "auto":
            return torch.float64 if n_values <= _SMALL_TABLE else torch.float32
        if self.dtype not in ("float32", "float64"):
            raise ParameterError(
                f"dtype must be 'auto', 'float32' or 'float64', got {self.dtype!r}."
            )
        return getattr(torch, self.dtype)

    def _train(self, module: nn.Module, table: TrainingTable, data: dict[str, Tensor]) -> None:
        """Train a module on a table's tensors; keeps ``history_``."""
        import torch

        from medfusion_sdk.training import FitCallbacks, train

        config = self._config(len(table.weight))
        weight = torch.from_numpy(table.weight).to(data["x"].dtype)
        parts: dict[str, Any] = {"data": data, "sample_weight": weight}
        if config.early_stopping:
            parts = self._hold_out(table, data, weight)
        result = train(
            module,
            config=config,
            seed=self._seed,
            device=self.device,
            callbacks=FitCallbacks(self, table.X, table.targets.codes),
            label=type(self).__name__,
            **parts,
        )
        self.history_ = result.history
        self.n_iter_ = result.n_epochs

    def _config(self, n_rows: int) -> TrainingConfig:
        stop = self.early_stopping
        if stop == "auto":
            stop = n_rows >= _EARLY_STOPPING_ROWS
        return TrainingConfig(
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            lr=self.learning_rate,
            optimizer="adam",
            early_stopping=bool(stop),
            n_iter_no_change=self.n_iter_no_change,
            verbose=int(self.verbose),
        )

    def _hold_out(
        self, table: TrainingTable, data: dict[str, Tensor], weight: Tensor
    ) -> dict[str, Any]:
        """Split the tensors for early stopping, stratified where y has single classes."""
        codes = table.targets.codes
        stratify = codes if codes.ndim == 1 and np.bincount(codes).min() > 1 else None
        kept, held = train_test_split(
            np.arange(len(weight)),
            test_size=self.validation_fraction,
            stratify=stratify,
            random_state=self._seed,
        )
        return {
            "data": {name: tensor[kept] for name, tensor in data.items()},
            "sample_weight": weight[kept],
            "validation": {name: tensor[held] for name, tensor in data.items()},
            "validation_weight": weight[held],
        }

    def _target_tensor(self, targets: Targets, dtype: Any) -> Tensor:
        import torch

        codes = torch.from_numpy(targets.codes)
        return codes.to(dtype) if targets.multilabel else codes

    def _fit_scaling(self, table: TrainingTable, modalities: Any) -> BlockScaling:
        return BlockScaling.fit(
            table.X,
            table.weight,
            feature_names=getattr(self, "feature_names_in_", None),
            modalities=modalities,
            scaling=self.scaling,
        )

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state = {name: value for name, value in state.items() if name != "_module"}
        if "history_" in state:  # as arrays: skops has no form for DataFrames
            state["history_"] = {name: x.to_numpy() for name, x in state["history_"].items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "history_" in state:
            state = {**state, "history_": pd.DataFrame(state["history_"])}
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.input_tags.allow_nan = True
        return tags
