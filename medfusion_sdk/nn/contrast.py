"""Similarity of two vectors of each row, and the contrastive loss between them (AdaCoMed, Eq. 4-5).

Brain-Adapter compares volumes and reports by the same functions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["bank_log_similarity", "batch_log_similarity", "cosine_logits"]


def cosine_logits(z_large: Tensor, z_small: Tensor, temperature: float) -> Tensor:
    """Cosines of every pair over the temperature: C_ik = cos(z_large_i, z_small_k) / tau.

    Parameters
    ----------
    z_large : Tensor of shape (B, d)
        Large path.
    z_small : Tensor of shape (K, d)
        Small path.
    temperature : float
        Divisor tau.

    Returns
    -------
    Tensor of shape (B, K)
        Logits in float32 or wider; a zero vector has cosine zero with everything.
    """
    wide = torch.promote_types(z_large.dtype, torch.float32)
    return normalize(z_large.to(wide), dim=1) @ normalize(z_small.to(wide), dim=1).T / temperature


def batch_log_similarity(logits: Tensor, weight: Tensor, kind: str = "softmax") -> Tensor:
    """Log similarity of each row's two paths, the other rows of the batch being the negatives.

    Its negative, averaged, is the contrastive loss of Eq. 5 where `kind` is "softmax".

    Parameters
    ----------
    logits : Tensor of shape (B, B)
        From :func:`cosine_logits`; the diagonal holds the matches.
    weight : Tensor of shape (B,)
        Positive row weights. A row of weight two is two rows: it is a negative twice, and its
        second copy a negative of its first.
    kind : {"softmax", "softmax_mean", "decoupled"}
        ``softmax``: e^C_ii / sum_k e^C_ik, Eq. 4. ``softmax_mean``: the negatives' sum divided by
        the number of rows, as the authors' code has it, so that chance is near 0.5 at any B.
        ``decoupled``: the sum over the negatives alone.

    Returns
    -------
    Tensor of shape (B,)
        Logarithm of s, at most 0 unless ``decoupled``; exactly 0 for a row without negatives.
    """
    copies = weight.expand_as(logits).clone()
    copies.diagonal().copy_(weight.clamp_min(1.0) - 1.0)
    return _log_similarity(logits.diagonal(), logits + copies.log(), copies.sum(dim=1), kind)


def bank_log_similarity(own: Tensor, bank: Tensor, kind: str = "softmax") -> Tensor:
    """Log similarity of each row's two paths against fixed negatives.

    Parameters
    ----------
    own : Tensor of shape (B,)
        C_ii of each row.
    bank : Tensor of shape (B, K)
        Its cosine logits with the stored negatives.
    kind : {"softmax", "softmax_mean"}
        As in :func:`batch_log_similarity`.

    Returns
    -------
    Tensor of shape (B,)
        Logarithm of s, at most 0.
    """
    return _log_similarity(own, bank, torch.full_like(own, bank.shape[1]), kind)


def _log_similarity(own: Tensor, negatives: Tensor, count: Tensor, kind: str) -> Tensor:
    if kind == "softmax_mean":
        negatives = negatives - torch.log1p(count)[:, None]
    if kind == "decoupled":
        alone = negatives.isneginf().all(dim=1)
        # Before the sum, whose gradient isn't finite without a single term.
        total = negatives.masked_fill(alone[:, None], 0.0).logsumexp(dim=1)
        return torch.where(alone, 0.0, own - total)
    return own - torch.cat([own[:, None], negatives], dim=1).logsumexp(dim=1)
