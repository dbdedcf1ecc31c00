"""AdaCoMed's small path: a pretrained model, or a block that already is its embedding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._paths import has_any
from medfusion_sdk.estimators._rows import values_of
from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.estimators.small import SmallMultimodalClassifier
from medfusion_sdk.exceptions import ModalityError, ParameterError

__all__ = ["BlockPath", "CohortPath", "SmallPath", "fit_small_path"]


class SmallPath(ABC):
    """What turns validated rows into e_small.

    Attributes
    ----------
    blocks : dict of str to ndarray of int
        Column positions of the modalities that it reads of the block table.
    model : SmallMultimodalClassifier or None
        The pretrained model.
    """

    blocks: dict[str, np.ndarray]
    model: Any

    @property
    def width(self) -> int:
        """Width of e_small."""
        return self.model.architecture_["embed_width"]

    def embed(self, X: Any) -> np.ndarray:
        """Embed rows.

        Parameters
        ----------
        X : ndarray of shape (n, n_features) or CohortRows
            Validated rows.

        Returns
        -------
        ndarray of shape (n, width)
            e_small; zero in the rows that have nothing for the path.
        """
        has_small = self.present(X)
        e_small = np.zeros((len(X), self.width))
        if has_small.any():
            e_small[has_small] = self._embed(X[has_small])
        return e_small

    @abstractmethod
    def present(self, X: Any) -> np.ndarray:
        """Tell which validated rows have something that the path reads."""

    @abstractmethod
    def _embed(self, X: Any) -> np.ndarray: ...


@dataclass(frozen=True)
class BlockPath(SmallPath):
    """A small path that reads blocks, or a block that is e_small.

    Attributes
    ----------
    blocks : dict of str to ndarray of int
        Column positions of its modalities.
    model : SmallMultimodalClassifier or None
        The pretrained model.
    scaling : BlockScaling or None
        Without a model: how the precomputed block is scaled.
    """

    blocks: dict[str, np.ndarray]
    model: Any = None
    scaling: BlockScaling | None = None

    @property
    def columns(self) -> np.ndarray:
        """Columns that the small path reads, block after block."""
        return np.concatenate(list(self.blocks.values()))

    @property
    def positions(self) -> dict[str, np.ndarray]:
        """The blocks within :attr:`columns`."""
        bounds = np.cumsum([0, *(len(columns) for columns in self.blocks.values())])
        return {
            name: np.arange(start, stop)
            for name, start, stop in zip(self.blocks, bounds, bounds[1:], strict=False)
        }

    @property
    def width(self) -> int:
        """Width of e_small."""
        return super().width if self.scaling is None else sum(self.scaling.dims)

    def present(self, X: Any) -> np.ndarray:
        """Tell which rows have one of the modalities.

        Parameters
        ----------
        X : ndarray of shape (n, n_features) or CohortRows
            Validated rows.

        Returns
        -------
        ndarray of shape (n,), bool
            True where a value is there.
        """
        return has_any(values_of(X), self.blocks)

    def _embed(self, X: Any) -> np.ndarray:
        values = values_of(X)
        if self.scaling is not None:
            return self.scaling.apply(values)[0]
        return self.model.transform(values[:, self.columns])


@dataclass(frozen=True)
class CohortPath(SmallPath):
    """A small path that reads the cohort table's cells.

    Attributes
    ----------
    model : SmallMultimodalClassifier
        The pretrained model.
    blocks : dict
        Empty: it reads no block of the large path.
    """

    model: Any
    blocks: dict[str, np.ndarray] = field(default_factory=dict)

    def present(self, X: Any) -> np.ndarray:
        """Tell which rows have a cell.

        Parameters
        ----------
        X : CohortRows
            Rows.

        Returns
        -------
        ndarray of shape (n,), bool
            True where a cell is there.
        """
        return X.has_small

    def _embed(self, X: Any) -> np.ndarray:
        return self.model.transform(X.cells)


def fit_small_path(
    estimator: Any, table: TrainingTable, blocks: dict[str, np.ndarray]
) -> SmallPath:
    """Stage 1: pretrain the small model on the rows that have something for it.

    Parameters
    ----------
    estimator : AdaCoMedClassifier
        Whose small model it is.
    table : TrainingTable
        The training rows.
    blocks : dict of str to ndarray of int
        Modalities of the block table that the small path reads; none where it reads cells.

    Returns
    -------
    SmallPath
        Ready to embed.

    Raises
    ------
    ParameterError
        If a precomputed embedding isn't one modality.
    ModalityError
        If no row has anything for the small path.
    """
    if isinstance(estimator.small, str):
        return _precomputed_path(estimator, table, blocks)
    model = _start_model(estimator, blocks)
    path: SmallPath = BlockPath(blocks, model) if blocks else CohortPath(model)
    rows = path.present(table.X)
    if not rows.any():
        raise ModalityError("no row to learn from has a cell that the small model reads.")
    if isinstance(path, BlockPath):
        model.set_params(modalities=path.positions)
        X = values_of(table.X)[rows][:, path.columns]
    else:
        X = table.X.cells.iloc[np.flatnonzero(rows)]
    given = {"sample_weight": table.weight[rows], "groups": table.groups[rows]}
    model.fit(X, table.targets.original[rows], **given)
    return path


def _precomputed_path(
    estimator: Any, table: TrainingTable, blocks: dict[str, np.ndarray]
) -> BlockPath:
    if estimator.small_modalities is None or len(blocks) != 1:
        raise ParameterError(
            'small="precomputed" needs small_modalities=[name], the one modality that '
            f"holds e_small; got {estimator.small_modalities!r}."
        )
    values = values_of(table.X)
    rows = has_any(values, blocks)
    X, weight = values[rows], table.weight[rows]
    scaling = BlockScaling.fit(X, weight, feature_names=None, modalities=blocks, scaling="none")
    return BlockPath(blocks, scaling=scaling)


def _start_model(estimator: Any, blocks: dict[str, np.ndarray]) -> Any:
    """An unfitted small model, with what it takes over from the estimator."""
    given = estimator.small[-1] if isinstance(estimator.small, Pipeline) else estimator.small
    model = SmallMultimodalClassifier() if given is None else clone(given)
    # Its embedding and head are what counts; their scores are calibrated together with the others.
    model.set_params(calibrate=False)
    if model.random_state is None:
        model.set_params(random_state=estimator._seed)
    if given is None:
        inherited = ["scaling", "dtype", "device"]
        if blocks:  # encoders of cells have other needs than one layer on blocks
            inherited += ["batch_size", "max_epochs"]
        model.set_params(**{name: getattr(estimator, name) for name in inherited})
        if not isinstance(model.scaling, str):
            own = {name: kind for name, kind in model.scaling.items() if name in blocks}
            model.set_params(scaling=own if blocks else "auto")
    return model
