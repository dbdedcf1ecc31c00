"""TGMM's two modules: MedFlexFusion (modalities to one vector) and Textual Guidance (per task).

The paper names cross-attention, gates, fixed and learned prompt tokens; no code of it is public.
The equations are ours and stand on the method's page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.layers import CrossAttention, SharedDropout, masked_softmax

__all__ = ["FUSIONS", "GATES", "FlexFused", "FlexFusion", "TextualGuidance", "feed_forward"]

FUSIONS = ("mffm", "attention_only", "gate_only", "mean", "concat")
GATES = ("softmax", "sigmoid")
_LEARNED_SPREAD = 0.02


class FlexFused(NamedTuple):
    """What the fusion made of a batch.

    Attributes
    ----------
    vector : Tensor of shape (B, d)
        F: the modalities weighed by their gates.
    nodes : Tensor of shape (B, M, d)
        z_m, zero where absent.
    complement : Tensor of shape (B, M, d)
        c_m: what a modality takes from the others; zero where there are none.
    gate : Tensor of shape (B, M)
        G_m: at least zero, summing to one, zero where absent.
    attention : Tensor of shape (B, H, M, M)
        From a modality to each other one, summed over its tokens.
    present : Tensor of shape (B, M), bool
        Which modalities have a token.
    """

    vector: Tensor
    nodes: Tensor
    complement: Tensor
    gate: Tensor
    attention: Tensor
    present: Tensor


class FlexFusion(nn.Module):
    """MedFlexFusion: any non-empty subset of a row's modalities becomes one vector.

    Parameters
    ----------
    n_tokens : sequence of int
        Tokens of each modality; 1 where it is a pooled vector.
    width : int
        Token width d.
    n_heads : int
        Heads of the cross-attention.
    fusion : str, default="mffm"
        One of :data:`FUSIONS`. ``attention_only`` weighs present modalities alike, ``gate_only``
        goes without what they take from each other; ``mean`` averages their own vectors, and
        ``concat`` maps them end to end, with a sign of which are there, by one layer.
    gate : {"softmax", "sigmoid"}, default="softmax"
        Gates that compete, or each for itself and divided by their sum.
    dropout : float, default=0.0
        On attention's output and inside the feed-forward layer, while training.
    """

    membership: Tensor

    def __init__(
        self,
        n_tokens: Sequence[int],
        width: int,
        n_heads: int,
        fusion: str = "mffm",
        gate: str = "softmax",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.fusion, self.gate_kind, self.n_heads = fusion, gate, n_heads
        n_modalities = len(n_tokens)
        owner = torch.repeat_interleave(torch.arange(n_modalities), torch.tensor(n_tokens))
        # Which tokens are a modality's (M, L); follows from the shape, so it isn't state.
        own = owner == torch.arange(n_modalities)[:, None]
        self.register_buffer("membership", own, persistent=False)
        self.dropout = SharedDropout(dropout)
        self.attends = fusion in ("mffm", "attention_only")
        self.gates = fusion in ("mffm", "gate_only")
        if self.attends:
            self.attend = CrossAttention(width, n_heads)
        if self.attends or self.gates:
            self.norm, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
            self.feed = feed_forward(width, dropout)
        if self.gates:
            self.gate_hidden = nn.Linear(2 * width, width)
            # Zero, so that fusion begins as the mean of what is there.
            self.gate_score = nn.Linear(width, 1, bias=False)
            nn.init.zeros_(self.gate_score.weight)
        if fusion == "concat":
            self.join = nn.Linear(n_modalities * (width + 1), width)

    def forward(self, tokens: Tensor, mask: Tensor, prompts: Tensor | None = None) -> FlexFused:
        """Fuse.

        Parameters
        ----------
        tokens : Tensor of shape (B, L, d)
            Projected tokens of all modalities, one after the other; masked ones are finite.
        mask : Tensor of shape (B, L), bool
            Which tokens there are; a modality without any is absent.
        prompts : Tensor of shape (P, d), optional
            Tokens that each modality looks at besides the others' (guidance at the fusion).

        Returns
        -------
        FlexFused
            The fused vector and what led to it.
        """
        own = self.membership & mask[:, None, :]  # (B, M, L)
        present = own.any(dim=-1)
        share = own.to(tokens) / own.sum(dim=-1, keepdim=True).clamp_min(1)
        unique = share @ torch.where(mask[..., None], tokens, 0.0)
        complement, attention = self._look_around(unique, tokens, mask, present, prompts)
        nodes = unique
        if self.attends or self.gates:
            nodes = self.norm(unique + self.dropout(complement))
            nodes = self.norm_out(nodes + self.feed(nodes))
        nodes = torch.where(present[..., None], nodes, 0.0)
        gate = self._weigh(unique, complement, present)
        vector = (gate[..., None] * nodes).sum(dim=1)
        if self.fusion == "concat":
            vector = self.join(torch.cat([nodes.flatten(1), present.to(nodes)], dim=1))
        return FlexFused(vector, nodes, complement, gate, attention, present)

    def _look_around(
        self,
        unique: Tensor,
        tokens: Tensor,
        mask: Tensor,
        present: Tensor,
        prompts: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """What each modality takes from the others (B, M, d), and from which (B, H, M, M)."""
        n_rows, n_modalities, _ = unique.shape
        if not self.attends:
            nowhere = unique.new_zeros(n_rows, self.n_heads, n_modalities, n_modalities)
            return torch.zeros_like(unique), nowhere
        allowed = present[..., None] & mask[:, None, :] & ~self.membership
        if prompts is not None:
            tokens = torch.cat([tokens, prompts.expand(n_rows, -1, -1)], dim=1)
            asked = present[..., None].expand(-1, -1, len(prompts))
            allowed = torch.cat([allowed, asked], dim=-1)
        complement, weights = self.attend(unique, tokens, allowed)
        of_tokens = weights[..., : mask.shape[1]]
        return complement, of_tokens @ self.membership.T.to(weights)

    def _weigh(self, unique: Tensor, complement: Tensor, present: Tensor) -> Tensor:
        if not self.gates:
            return masked_softmax(torch.zeros_like(unique[..., 0]), present)
        hidden = torch.tanh(self.gate_hidden(torch.cat([unique, complement], dim=-1)))
        scores = self.gate_score(hidden)[..., 0]
        if self.gate_kind == "softmax":
            return masked_softmax(scores, present)
        # In logarithms: gates that are all closed are still weighed against each other.
        return masked_softmax(nn.functional.logsigmoid(scores), present)


class TextualGuidance(nn.Module):
    """Textual Guidance of one task: prompt tokens ask the fused row, their mean answer is added.

    Parameters
    ----------
    width : int
        Token width d.
    n_heads : int
        Heads of the attention.
    n_learned : int
        Learned prompt tokens; 0 for none.
    fixed_shape : (int, int) or None, default=None
        Tokens and width of the prompt's frozen embeddings; None for none.
    reads : bool, default=True
        Whether prompts attend to the fused row; False where they only guide the fusion.
    dropout : float, default=0.0
        On attention's output and inside the feed-forward layer, while training.
    """

    fixed: Tensor

    def __init__(
        self,
        width: int,
        n_heads: int,
        n_learned: int,
        fixed_shape: tuple[int, int] | None = None,
        *,
        reads: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_learned, self.reads = n_learned, reads
        if n_learned:
            self.learned = nn.Parameter(torch.empty(n_learned, width))
            nn.init.normal_(self.learned, std=_LEARNED_SPREAD)
        self.project = None if fixed_shape is None else nn.Linear(fixed_shape[1], width)
        if fixed_shape is not None:
            # Saved with the weights: prediction needs no language model.
            self.register_buffer("fixed", torch.zeros(fixed_shape))
        if reads:
            self.attend = CrossAttention(width, n_heads)
            self.norm, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
            # Zero, so that a task begins at the fused vector itself.
            nn.init.zeros_(self.norm_out.weight)
            self.feed = feed_forward(width, dropout)
            self.dropout = SharedDropout(dropout)

    def prompt_tokens(self) -> Tensor:
        """Fixed tokens in the network's width, then the learned ones.

        Returns
        -------
        Tensor of shape (P, d)
            The prompt.
        """
        parts = [] if self.project is None else [self.project(self.fixed)]
        parts += [self.learned] if self.n_learned else []
        return torch.cat(parts)

    def forward(self, fused: FlexFused) -> tuple[Tensor, Tensor]:
        """Read a task's vector from fused rows.

        Parameters
        ----------
        fused : FlexFused
            Of :class:`FlexFusion`.

        Returns
        -------
        vector : Tensor of shape (B, d)
            Fused vector and mean answer: r_t.
        attention : Tensor of shape (B, H, P, 1 + M)
            From prompt tokens to the fused vector and the modalities.
        """
        prompt = self.prompt_tokens()[None]
        read = torch.cat([fused.vector[:, None], fused.nodes], dim=1)
        there = nn.functional.pad(fused.present, (1, 0), value=True)
        allowed = there[:, None, :].expand(-1, prompt.shape[1], -1)
        answer, weights = self.attend(prompt, read, allowed)
        answer = self.norm(prompt + self.dropout(answer))
        answer = self.norm_out(answer + self.feed(answer))
        return fused.vector + answer.mean(dim=1), weights


def feed_forward(width: int, dropout: float) -> nn.Sequential:
    """Two layers with a GELU between, twice as wide inside.

    Parameters
    ----------
    width : int
        Of input and output.
    dropout : float
        On the inner activations.

    Returns
    -------
    torch.nn.Sequential
        The layers.
    """
    inner = 2 * width
    return nn.Sequential(
        nn.Linear(width, inner), nn.GELU(), SharedDropout(dropout), nn.Linear(inner, width)
    )
