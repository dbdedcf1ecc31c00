"""Classification losses and probabilities, one place for binary, multiclass and multilabel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

__all__ = ["classification_loss", "focal_loss", "l2_penalty", "probabilities", "weighted_mean"]


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of `values` with row weights.

    Parameters
    ----------
    values, weight : Tensor of shape (B,)
        One value and one weight per row.

    Returns
    -------
    Tensor
        Scalar.
    """
    return (values * weight).sum() / weight.sum()


def classification_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each row.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Class scores.
    target : Tensor of shape (B,) int64, or (B, C) floating
        Class positions, or 0/1 labels (multilabel: the mean of the C binary cross-entropies).

    Returns
    -------
    Tensor of shape (B,)
        Loss of each row.
    """
    if target.ndim == 1:
        return cross_entropy(logits, target, reduction="none")
    target = target.to(logits)
    return binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=1)


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Focal loss of each row (Lin et al. 2017): what is easy counts little.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Class scores.
    target : Tensor of shape (B,) int64, or (B, C) floating
        Class positions, or 0/1 labels.
    gamma : float, default=2.0
        The cross-entropy is multiplied by ``(1 - p) ** gamma``, p being the true class's
        probability.
    alpha : float, default=0.25
        Weight of the second of two classes and of labels that apply; the others get one minus it.
        Three classes or more have no such weight.

    Returns
    -------
    Tensor of shape (B,)
        Loss of each row.
    """
    if target.ndim == 1:
        log_p = logits.log_softmax(dim=1).gather(1, target[:, None])[:, 0]
        balance = torch.where(target == 1, alpha, 1 - alpha) if logits.shape[1] == 2 else 1.0
        return -balance * (1 - log_p.exp()) ** gamma * log_p
    target = target.to(logits)
    log_p = nn.functional.logsigmoid(torch.where(target > 0.5, logits, -logits))
    balance = torch.where(target > 0.5, alpha, 1 - alpha)
    return (-balance * (1 - log_p.exp()) ** gamma * log_p).mean(dim=1)


def probabilities(logits: Tensor, multilabel: bool) -> Tensor:
    """Probabilities of the classes, or of each label.

    Parameters
    ----------
    logits : Tensor of shape (..., C)
        Class scores.
    multilabel : bool
        Labels are independent.

    Returns
    -------
    Tensor of the same shape
        Rows sum to one unless `multilabel`.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.sigmoid() if multilabel else wide.softmax(dim=-1)


def l2_penalty(module: nn.Module, alpha: float) -> Tensor | float:
    """``alpha / 2`` times the squared norm of a module's trainable weight matrices.

    Parameters
    ----------
    module : torch.nn.Module
        Biases, norms and other vectors aren't penalised.
    alpha : float
        Strength; zero costs nothing.

    Returns
    -------
    Tensor or float
        Scalar.
    """
    if alpha == 0.0:
        return 0.0
    weights = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    return 0.5 * alpha * torch.stack([w.square().sum() for w in weights]).sum()
