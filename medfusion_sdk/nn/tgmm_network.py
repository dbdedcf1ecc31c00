"""The TGMM network: project each modality, fuse them, read one vector per task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.tgmm import FlexFused, FlexFusion, TextualGuidance

__all__ = ["GUIDANCES", "GUIDED_AT", "Guided", "TGMMNetwork", "TGMMShape"]

GUIDANCES = ("both", "fixed", "learned", "none")
GUIDED_AT = ("readout", "fusion")


class TGMMShape(NamedTuple):
    """What a :class:`TGMMNetwork` is made of.

    Attributes
    ----------
    dims : tuple of int
        Width of each modality's vector, or of one of its tokens.
    n_tokens : tuple of int
        Tokens of each modality; 1 for a pooled vector.
    tasks : tuple of str
        What a vector is read for.
    d_model, n_heads : int
        Width d and heads of every attention.
    fusion, gate : str
        See :class:`~medfusion_sdk.nn.tgmm.FlexFusion`.
    guidance : str
        One of :data:`GUIDANCES`: which prompt tokens there are.
    guidance_at : str
        One of :data:`GUIDED_AT`: prompts read the fused row, or stand among what modalities
        look at; then the fusion is one of each task.
    n_learned_tokens : int
        Learned prompt tokens of each task.
    prompt_shapes : tuple of (int, int)
        Tokens and width of the fixed prompt of each task; empty for none.
    """

    dims: tuple[int, ...]
    n_tokens: tuple[int, ...]
    tasks: tuple[str, ...]
    d_model: int = 64
    n_heads: int = 4
    fusion: str = "mffm"
    gate: str = "softmax"
    guidance: str = "learned"
    guidance_at: str = "readout"
    n_learned_tokens: int = 8
    prompt_shapes: tuple[tuple[int, int], ...] = ()


class Guided(NamedTuple):
    """What the network made of a batch.

    Attributes
    ----------
    vectors : dict of str to Tensor of shape (B, d)
        r_t of each task.
    fused : dict of str to FlexFused
        Fusion that each was read from; the same one, unless the fusion itself is guided.
    prompt_attention : dict of str to Tensor of shape (B, H, P, 1 + M)
        From prompt tokens to the fused vector and the modalities; empty without such reading.
    """

    vectors: dict[str, Tensor]
    fused: dict[str, FlexFused]
    prompt_attention: dict[str, Tensor]


class TGMMNetwork(nn.Module):
    """Project, fuse, guide.

    Parameters
    ----------
    shape : TGMMShape
        What it is made of.
    dropout : float, default=0.0
        On projected tokens and in fusion and guidance, while training.
    """

    def __init__(self, shape: TGMMShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.dims = list(shape.dims)
        width, n_heads = shape.d_model, shape.n_heads
        self.projections = nn.ModuleList(nn.Linear(d, width) for d in shape.dims)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in shape.dims)
        self.fusion = FlexFusion(shape.n_tokens, width, n_heads, shape.fusion, shape.gate, dropout)
        self.guides = nn.ModuleDict()
        if shape.guidance != "none":
            fixed = shape.prompt_shapes or (None,) * len(shape.tasks)
            for task, fixed_shape in zip(shape.tasks, fixed, strict=True):
                self.guides[task] = TextualGuidance(
                    width,
                    n_heads,
                    0 if shape.guidance == "fixed" else shape.n_learned_tokens,
                    fixed_shape,
                    reads=shape.guidance_at == "readout",
                    dropout=dropout,
                )

    @torch.no_grad()
    def set_prompts(self, embeddings: Mapping[str, Tensor]) -> None:
        """Store the frozen embeddings of the fixed prompts.

        Parameters
        ----------
        embeddings : mapping of str to Tensor of shape (P, d_p)
            Of each task.
        """
        for task, embedding in embeddings.items():
            self.guides[task].fixed.copy_(embedding)  # type: ignore[operator]

    def project(self, x: Tensor, present: Tensor, there: Tensor | None) -> tuple[Tensor, Tensor]:
        """Bring every modality's tokens to one width.

        Parameters
        ----------
        x : Tensor of shape (B, sum(n_tokens * dims))
            Modalities side by side, each token after token; anything where absent.
        present : Tensor of shape (B, M), bool
            Presence mask.
        there : Tensor of shape (B, sum(n_tokens)), bool, or None
            Which tokens there are; None for all.

        Returns
        -------
        tokens : Tensor of shape (B, L, d)
            One modality after the other.
        mask : Tensor of shape (B, L), bool
            Which of them there are.
        """
        n_tokens = self.shape.n_tokens
        counts = torch.tensor(n_tokens, device=present.device)
        mask = present.repeat_interleave(counts, dim=1)
        mask = mask if there is None else mask & there
        widths = [n * d for n, d in zip(n_tokens, self.dims, strict=True)]
        parts = []
        for m, (part, own) in enumerate(
            zip(x.split(widths, dim=1), mask.split(list(n_tokens), dim=1), strict=True)
        ):
            part = part.unflatten(1, (n_tokens[m], self.dims[m]))
            # Here, not only later: what a masked cell holds may be NaN.
            part = torch.where(own[..., None], part, 0.0)
            parts.append(self.norms[m](self.projections[m](part)))
        return torch.cat(parts, dim=1), mask

    def forward(self, batch: Mapping[str, Tensor], present: Tensor) -> Guided:
        """Read a vector of each task from a batch.

        Parameters
        ----------
        batch : mapping of str to Tensor
            ``x`` and, where a modality has tokens, ``tokens``; see :meth:`project`.
        present : Tensor of shape (B, M), bool
            Presence mask.

        Returns
        -------
        Guided
            The vectors and what led to them.
        """
        tokens, mask = self.project(batch["x"], present, batch.get("tokens"))
        tasks = self.shape.tasks
        guides: dict[str, Any] = dict(self.guides.items())
        if guides and self.shape.guidance_at == "fusion":
            fused = {
                task: self.fusion(tokens, mask, guides[task].prompt_tokens()) for task in tasks
            }
        else:
            fused = dict.fromkeys(tasks, self.fusion(tokens, mask))
        if not guides or self.shape.guidance_at == "fusion":
            return Guided({task: fused[task].vector for task in tasks}, fused, {})
        answers = {task: guides[task](fused[task]) for task in tasks}
        vectors = {task: vector for task, (vector, _) in answers.items()}
        return Guided(vectors, fused, {task: weights for task, (_, weights) in answers.items()})
