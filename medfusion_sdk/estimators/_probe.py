"""Linear probing before fine-tuning: the head starts as logistic regression on frozen read-outs."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from medfusion_sdk.estimators._targets import Targets

__all__ = ["logistic_head", "standardisation"]


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
    if len(np.unique(targets.codes)) < 2:
        return np.zeros((n_classes, z.shape[1])), np.zeros(n_classes)
    if n_classes == 2:
        coef, bias = _binary(z, targets.codes, weight, C)
        return np.array([-coef / 2, coef / 2]), np.array([-bias / 2, bias / 2])
    model = LogisticRegression(C=C, max_iter=1000).fit(z, targets.codes, weight)
    return model.coef_, model.intercept_


def _binary(z: np.ndarray, y: np.ndarray, weight: np.ndarray, C: float) -> tuple[Any, float]:
    share = np.clip(np.average(y, weights=weight), 1e-3, 1 - 1e-3)
    if len(np.unique(y)) < 2:  # a label that all rows share, or none has
        return np.zeros(z.shape[1]), float(np.log(share / (1 - share)))
    model = LogisticRegression(C=C, max_iter=1000).fit(z, y, weight)
    return model.coef_[0], float(model.intercept_[0])
