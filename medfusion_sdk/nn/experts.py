"""Mixture of modality experts (AdaCoMed, Eq. 1-2): one expert per non-empty set of modalities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.layers import MaskedSelfAttention, SharedDropout, masked_softmax

__all__ = ["ModalityExperts", "ModalityMixture", "modality_subsets"]


def modality_subsets(n_modalities: int, max_size: int | None = None) -> list[tuple[int, ...]]:
    """List the non-empty sets of modalities, small ones first.

    Parameters
    ----------
    n_modalities : int
        Number of modalities M.
    max_size : int or None, default=None
        Largest set; None for all 2^M - 1.

    Returns
    -------
    list of tuple of int
        One entry per expert.

    Examples
    --------
    >>> modality_subsets(2)
    [(0,), (1,), (0, 1)]
    """
    largest = n_modalities if max_size is None else min(max_size, n_modalities)
    return [s for k in range(1, largest + 1) for s in combinations(range(n_modalities), k)]


class ModalityMixture(NamedTuple):
    """What :class:`ModalityExperts` gives for a batch.

    Attributes
    ----------
    fused : Tensor of shape (B, M * h)
        The mixture e_large.
    router : Tensor of shape (B, E)
        Weight of each expert; zero where one of its modalities is absent.
    attention : Tensor of shape (B, M, M)
        Attention between modalities, mean over heads; identity for ``attention="concat"``.
    """

    fused: Tensor
    router: Tensor
    attention: Tensor


class ModalityExperts(nn.Module):
    """Project each modality, let them attend, mix experts over every subset.

    Parameters
    ----------
    dims : sequence of int
        Input width of each modality.
    hidden_dim : int
        Token width h.
    n_heads : int
        Attention heads; only used by ``attention="tokens"``.
    attention : {"tokens", "concat"}
        The two readings of Eq. 1: modalities as tokens of a sequence, or one concatenated vector,
        for which self-attention is a linear map.
    max_subset_size : int or None
        Largest subset with an expert of its own.
    dropout : float
        Of the attention and the expert branch.
    """

    members: Tensor

    def __init__(
        self,
        dims: Sequence[int],
        hidden_dim: int,
        n_heads: int = 8,
        attention: str = "tokens",
        max_subset_size: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dims = list(dims)
        self.hidden_dim = hidden_dim
        width = len(self.dims) * hidden_dim
        self.subsets = modality_subsets(len(self.dims), max_subset_size)
        self.projections = nn.ModuleList(nn.Linear(d, hidden_dim) for d in self.dims)
        self.attend = MaskedSelfAttention(hidden_dim, n_heads) if attention == "tokens" else None
        self.mix = nn.Linear(width, width) if attention == "concat" else None
        self.token_norm = nn.LayerNorm(hidden_dim if attention == "tokens" else width)
        self.inner = nn.ModuleList(nn.Linear(len(s) * hidden_dim, hidden_dim) for s in self.subsets)
        # The experts' second layers, stacked: sum_S rho_S (W_S a_S + b_S) is then one product.
        self.outer_weight = nn.Parameter(torch.empty(len(self.subsets) * hidden_dim, width))
        self.outer_bias = nn.Parameter(torch.empty(len(self.subsets), width))
        for stacked in (self.outer_weight, self.outer_bias):
            nn.init.uniform_(stacked, -(hidden_dim**-0.5), hidden_dim**-0.5)
        self.router = nn.Linear(width, len(self.subsets))
        self.fused_norm = nn.LayerNorm(width)
        self.dropout = SharedDropout(dropout)
        self.register_buffer("members", self._members(), persistent=False)

    def _members(self) -> Tensor:
        members = torch.zeros(len(self.subsets), len(self.dims), dtype=torch.bool)
        for row, subset in enumerate(self.subsets):
            members[row, list(subset)] = True
        return members

    def forward(self, x: Tensor, present: Tensor) -> ModalityMixture:
        """Fuse a batch.

        Parameters
        ----------
        x : Tensor of shape (B, sum(dims))
            Modalities side by side; absent ones hold anything finite.
        present : Tensor of shape (B, M), bool
            Presence mask.

        Returns
        -------
        ModalityMixture
            Fused vector, router weights and attention.
        """
        parts = x.split(self.dims, dim=1)
        tokens = torch.stack([p(part) for p, part in zip(self.projections, parts, strict=True)], 1)
        tokens, attention = self._attend(tokens * present[..., None].to(x), present)
        flat = tokens.flatten(1)
        # An expert may only speak when all of its modalities are there.
        available = ~(self.members & ~present[:, None, :]).any(dim=2)
        router = masked_softmax(self.router(flat), available)
        inner = torch.stack(
            [
                torch.relu(layer(tokens[:, list(subset)].flatten(1)))
                for layer, subset in zip(self.inner, self.subsets, strict=True)
            ],
            dim=1,
        )
        mixed = (router[..., None] * inner).flatten(1) @ self.outer_weight
        mixed = mixed + router @ self.outer_bias
        return ModalityMixture(self.fused_norm(flat + self.dropout(mixed)), router, attention)

    def _attend(self, tokens: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 1 in the reading chosen; absent tokens leave as zeros."""
        mask = present[..., None].to(tokens)
        if self.attend is not None:
            attended, weights = self.attend(tokens, present)
            attention = weights.mean(dim=1) * mask
            return self.token_norm(tokens + self.dropout(attended)) * mask, attention
        assert self.mix is not None
        flat = tokens.flatten(1)
        mixed = self.token_norm(flat + self.dropout(self.mix(flat))).view_as(tokens) * mask
        return mixed, torch.diag_embed(present.to(tokens))
