"""What MedualTime adds to a frozen attention: gated attention over a few adaptation tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["GATE_ACTIVATIONS", "GatedAttention"]

GATE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "identity": lambda gate: gate,
}


class GatedAttention:
    """One layer's adapter at work on one batch: ``O' = O + tanh(g) * (softmax(q kP') vP)``.

    Parameters
    ----------
    gate : Tensor of shape (H,)
        Activated gates of the heads.
    keys, values : Tensor of shape (B, H, K, head width)
        Projected adaptation tokens.
    trace : bool, default=False
        Keep how much is added, for explanations.

    Attributes
    ----------
    share : Tensor of shape (B,) or None
        Norm of what was added over the norm of the attention's own output.
    """

    def __init__(self, gate: Tensor, keys: Tensor, values: Tensor, *, trace: bool = False) -> None:
        self.gate = gate
        self.keys = keys
        self.values = values
        self.trace = trace
        self.share: Tensor | None = None

    def __call__(self, queries: Tensor, output: Tensor) -> Tensor:
        """Add to a block's attention.

        Parameters
        ----------
        queries : Tensor of shape (B, H, S, head width)
            The block's own queries.
        output : Tensor of shape (B, S, H * head width)
            Its heads' merged output, before the output projection.

        Returns
        -------
        Tensor of shape (B, S, H * head width)
            With the adaptation tokens' share.
        """
        scores = queries @ self.keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
        # A softmax of its own, not one with the tokens of the sequence; in half precision it would
        # overflow.
        wide = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.softmax(dim=-1, dtype=wide).to(scores.dtype)
        added = self.gate[:, None, None] * (weights @ self.values)
        merged = added.transpose(1, 2).flatten(2)
        if self.trace:
            own = output.flatten(1).norm(dim=1)
            self.share = merged.flatten(1).norm(dim=1) / own.clamp_min(torch.finfo(own.dtype).tiny)
        return (output + merged).to(output.dtype)
