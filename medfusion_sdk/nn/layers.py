"""Small layers that methods share: masked softmax, masked attention, batch-shared dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CrossAttention", "MaskedSelfAttention", "SharedDropout", "masked_softmax"]


def masked_softmax(scores: Tensor, allowed: Tensor, dim: int = -1) -> Tensor:
    """Softmax over the allowed entries; the others get exactly zero and no gradient.

    Parameters
    ----------
    scores : Tensor
        Any shape, any floating type.
    allowed : Tensor of bool
        Broadcastable to `scores`. A slice with nothing allowed gives zeros, not NaN.
    dim : int, default=-1
        Axis to normalise.

    Returns
    -------
    Tensor
        Same shape and type as `scores`.
    """
    # The mask enters before the exponential: multiplying afterwards would let the content of a
    # masked entry leak through the normaliser. Half precision overflows here, so float32 at least.
    wide = scores if scores.dtype == torch.float64 else scores.float()
    masked = wide.masked_fill(~allowed, float("-inf"))
    top = masked.amax(dim=dim, keepdim=True).detach()
    weights = torch.exp(masked - torch.where(torch.isfinite(top), top, torch.zeros_like(top)))
    total = weights.sum(dim=dim, keepdim=True)
    return (weights / total.clamp_min(torch.finfo(wide.dtype).tiny)).to(scores.dtype)


class SharedDropout(nn.Module):
    """Dropout with one mask per batch, shared by all its rows.

    Independent masks make a fit depend on the order and the repetition of rows, so that a row of
    weight two isn't two rows. One mask per step keeps the regularisation (each step trains a
    random sub-network) and restores both equalities.

    Parameters
    ----------
    p : float
        Probability of zeroing a unit.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        # Seeded by the training engine; never the global generator.
        self.generator: torch.Generator | None = None
        # Drops in evaluation too; whoever asks for it seeds the generator.
        self.sampling = False

    def forward(self, x: Tensor) -> Tensor:
        """Drop units of the last axes.

        Parameters
        ----------
        x : Tensor of shape (B, ...)
            Activations.

        Returns
        -------
        Tensor of shape (B, ...)
            The input itself outside training and sampling.
        """
        if not (self.training or self.sampling) or self.p == 0.0:
            return x
        keep = torch.rand(x.shape[1:], generator=self.generator) >= self.p
        return x * (keep.to(x) / (1.0 - self.p))


class MaskedSelfAttention(nn.Module):
    """Multi-head self-attention over the tokens of one row, blind to masked tokens.

    Parameters
    ----------
    width : int
        Token width h.
    n_heads : int
        Number of heads; divides `width`.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        if width % n_heads:
            raise ValueError(f"n_heads={n_heads} does not divide the width {width}.")
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Attend within each row.

        Parameters
        ----------
        tokens : Tensor of shape (B, M, h)
            One token per modality.
        present : Tensor of shape (B, M), bool
            False keys get no attention.

        Returns
        -------
        attended : Tensor of shape (B, M, h)
            Output tokens; those of absent queries carry no meaning.
        weights : Tensor of shape (B, n_heads, M, M)
            Attention from query (third axis) to key (last axis).
        """
        n_rows, n_tokens, width = tokens.shape
        qkv = self.qkv(tokens).view(n_rows, n_tokens, 3, self.n_heads, width // self.n_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / (width // self.n_heads) ** 0.5
        weights = masked_softmax(scores, present[:, None, None, :])
        attended = (weights @ value).transpose(1, 2).reshape(n_rows, n_tokens, width)
        return self.out(attended), weights


class CrossAttention(nn.Module):
    """Multi-head attention from some tokens to others, blind to those that aren't allowed.

    Parameters
    ----------
    width : int
        Token width h.
    n_heads : int
        Number of heads; divides `width`.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        if width % n_heads:
            raise ValueError(f"n_heads={n_heads} does not divide the width {width}.")
        self.n_heads = n_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Attend within each row.

        Parameters
        ----------
        queries : Tensor of shape (B, Q, h) or (1, Q, h)
            Who looks; the same in every row if there is but one.
        tokens : Tensor of shape (B, K, h)
            What is looked at; finite where it isn't allowed, too.
        allowed : Tensor of shape (B, Q, K), bool
            Which tokens each query may look at.

        Returns
        -------
        attended : Tensor of shape (B, Q, h)
            Zero for a query that may look at nothing.
        weights : Tensor of shape (B, n_heads, Q, K)
            Attention, zero where it isn't allowed.
        """
        split = (self.n_heads, queries.shape[-1] // self.n_heads)
        query = self.query(queries).unflatten(-1, split).transpose(1, 2)
        key, value = self.key_value(tokens).unflatten(-1, (2, *split)).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / split[1] ** 0.5
        weights = masked_softmax(scores, allowed[:, None])
        attended = self.out((weights @ value).transpose(1, 2).flatten(2))
        return torch.where(allowed.any(dim=-1, keepdim=True), attended, 0.0), weights
