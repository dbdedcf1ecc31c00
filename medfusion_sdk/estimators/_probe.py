"""Linear probing before fine-tuning: the head starts as logistic regression on frozen read-outs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._targets import Targets

if TYPE_CHECKING:
    from medfusion_sdk.nn.dual_adapter import DualAdapterNetwork
    from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask

__all__ = ["logistic_head", "standardisation", "start_head"]

TEXT = 1  # position of the textual-primary path
_LEAST_ALPHA = 1e-6


def start_head(
    task: SupervisedTask,
    frozen: DualAdapterNetwork,
    table: TrainingTable,
    data: dict[str, Any],
    *,
    alpha: float,
) -> None:
    """Probe the frozen texts: standardise their read-outs, and begin with the best head.

    Parameters
    ----------
    task : SupervisedTask
        Untrained.
    frozen : DualAdapterNetwork
        The same network in full precision.
    table : TrainingTable
        The rows to learn from.
    data : dict of Tensor
        Their tensors.
    alpha : float
        L2 penalty of the head, as in :class:`DualAdapterClassifier`.
    """
    import torch

    rows = table.kept[data["has_text"].numpy()[table.kept]]
    if not rows.size:
        return
    names = ("tokens", "windows")
    texts = [data[name].index_select(0, torch.from_numpy(rows)) for name in names if name in data]
    z = frozen.frozen_readouts(*texts).double().numpy()
    weight, codes = table.weight[rows], table.targets.codes[rows]
    scale, shift = standardisation(z, weight)
    # The training objective averages the labels' losses, so that each has its share of alpha.
    n_losses = codes.shape[1] if table.targets.multilabel else 1
    coef, bias = logistic_head(
        z * scale + shift,
        replace(table.targets, codes=codes),
        weight,
        C=1 / (max(alpha, _LEAST_ALPHA) * n_losses),
    )
    if task.network.combine.kind == "concat":
        coef = np.concatenate([coef, coef], axis=1) / 2
    norm: Any = task.network.norms[TEXT]
    start = {norm.weight: scale, norm.bias: shift, task.head.weight: coef, task.head.bias: bias}
    with torch.no_grad():
        for parameter, value in start.items():
            parameter.copy_(torch.from_numpy(value))


def standardisation(z: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift that give features mean zero and spread one.

    Parameters
    ----------
    z : ndarray of shape (n, d)
        Read-outs.
    weight : ndarray of shape (n,)
        Row weights.

    Returns
    -------
    scale, shift : ndarray of shape (d,)
        ``scale * z + shift`` is standardised.
    """
    mean = np.average(z, axis=0, weights=weight)
    spread = np.sqrt(np.average((z - mean) ** 2, axis=0, weights=weight))
    # A feature that hardly varies would be blown up from rounding errors.
    scale = 1.0 / np.maximum(spread, 1e-3 * max(spread.max(), 1e-12))
    return scale, -mean * scale


def logistic_head(
    z: np.ndarray, targets: Targets, weight: np.ndarray, C: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit logistic regression to standardised read-outs.

    Parameters
    ----------
    z : ndarray of shape (n, d)
        Standardised read-outs.
    targets : Targets
        Classes or labels of the rows.
    weight : ndarray of shape (n,)
        Row weights.
    C : float
        Inverse strength of the L2 penalty, as in :class:`~sklearn.linear_model.LogisticRegression`.

    Returns
    -------
    coef : ndarray of shape (n_outputs, d)
        Weights of the head.
    intercept : ndarray of shape (n_outputs,)
        Its bias.
    """
    if targets.multilabel:
        fitted = [_binary(z, column, weight, C) for column in targets.codes.T]
        return np.array([coef for coef, _ in fitted]), np.array([bias for _, bias in fitted])
    n_classes = len(targets.classes)
    found = np.unique(targets.codes)  # a class may have no text at all
    coef, bias = np.zeros((n_classes, z.shape[1])), np.zeros(n_classes)
    if len(found) == 2:
        one, offset = _binary(z, (targets.codes == found[1]).astype(int), weight, C)
        coef[found], bias[found] = [-one / 2, one / 2], [-offset / 2, offset / 2]
    elif len(found) > 2:
        model = LogisticRegression(C=C, max_iter=1000).fit(z, targets.codes, weight)
        coef[found], bias[found] = model.coef_, model.intercept_
    return coef, bias


def _binary(z: np.ndarray, y: np.ndarray, weight: np.ndarray, C: float) -> tuple[Any, float]:
    share = np.clip(np.average(y, weights=weight), 1e-3, 1 - 1e-3)
    if len(np.unique(y)) < 2:  # a label that all rows share, or none has
        return np.zeros(z.shape[1]), float(np.log(share / (1 - share)))
    model = LogisticRegression(C=C, max_iter=1000).fit(z, y, weight)
    return model.coef_[0], float(model.intercept_[0])
