"""AdaCoMed's small path: a pretrained model, or a block that already is its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.estimators.small import SmallMultimodalClassifier
from medfusion_sdk.exceptions import ModalityError, ParameterError

__all__ = ["SmallPath", "apply_where", "fit_small_path", "has_any", "select_blocks"]


def select_blocks(
    blocks: dict[str, np.ndarray], names: Sequence[str] | None, parameter: str
) -> dict[str, np.ndarray]:
    """Blocks that a path reads.

    Parameters
    ----------
    blocks : dict of str to ndarray of int
        All blocks.
    names : sequence of str or None
        Modalities to keep; None keeps all.
    parameter : str
        For the message.

    Returns
    -------
    dict of str to ndarray of int
        Those blocks, in the table's order.

    Raises
    ------
    ModalityError
        For a name that the table lacks.
    """
    if names is None:
        return dict(blocks)
    unknown = [name for name in names if name not in blocks]
    if unknown or not len(names):
        raise ModalityError(
            f"{parameter}={list(names)}: {'unknown ' + str(unknown) if unknown else 'names none'}; "
            f"the table has the modalities {list(blocks)}."
        )
    return {name: columns for name, columns in blocks.items() if name in names}


@dataclass(frozen=True)
class SmallPath:
    """What turns a table into e_small.

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
        if self.model is not None:
            return self.model.architecture_["embed_width"]
        assert self.scaling is not None
        return sum(self.scaling.dims)

    def embed(self, X: np.ndarray, has_small: np.ndarray) -> np.ndarray:
        """Embed a table.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
            Values, NaN where missing.
        has_small : ndarray of shape (n,), bool
            Rows that have one of the path's modalities.

        Returns
        -------
        ndarray of shape (n, width)
            e_small; zero in the other rows.
        """
        e_small = np.zeros((len(X), self.width))
        if has_small.any():
            rows = X[has_small]
            e_small[has_small] = (
                self.model.transform(rows[:, self.columns])
                if self.model is not None
                else self.scaling.apply(rows)[0]  # type: ignore[union-attr]
            )
        return e_small


def fit_small_path(
    estimator: Any, table: TrainingTable, blocks: dict[str, np.ndarray]
) -> SmallPath:
    """Stage 1: pretrain the small model on the rows that have one of its modalities.

    Parameters
    ----------
    estimator : AdaCoMedClassifier
        Whose small model it is.
    table : TrainingTable
        The training rows.
    blocks : dict of str to ndarray of int
        The small path's modalities.

    Returns
    -------
    SmallPath
        Ready to embed.

    Raises
    ------
    ParameterError
        If a precomputed embedding isn't one modality.
    """
    rows = has_any(table.X, blocks)
    if isinstance(estimator.small, str):
        if estimator.small_modalities is None or len(blocks) != 1:
            raise ParameterError(
                'small="precomputed" needs small_modalities=[name], the one modality that '
                f"holds e_small; got {estimator.small_modalities!r}."
            )
        X, weight = table.X[rows], table.weight[rows]
        scaling = BlockScaling.fit(X, weight, feature_names=None, modalities=blocks, scaling="none")
        return SmallPath(blocks, scaling=scaling)
    given = estimator.small
    model = SmallMultimodalClassifier() if given is None else clone(given)
    path = SmallPath(blocks, model)
    model.set_params(modalities=path.positions)
    if model.random_state is None:
        model.set_params(random_state=estimator._seed)
    if given is None:
        inherited = ("scaling", "dtype", "device", "batch_size", "max_epochs")
        model.set_params(**{name: getattr(estimator, name) for name in inherited})
        if not isinstance(model.scaling, str):
            own = {name: kind for name, kind in model.scaling.items() if name in blocks}
            model.set_params(scaling=own)
    X = table.X[rows][:, path.columns]
    model.fit(X, table.targets.original[rows], sample_weight=table.weight[rows])
    return path


def has_any(X: np.ndarray, blocks: dict[str, np.ndarray]) -> np.ndarray:
    """Rows that have one of the modalities.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
        Values, NaN where missing.
    blocks : dict of str to ndarray of int
        The modalities.

    Returns
    -------
    ndarray of shape (n,), bool
        True where a value is there.
    """
    return ~np.isnan(X[:, np.concatenate(list(blocks.values()))]).all(axis=1)


def apply_where(
    scaling: BlockScaling, X: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scale the rows that a path has; the others are absent altogether.

    Parameters
    ----------
    scaling : BlockScaling
        The path's.
    X : ndarray of shape (n, n_features)
        Values, NaN where missing.
    rows : ndarray of shape (n,), bool
        From :func:`has_any`.

    Returns
    -------
    x : ndarray of shape (n, sum(dims))
        Scaled values, zero in absent rows.
    present : ndarray of shape (n, M), bool
        Presence mask.
    """
    x = np.zeros((len(X), sum(scaling.dims)))
    present = np.zeros((len(X), len(scaling.dims)), dtype=bool)
    if rows.any():
        x[rows], present[rows] = scaling.apply(X[rows])
    return x, present
