"""The expert beside a network of diagnosis: a ridge logistic model per modality, and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from medfusion_sdk.estimators._group_folds import N_FOLDS, group_folds
from medfusion_sdk.estimators._scaling import mean_and_spread
from medfusion_sdk.estimators._unseen import fit_modalities, minimise

__all__ = [
    "RidgeExpert",
    "both_answers",
    "fit_ridge_expert",
    "ridge_suffices",
    "spread_of",
    "weigh",
]

# Rows of a modality have RMS norm one: a priori its log-odds have this variance. TCGA would have
# less, PTB-XL more: from 0.3 to 3 each scores within 0.02 of AUROC.
_PRIOR_VARIANCE = 1.0
# "auto" has an expert from here on: weighing modalities needs folds with enough of each class.
_ROWS, _CLASS_ROWS = 100, 10


@dataclass(frozen=True)
class RidgeExpert:
    """Linear log-odds.

    Attributes
    ----------
    coef : ndarray of shape (sum(dims), n_outputs)
        Per scaled column, modality after modality.
    intercept : ndarray of shape (n_outputs,)
        Log-odds of a row without anything.
    weights : ndarray of shape (M, K)
        What each modality's own log-odds, in their standard deviations, count; at least zero. One
        column for classes, one for each label. A last row is that of trees, where there are any.
    tree_coef : ndarray of shape (K,)
        What is multiplied with the scores of trees.
    """

    coef: np.ndarray
    intercept: np.ndarray
    weights: np.ndarray
    tree_coef: np.ndarray

    def scores(self, x: np.ndarray, trees: np.ndarray | None = None) -> np.ndarray:
        """Log-odds.

        Parameters
        ----------
        x : ndarray of shape (n, sum(dims))
            Scaled rows, zero where something is missing: an absent modality counts as average.
        trees : ndarray of shape (n, n_outputs), optional
            Scores of the trees that it was fitted with.

        Returns
        -------
        ndarray of shape (n, n_outputs)
            Of classes, around zero; or of labels.
        """
        linear = self.intercept + x @ self.coef
        return linear if trees is None else linear + trees * self.tree_coef


def ridge_suffices(y: np.ndarray, groups: np.ndarray) -> bool:
    """Whether rows suffice, of each class, or for and against each label; and groups for folds."""
    enough = len(y) >= _ROWS and _rarest(y) >= _CLASS_ROWS
    return enough and len(np.unique(groups)) >= N_FOLDS


def _rarest(y: np.ndarray) -> int:
    """Rows of the rarest class, or of the rarest answer to a label."""
    counts = np.bincount(y) if y.ndim == 1 else np.concatenate([y.sum(0), (1 - y).sum(0)])
    return int(counts.min())


def fit_ridge_expert(
    x: np.ndarray,
    present: np.ndarray,
    dims: Sequence[int],
    y: np.ndarray,
    weight: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
    n_classes: int | None = None,
    trees: np.ndarray | None = None,
) -> tuple[RidgeExpert, np.ndarray]:
    """Fit ridge logistic models to each modality, and weigh them by what they say of unseen rows.

    Parameters
    ----------
    x : ndarray of shape (n, sum(dims))
        Scaled rows, zero where something is missing.
    present : ndarray of shape (n, M), bool
        Presence mask.
    dims : sequence of int
        Width of each modality.
    y : ndarray of shape (n,) of int, or (n, L)
        Classes, two or more; or 0/1 labels.
    weight : ndarray of shape (n,)
        Row weights.
    groups : ndarray of shape (n,) of int
        What belongs together.
    seed : int
        Of the folds.
    n_classes : int, optional
        Where y holds classes; those that it has by default. One without a row gets no opinion.
    trees : ndarray of shape (n, n_outputs), optional
        Scores by trees that haven't seen the rows, to be weighed beside.

    Returns
    -------
    expert : RidgeExpert
        For rows to come.
    scores : ndarray of shape (n, n_outputs)
        Log-odds of each row, by models that haven't seen its group.
    """
    fold = group_folds(groups, y, weight, seed=seed)
    n_classes = n_classes or int(y.max()) + 1

    def fit(z: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if y.ndim == 1:
            return _fit_classes(z, y[rows], weight[rows], n_classes)
        own = [_fit_classes(z, label[rows].astype(int), weight[rows], 2) for label in y.T]
        return np.hstack([np.diff(coef, axis=1) for coef in own])

    coefs, voices = fit_modalities(x, present, dims, fold, fit)
    if trees is not None:
        voices = np.concatenate([voices, trees[:, None]], axis=1)
    weights, factors, intercept = weigh(voices, y, weight)
    coef = np.concatenate([own * by for own, by in zip(coefs, factors, strict=False)])
    tree_coef = factors[-1] if trees is not None else np.zeros(factors.shape[1])
    scores = intercept + (voices * factors).sum(axis=1)
    return RidgeExpert(coef, intercept, weights, tree_coef), scores


def _fit_classes(z: np.ndarray, y: np.ndarray, weight: np.ndarray, n_classes: int) -> np.ndarray:
    """Coefficients (width, C) of the classes, around zero; no opinion on those without a row."""
    coef = np.zeros((z.shape[1], n_classes))
    there = np.unique(y)
    if len(there) > 1:
        model = LogisticRegression(C=_PRIOR_VARIANCE, tol=1e-6, max_iter=2000)
        found = model.fit(z, y, sample_weight=weight).coef_.T
        coef[:, there] = np.hstack([-found / 2, found / 2]) if len(there) == 2 else found
    return coef


def weigh(
    voices: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weigh scores by what they tell of rows that they were made without.

    Parameters
    ----------
    voices : ndarray of shape (n, V, n_outputs)
        Scores of V models.
    y : ndarray of shape (n,) of int, or (n, L)
        Classes or 0/1 labels.
    weight : ndarray of shape (n,)
        Row weights.

    Returns
    -------
    weights : ndarray of shape (V, K)
        What each counts, in its standard deviations; at least zero. One column for classes, one
        for each label.
    factors : ndarray of shape (V, K)
        The same as what its scores are multiplied with.
    intercept : ndarray of shape (n_outputs,)
        What is added to the sum.
    """
    if y.ndim == 1:
        own, factor, intercept = _weigh_classes(voices, y, weight)
        return own[:, None], factor[:, None], intercept
    pairs = [
        _weigh_classes(both_answers(voices[:, :, i]), label.astype(int), weight)
        for i, label in enumerate(y.T)
    ]
    weights, factors, intercepts = zip(*pairs, strict=True)
    return np.stack(weights, 1), np.stack(factors, 1), np.diff(np.stack(intercepts), axis=1)[:, 0]


def _weigh_classes(
    voices: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (V,) of class scores (n, V, C), these over the voices' spreads, and intercepts."""
    import torch

    from medfusion_sdk.nn.tasks import classification_loss

    spread = spread_of(voices, weight)
    spread[spread == 0] = np.inf
    n_voices, n_classes = voices.shape[1:]
    inputs = torch.from_numpy(voices / spread[:, None])
    target, mass = torch.from_numpy(y), torch.from_numpy(weight)

    def penalised(trial: torch.Tensor) -> torch.Tensor:
        own, intercept = trial[:n_voices], trial[n_voices:]
        logits = intercept + torch.einsum("nvc,v->nc", inputs, own)
        loss = mass @ classification_loss(logits, target)
        return loss + own.square().sum() / (2 * _PRIOR_VARIANCE)

    counts = np.maximum(np.bincount(y, weight, n_classes), 1.0)
    shares = np.log(counts)
    start = np.concatenate([np.zeros(n_voices), shares - shares.mean()])
    least = np.concatenate([np.zeros(n_voices), np.full(n_classes, -np.inf)])
    found = minimise(penalised, start, at_least=least)
    weights = found[:n_voices]
    return weights, weights / spread, found[n_voices:] - found[n_voices:].mean()


def both_answers(log_odds: np.ndarray) -> np.ndarray:
    """Scores of no and yes, around zero, of log-odds."""
    return np.stack([-log_odds / 2, log_odds / 2], axis=-1)


def spread_of(scores: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Standard deviation of class scores (n, ..., C), as large as that of log-odds for two."""
    flat = scores.reshape(len(scores), -1)
    return 2 * np.sqrt((mean_and_spread(flat, weight)[1] ** 2).reshape(scores.shape[1:]).mean(-1))
