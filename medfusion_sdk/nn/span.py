"""Train a wide input layer in the span of its training rows.

With n rows of d > n features, gradients of a linear layer lie in the n-dimensional span of the
rows, and an L2 penalty pulls the rest to zero. Training on coordinates within the span is the same
problem, d / n times cheaper, and rid of the random initial weights in directions that no training
row ever tests.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

__all__ = ["row_span", "widen"]


def row_span(rows: np.ndarray) -> np.ndarray | None:
    """Orthonormal basis of the span of some rows, where that is smaller than their width.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Finite values.

    Returns
    -------
    ndarray of shape (d, k) or None
        k <= n directions; None if n >= d, where there is nothing to gain.
    """
    n, d = rows.shape
    if n >= d:
        return None
    wide = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(wide @ wide.T)
    kept = values > values.max(initial=0.0) * 1e-10
    if not kept.any():
        return np.zeros((d, 1))
    basis = wide.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    # An eigenvector's sign is arbitrary; fix it so that equal data give equal fits.
    largest = np.abs(basis).argmax(axis=0)
    return basis * np.sign(basis[largest, np.arange(basis.shape[1])])


def widen(layer: nn.Linear, basis: np.ndarray | None) -> nn.Linear:
    """Turn a layer on span coordinates into the same layer on the features themselves.

    Parameters
    ----------
    layer : torch.nn.Linear
        Trained on ``features @ basis``.
    basis : ndarray of shape (d, k) or None
        From :func:`row_span`; None leaves the layer as it is.

    Returns
    -------
    torch.nn.Linear
        A layer with d inputs.
    """
    if basis is None:
        return layer
    with torch.no_grad():
        back = torch.from_numpy(basis.T.copy()).to(layer.weight.device, torch.float64)
        layer.weight = nn.Parameter((layer.weight.double() @ back).to(layer.weight.dtype))
    layer.in_features = basis.shape[0]
    return layer
