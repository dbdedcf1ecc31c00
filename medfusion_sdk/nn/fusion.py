"""How two path vectors become one: MedualTime's mean, and the alternatives to compare it with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.layers import masked_softmax

__all__ = ["COMBINATIONS", "Combination"]

COMBINATIONS = ("mean", "gate", "concat", "cross_attention", "symmetric")


class Combination(nn.Module):
    """Combine the read-outs of two paths; a row without one of them has the other's alone.

    Parameters
    ----------
    kind : {"mean", "gate", "concat", "cross_attention", "symmetric"}
        ``mean``: MedualTime's. ``gate``: a sigmoid per feature weighs the two. ``concat``: end to
        end. ``cross_attention``: each vector first attends to the tokens of the other modality as
        they enter the adapted layers, then mean. ``symmetric``: both paths are one already.
    width : int
        Width d of a path's vector.
    n_heads : int
        Heads of the cross-attention.
    """

    def __init__(self, kind: str, width: int, n_heads: int) -> None:
        super().__init__()
        self.kind = kind
        self.width = width * (2 if kind == "concat" else 1)
        if kind == "gate":
            self.gate = nn.Linear(2 * width, width)
        elif kind == "cross_attention":
            self.n_heads = n_heads
            self.query = nn.Linear(width, width)
            self.key_value = nn.Linear(width, 2 * width)
            self.out = nn.Linear(width, width)
            nn.init.zeros_(self.out.weight)  # starts as the mean
            nn.init.zeros_(self.out.bias)

    @property
    def attends(self) -> bool:
        """Whether a path's vector reads the other modality's tokens."""
        return self.kind == "cross_attention"

    def forward(self, z: Tensor, present: Tensor) -> Tensor:
        """Combine.

        Parameters
        ----------
        z : Tensor of shape (B, 2, d)
            Vectors of the temporal-primary and the textual-primary path.
        present : Tensor of shape (B, 2), bool
            Which of them a row has; at least one.

        Returns
        -------
        Tensor of shape (B, width)
            One vector per row.
        """
        z = torch.where(present[..., None], z, 0.0)
        if self.kind == "concat":
            return z.flatten(1)
        if self.kind == "gate":
            share = torch.sigmoid(self.gate(z.flatten(1)))
            share = torch.where(present.all(dim=1, keepdim=True), share, present[:, :1].to(z))
            return share * z[:, 0] + (1 - share) * z[:, 1]
        return z.sum(dim=1) / present.sum(dim=1, keepdim=True)

    def attend(self, z: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Let a path's vectors read the other modality's tokens.

        Parameters
        ----------
        z : Tensor of shape (B, d)
            The path's vectors.
        tokens : Tensor of shape (B, S, d)
            The other modality's token states.
        mask : Tensor of shape (B, S), bool
            True where a token is; a row without tokens keeps its vector.

        Returns
        -------
        Tensor of shape (B, d)
            The vectors with what they read.
        """
        if tokens.shape[1] == 0:
            return z
        query = self.query(z).unflatten(-1, (self.n_heads, -1))[:, :, None]  # (B, H, 1, dh)
        key_value = self.key_value(tokens).unflatten(-1, (2, self.n_heads, -1))
        key, value = key_value.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        read = masked_softmax(scores, mask[:, None, None]) @ value
        read = self.out(read[:, :, 0].flatten(1))
        return z + torch.where(mask.any(dim=1, keepdim=True), read, 0.0)

    def path_vectors(self, z: Tensor) -> Tensor:
        """Embed each path's vector where the head reads it, so that the paths' scores average.

        Parameters
        ----------
        z : Tensor of shape (B, 2, d)
            The paths' vectors.

        Returns
        -------
        Tensor of shape (B, 2, width)
            Rows that the head can read; their mean is the combined vector for ``mean`` and
            ``concat``.
        """
        if self.kind != "concat":
            return z
        empty = torch.zeros_like(z[:, 0])
        # Twice, for the mean of the two halves is half of what the head reads.
        return 2 * torch.stack(
            [torch.cat([z[:, 0], empty], dim=1), torch.cat([empty, z[:, 1]], dim=1)], dim=1
        )
