"""Linear models of each modality alone, and what they say of rows that they haven't seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["fit_modalities", "in_span", "minimise"]

# Coefficients (width, K) from coordinates (n, width) of rows, and their positions in the table.
Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]


def fit_modalities(
    x: np.ndarray, present: np.ndarray, dims: Sequence[int], fold: np.ndarray, fit: Fit
) -> tuple[list[np.ndarray], np.ndarray]:
    """Fit a linear model to each modality, and one without each fold for the rows of that.

    Parameters
    ----------
    x : ndarray of shape (n, sum(dims))
        Scaled rows, zero where something is missing.
    present : ndarray of shape (n, M), bool
        Presence mask; a model learns from the rows that have its modality.
    dims : sequence of int
        Width of each modality.
    fold : ndarray of shape (n,) of int
        Of each row.
    fit : callable
        ``fit(z, rows)`` gives coefficients (width, K) of coordinates z (len(rows), width): in the
        span of the modality's rows, where that is narrower than its columns.

    Returns
    -------
    coefs : list of ndarray of shape (width, K)
        Of each modality's columns, from all its rows.
    unseen : ndarray of shape (n, M, K)
        What each modality's model says of each row, by one that hasn't seen it; zero where the
        modality is absent.
    """
    coefs, unseen = [], []
    for m, part in enumerate(np.split(x, np.cumsum(dims)[:-1], axis=1)):
        rows = np.flatnonzero(present[:, m])
        z, basis = in_span(part[rows])
        whole = fit(z, rows)
        own = np.zeros((len(x), whole.shape[1]))
        for number in np.unique(fold[rows]):
            out = fold[rows] == number
            if not out.all():
                own[rows[out]] = z[out] @ fit(z[~out], rows[~out])
        coefs.append(whole if basis is None else basis @ whole)
        unseen.append(own)
    return coefs, np.stack(unseen, axis=1)


def minimise(
    loss: Callable[[Tensor], Tensor],
    start: np.ndarray,
    *,
    at_least: np.ndarray | None = None,
    tol: float | None = None,
) -> np.ndarray:
    """Find what makes a convex loss smallest.

    Parameters
    ----------
    loss : callable
        Of a float64 tensor like `start`.
    start : ndarray of shape (n,)
        Where to begin.
    at_least : ndarray of shape (n,), optional
        Lower bounds.
    tol : float, optional
        How exactly: see :func:`scipy.optimize.minimize`.

    Returns
    -------
    ndarray of shape (n,)
        Where it is.
    """
    import torch

    def value(at: np.ndarray) -> tuple[float, np.ndarray]:
        trial = torch.from_numpy(at).requires_grad_()
        found = loss(trial)
        (gradient,) = torch.autograd.grad(found, trial)
        return found.item(), gradient.numpy()

    bounds = None if at_least is None else [(low, None) for low in at_least]
    return minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, tol=tol).x


def in_span(x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Coordinates of rows within their span, and its basis, where that is narrower than they."""
    import torch

    from medfusion_sdk.nn.span import row_span

    if not len(x):
        return x, None
    basis = row_span(torch.from_numpy(x))
    return (x, None) if basis is None else (x @ basis.numpy(), basis.numpy())
