"""Train a wide input layer in the span of its training rows.

With n rows of d > n features, gradients of a linear layer lie in the n-dimensional span of the
rows, and an L2 penalty pulls the rest to zero. Training on coordinates within the span is the same
problem, d / n times cheaper, and rid of the random initial weights in directions that no training
row ever tests.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["row_span", "widen"]


def row_span(rows: Tensor) -> Tensor | None:
    """Orthonormal basis of the span of some rows, where that is smaller than their width.

    It follows from which rows there are, not from their order or how often each occurs: so rows of
    weight two train as doubled rows do.

    Parameters
    ----------
    rows : Tensor of shape (n, d), n > 0
        Finite values.

    Returns
    -------
    Tensor of shape (d, k), float64, or None
        At most as many directions k as there are distinct rows; None if those are d or more,
        where there is nothing to gain.
    """
    wide = torch.unique(rows.double(), dim=0)
    n, d = wide.shape
    if n >= d:
        return None
    values, vectors = torch.linalg.eigh(wide @ wide.T)
    kept = values > values.max() * 1e-10
    if not kept.any():
        return torch.zeros(d, 1, dtype=torch.float64)
    basis = wide.T @ (vectors[:, kept] / values[kept].sqrt())
    # An eigenvector's sign is arbitrary; fix it so that equal data give equal fits.
    largest = basis.abs().argmax(dim=0)
    return basis * basis.gather(0, largest[None]).sign()


def widen(layer: nn.Linear, basis: Tensor | None) -> nn.Linear:
    """Turn a layer on span coordinates into the same layer on the features themselves.

    Parameters
    ----------
    layer : torch.nn.Linear
        Trained on ``features @ basis``.
    basis : Tensor of shape (d, k) or None
        From :func:`row_span`; None leaves the layer as it is.

    Returns
    -------
    torch.nn.Linear
        A layer with d inputs.
    """
    if basis is None:
        return layer
    with torch.no_grad():
        back = basis.T.to(layer.weight.device, torch.float64)
        layer.weight = nn.Parameter((layer.weight.double() @ back).to(layer.weight.dtype))
    layer.in_features = basis.shape[0]
    return layer
