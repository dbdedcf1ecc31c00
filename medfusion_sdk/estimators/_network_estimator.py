"""What every estimator of ours shares: weights as arrays, a lazy module, one way to train it."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk._parameters import (
    FLAG,
    RANDOM_STATE,
    Allowed,
    Number,
    OneOf,
    Whole,
    check_parameters,
)
from medfusion_sdk.estimators._left_out import LeftOutRows
from medfusion_sdk.estimators._rows import refuse_lost_names, row_labels
from medfusion_sdk.exceptions import ModalityWarning
from medfusion_sdk.training import CallbackSupportMixin, TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medfusion_sdk.training import FitCallbacks

__all__ = ["NetworkEstimator", "TrainingTable", "UnlabelledTable", "kept_rows"]

# "auto" computes in float64 below this number of values: there it costs nothing that anyone
# notices, and weights of two equal doubled rows to the last digits that scikit-learn checks.
_SMALL_TABLE = 50_000


@dataclass(frozen=True)
class TrainingTable:
    """Rows of positive weight, ready to train on.

    Attributes
    ----------
    X : ndarray of shape (n, n_features), DataFrame or ReadRows
        Values, NaN where missing; or rows of a cohort table, read or not.
    targets : Targets, Numbers, SurvivalTimes or None
        Encoded y, of a classification, a regression or a prognosis; None where there is none.
    weight : ndarray of shape (n,)
        Sample weight times class weight.
    rows : Index
        What the user's table calls these rows, for messages.
    groups : ndarray of shape (n,) of int
        What belongs together, numbered from 0: rows of one number are learnt from, or left out,
        together. From :func:`~medfusion_sdk.estimators._groups.row_groups`.
    sample_weight : ndarray of shape (n,) or None
        Sample weight as it was given.
    held : ndarray of int or None
        Positions of the rows that early stopping judges by; nothing may be learnt from them.
    """

    X: Any
    targets: Any
    weight: np.ndarray
    rows: pd.Index
    groups: np.ndarray
    sample_weight: np.ndarray | None = None
    held: np.ndarray | None = None

    @property
    def kept(self) -> np.ndarray:
        """Positions of the rows to learn from."""
        return kept_rows(len(self.weight), self.held)

    @property
    def kept_weight(self) -> np.float64:
        """What the rows to learn from weigh together; divided by it, a float32 is a float64."""
        return self.weight[self.kept].sum()

    def take(self, rows: np.ndarray) -> TrainingTable:
        """Take some rows, by positions (n,) or a mask; none of them is held out."""
        X = self.X.iloc[rows] if isinstance(self.X, pd.DataFrame) else self.X[rows]
        targets = None if self.targets is None else self.targets.take(rows)
        given = None if self.sample_weight is None else self.sample_weight[rows]
        parts = self.weight[rows], self.rows[rows], self.groups[rows], given
        return TrainingTable(X, targets, *parts)


@dataclass(frozen=True)
class UnlabelledTable:
    """Rows to learn from without targets; all count alike.

    Attributes
    ----------
    X : ndarray or DataFrame
        The rows.
    """

    X: Any
    targets: None = None
    sample_weight: None = None
    held: np.ndarray | None = None

    @property
    def rows(self) -> pd.Index:
        """What the table calls its rows, for messages."""
        return row_labels(self.X)

    @property
    def weight(self) -> np.ndarray:
        """One for each row."""
        return np.ones(len(self.X))

    @property
    def kept(self) -> np.ndarray:
        """Positions of the rows to learn from."""
        return kept_rows(len(self.X), self.held)


def kept_rows(n_rows: int, held: np.ndarray | None) -> np.ndarray:
    """Positions of the rows to learn from.

    Parameters
    ----------
    n_rows : int
        Of the table.
    held : ndarray of int or None
        Positions of the rows that early stopping judges by.

    Returns
    -------
    ndarray of int
        All others, in order.
    """
    rows = np.arange(n_rows)
    return rows if held is None else np.delete(rows, held)


class NetworkEstimator(CallbackSupportMixin, LeftOutRows, BaseEstimator, ABC):
    """Base of the estimators that keep their weights as arrays.

    A subclass implements ``_build_network`` (an untrained module from ``architecture_``),
    ``_validate`` (what a table must be) and ``_inputs`` (tensors of a validated table). The live
    module is a cache: it is rebuilt from ``state_`` when needed and never pickled.
    """

    state_: dict[str, np.ndarray]
    architecture_: dict[str, Any]
    history_: pd.DataFrame
    _module: Any
    # Set where it is fitted for another one's sake, so that callbacks hear nothing of it.
    _stand_in: bool = False

    # Parameters that every subclass's constructor has.
    dtype: str
    device: Any
    batch_size: Any
    max_epochs: int | str
    learning_rate: float | str
    early_stopping: bool | str
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    random_state: Any
    verbose: int
    _seed: int
    # What they may be; a subclass adds its own.
    _allowed: ClassVar[Mapping[str, Allowed]] = {
        "dtype": OneOf("auto", "float32", "float64"),
        "batch_size": Whole(least=1) | OneOf("auto"),
        "max_epochs": Whole(least=1),
        "learning_rate": Number(above=0),
        "early_stopping": FLAG | OneOf("auto"),
        "validation_fraction": Number(above=0, below=1),
        "n_iter_no_change": Whole(least=1),
        "warm_start": FLAG,
        "random_state": RANDOM_STATE,
        "verbose": Whole(least=0) | FLAG,
    }

    _predict_rows: int | str = "auto"  # what "auto" predicts at once

    # -- what subclasses implement ------------------------------------------------------------

    @abstractmethod
    def _build_network(self) -> nn.Module: ...

    @abstractmethod
    def _validate(self, X: Any) -> Any: ...

    @abstractmethod
    def _inputs(self, X: Any, rows: pd.Index) -> dict[str, Any]:
        """Tensors of a validated table; an error calls its rows by these labels."""

    @abstractmethod
    def _absent(self, X: Any) -> list[str]:
        """Name the modalities of the fit that no row of a validated table has."""

    # -- shared steps -------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        """Refuse parameters before anything is read; a subclass adds what involves several."""
        check_parameters(self)

    @property
    def _n_features_out(self) -> int:
        return int(self.architecture_["embed_width"])

    def _predict(self, X: Any) -> dict[str, np.ndarray]:
        """Run the network over a table; every output, row by row."""
        return self._outputs(self._checked(X), row_labels(X))

    def _checked(self, X: Any) -> Any:
        """Validate a table to predict on; warn of modalities that it lacks altogether."""
        check_is_fitted(self, "state_")
        refuse_lost_names(self, X)
        X = self._validate(X)
        absent = self._absent(X) if len(X) > 1 else []  # one patient alone often lacks something
        if absent:
            warnings.warn(
                f"no row has the modalities {absent}: predictions come from the others alone.",
                ModalityWarning,
                stacklevel=4,
            )
        return X

    def _outputs(self, X: Any, rows: pd.Index) -> dict[str, np.ndarray]:
        """Run the network over a validated table."""
        from medfusion_sdk.training import predict_batches

        return predict_batches(
            self._network().predict,
            self._inputs(X, rows),
            batch_size=self._predict_rows if self.batch_size == "auto" else self.batch_size,
            device=self.device,
        )

    def _network(self) -> Any:
        """The fitted module, rebuilt from ``state_`` where it isn't at hand."""
        from medfusion_sdk.training import load_state
        from medfusion_sdk.training.randomness import seeded_initialisation

        module = getattr(self, "_module", None)
        if module is None or self._is_misplaced(module):
            # One thread at a time: those that waited find the module that the first has built.
            with seeded_initialisation(0):  # of weights that are replaced at once
                module = getattr(self, "_module", None)
                if module is None or self._is_misplaced(module):
                    module = self._build_network()
                    load_state(module, self.state_)
                    self._module = module.eval()
        return module

    def _is_misplaced(self, module: Any) -> bool:
        """Tell a module that has to be built anew for its device: it can't be moved there."""
        return False

    def _torch_dtype(self, n_values: int) -> Any:
        import torch

        if self.dtype == "auto":
            return torch.float64 if n_values <= _SMALL_TABLE else torch.float32
        return getattr(torch, self.dtype)

    def _train(
        self,
        module: nn.Module,
        table: TrainingTable | UnlabelledTable,
        data: dict[str, Any],
        finish: Callable[[Any], Any] | None = None,
        **config: Any,
    ) -> Any:
        """Train a module on a table's tensors, as the parameters or `config` say.

        `finish` makes a trained module ready to predict: the one returned, and the one of each
        epoch that a callback asks to see. Training without it is a mere preparation, of which
        callbacks hear nothing. Keeps ``history_``.
        """
        import torch

        from medfusion_sdk.training import train

        floating = next(part.dtype for part in module.parameters() if part.requires_grad)
        # Weights of one cost time: batch norms have faster kernels without.
        weight = None
        if (table.weight != 1).any():
            weight = torch.from_numpy(table.weight).to(floating)
        heard = None if finish is None or self._stand_in else self._callbacks(table, finish)
        parts: dict[str, Any] = {"data": data, "sample_weight": weight}
        if table.held is not None:
            parts = self._split(table, data, weight)
        config = {"early_stopping": table.held is not None, **config}
        result = train(
            module,
            config=self._config(len(table.kept), **config),
            seed=self._seed,
            stratify="event" if "event" in data else None,
            device=self.device,
            callbacks=heard,
            label=type(self).__name__,
            **parts,
        )
        self.history_ = result.history
        self.n_iter_ = result.n_epochs
        return module if finish is None else finish(module)

    def _split(
        self, table: TrainingTable | UnlabelledTable, data: dict[str, Any], weight: Tensor | None
    ) -> dict[str, Any]:
        """Part the tensors into those to learn from and those that early stopping judges by."""
        import torch

        kept, held = torch.from_numpy(table.kept), torch.from_numpy(np.asarray(table.held))
        return {
            "data": self._take(data, kept),
            "sample_weight": None if weight is None else weight[kept],
            "validation": self._take(data, held),
            "validation_weight": None if weight is None else weight[held],
        }

    def _kept_part(
        self, table: TrainingTable | UnlabelledTable, data: dict[str, Any]
    ) -> dict[str, Any]:
        """Tensors of the rows to learn from; the same where none are held out."""
        import torch

        return data if table.held is None else self._take(data, torch.from_numpy(table.kept))

    def _take(self, data: dict[str, Any], rows: Tensor) -> dict[str, Any]:
        """Some rows of each tensor, as if there were no others."""
        return {name: part.index_select(0, rows) for name, part in data.items()}

    def _callbacks(
        self, table: TrainingTable | UnlabelledTable, finish: Callable[[Any], Any]
    ) -> FitCallbacks:
        from medfusion_sdk.training import FitCallbacks, module_to_state

        def fitted_attributes(module: nn.Module) -> dict[str, Any]:
            ready = finish(deepcopy(module).cpu().eval())
            return {"state_": module_to_state(ready), "_module": ready}

        return FitCallbacks(
            self,
            self._as_given(table.X),
            None if table.targets is None else table.targets.original,
            sample_weight=table.sample_weight,
            fitted_attributes=fitted_attributes,
        )

    def _as_given(self, X: Any) -> Any:
        """Validated rows in the form that the estimator takes."""
        names = getattr(self, "feature_names_in_", None)
        return X if names is None else pd.DataFrame(X, columns=names)

    def _config(self, n_rows: int, **changed: Any) -> TrainingConfig:
        settings = {
            "max_epochs": self.max_epochs,
            "batch_size": self.batch_size,
            "lr": self.learning_rate,
            "optimizer": "adam",
            "n_iter_no_change": self.n_iter_no_change,
            "verbose": int(self.verbose),
        }
        return TrainingConfig(**settings | changed)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state = {name: value for name, value in state.items() if name != "_module"}
        if "history_" in state:  # as arrays: skops has no form for DataFrames
            state["history_"] = {name: x.to_numpy() for name, x in state["history_"].items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "history_" in state:
            columns = state["history_"].items()
            if not all(isinstance(column, np.ndarray) for _, column in columns):
                raise TypeError("history_ has to be made of arrays")  # a range would fill up
            state = {**state, "history_": pd.DataFrame(dict(columns))}
        super().__setstate__(state)
