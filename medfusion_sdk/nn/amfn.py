"""Adaptive multimodal fusion (AMFN with DCMLS): from one vector per modality to one per row.

Order of the steps: normalise, gate, attend, convolve over the graph of similarities, fuse. A
modality that a row lacks is masked in each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medfusion_sdk.nn.layers import SharedDropout, masked_softmax

__all__ = [
    "ADJACENCIES",
    "ALIGNMENTS",
    "AdaptiveFusion",
    "Fused",
    "FusionShape",
    "PresenceNorm",
    "alignment_loss",
    "similarity_graph",
]

ADJACENCIES = ("relu", "shifted", "softmax", "uniform", "identity")
ALIGNMENTS = ("cosine", "mse", "infonce", None)
# Cosines lie in [-1, 1]; at this temperature the softmax of the paper's variant is neither flat
# nor one-hot.
_GRAPH_TEMPERATURE = 0.5
_CONTRAST_TEMPERATURE = 0.1


class FusionShape(NamedTuple):
    """What an :class:`AdaptiveFusion` is made of; see there."""

    n_modalities: int
    d_model: int = 128
    n_heads: int = 4
    n_gcn_layers: int = 2
    adjacency: str = "relu"
    gcn_residual: bool = True
    norm: str | None = "batch"
    use_gate: bool = True
    use_attention: bool = True
    use_gcn: bool = True


class Fused(NamedTuple):
    """What the fusion made of a batch.

    Attributes
    ----------
    vector : Tensor of shape (B, d)
        Equation 16: nodes averaged with the fusion weights.
    nodes : Tensor of shape (B, M, d)
        Refined modalities, zero where absent.
    gated : Tensor of shape (B, M, d)
        Normalised and gated modalities, which alignment compares.
    gate : Tensor of shape (B, M)
        Importance gamma in (0, 1); zero where absent.
    attention : Tensor of shape (B, H, M, M)
        From query to key.
    graph : Tensor of shape (B, M, M)
        Row-normalised adjacency.
    fusion : Tensor of shape (B, M)
        Weights beta.
    """

    vector: Tensor
    nodes: Tensor
    gated: Tensor
    gate: Tensor
    attention: Tensor
    graph: Tensor
    fusion: Tensor


class PresenceNorm(nn.Module):
    """Equation 7 with running statistics: each modality's features get mean 0 and spread 1.

    Only rows that have a modality count for it, each as much as its weight. One that no row of
    training has keeps mean 0 and variance 1.

    Parameters
    ----------
    n_modalities, width : int
        Modalities M and features d.
    momentum : float, default=0.1
        How fast the running statistics follow the batches'.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, n_modalities: int, width: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(n_modalities, width))
        self.register_buffer("variance", torch.ones(n_modalities, width))
        self.eps = 1e-5

    def forward(self, h: Tensor, present: Tensor, weight: Tensor | None = None) -> Tensor:
        """Normalise; in training by this batch.

        Parameters
        ----------
        h : Tensor of shape (B, M, d)
            Modalities.
        present : Tensor of shape (B, M), bool
            Which of them each row has.
        weight : Tensor of shape (B,), optional
            Of the rows.

        Returns
        -------
        Tensor of shape (B, M, d)
            Normalised modalities.
        """
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = self._of_batch(h, present, weight)
        return (h - mean) / torch.sqrt(variance + self.eps)

    def _of_batch(self, h: Tensor, present: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        counted = present.to(h) if weight is None else present.to(h) * weight[:, None].to(h)
        total = counted.sum(dim=0)
        share = (counted / total.clamp_min(torch.finfo(h.dtype).tiny))[..., None]
        mean = (share * h).sum(dim=0)
        variance = (share * (h - mean).square()).sum(dim=0)
        # One row, or rows that are all alike, has no spread to divide by: the running statistics
        # serve, and aren't spoilt.
        varied = (variance.amax(dim=1, keepdim=True) > 1e-12).detach()
        mean = torch.where(varied, mean, self.mean)
        variance = torch.where(varied, variance, self.variance)
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance, self.momentum)
        return mean, variance


class _LayerNorm(nn.Module):
    """Normalise each modality of a row by its own mean and spread: for batches of a few rows."""

    def forward(self, h: Tensor, present: Tensor, weight: Tensor | None = None) -> Tensor:
        return nn.functional.layer_norm(h, h.shape[-1:])


class _Identity(nn.Module):
    def forward(self, h: Tensor, present: Tensor, weight: Tensor | None = None) -> Tensor:
        return h


_NORMS: dict[str | None, Callable[[int, int], nn.Module]] = {
    "batch": PresenceNorm,
    "layer": lambda *_: _LayerNorm(),
    None: lambda *_: _Identity(),
}


class AdaptiveFusion(nn.Module):
    """Gate, attention, graph convolution and context-aware fusion of one row's modalities.

    Parameters
    ----------
    shape : FusionShape
        ``n_modalities`` M, ``d_model`` d, ``n_heads`` of the attention, ``n_gcn_layers``,
        ``adjacency`` (one of :data:`ADJACENCIES`), ``gcn_residual``, ``norm`` ("batch", "layer"
        or None), and the switches ``use_gate``, ``use_attention`` and ``use_gcn``.
    dropout : float, default=0.0
        On the normalised modalities and after each graph convolution, while training.
    """

    def __init__(self, shape: FusionShape, dropout: float = 0.0) -> None:
        super().__init__()
        n_modalities, width = shape.n_modalities, shape.d_model
        self.shape = shape
        self.norm = _NORMS[shape.norm](n_modalities, width)
        self.dropout = SharedDropout(dropout)
        if shape.use_gate:
            self.gate = nn.Parameter(torch.zeros(n_modalities, width))
            self.gate_bias = nn.Parameter(torch.zeros(n_modalities))
        if shape.use_attention:
            slices = torch.empty(shape.n_heads, width // shape.n_heads, width // shape.n_heads)
            self.bilinear = nn.Parameter(slices)
            for head in self.bilinear:
                nn.init.xavier_uniform_(head)
        if shape.use_gcn:
            self.convolutions = nn.ModuleList(
                nn.Linear(width, width, bias=False) for _ in range(shape.n_gcn_layers)
            )
            for weight in self.convolutions.parameters():
                nn.init.xavier_uniform_(weight)
        # Zero, so that fusion begins as the mean of what is there.
        self.query = nn.Parameter(torch.zeros(width))

    def forward(self, h: Tensor, present: Tensor, weight: Tensor | None = None) -> Fused:
        """Fuse.

        Parameters
        ----------
        h : Tensor of shape (B, M, d)
            Encoded modalities; absent ones hold anything finite.
        present : Tensor of shape (B, M), bool
            Which of them each row has; at least one.
        weight : Tensor of shape (B,), optional
            Of the rows, for the batch's statistics in training.

        Returns
        -------
        Fused
            The fused vector and what led to it.
        """
        there = present[..., None]
        # Dropped after the norm: before it, training's spread wouldn't be prediction's.
        normed = self.dropout(torch.where(there, self.norm(h, present, weight), 0.0))
        gate = present.to(h)
        if self.shape.use_gate:
            gate = gate * torch.sigmoid((normed * self.gate).sum(-1) + self.gate_bias)
        gated = gate[..., None] * normed
        attended, attention = self._attend(gated, present)
        graph = similarity_graph(gated, present, self.shape.adjacency)
        nodes = torch.where(there, attended, 0.0)
        if self.shape.use_gcn:
            for layer in self.convolutions:
                update = self.dropout((graph @ layer(nodes)).relu())
                update = nodes + update if self.shape.gcn_residual else update
                nodes = torch.where(there, update, 0.0)
        fusion = masked_softmax(nodes @ self.query, present)
        vector = (fusion[..., None] * nodes).sum(dim=1)
        return Fused(vector, nodes, gated, gate, attention, graph, fusion)

    def _attend(self, gated: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Equations 8 and 9, each head on its slice of the features, and a way around.

        No norm follows: it would undo the gates.
        """
        n_rows, n_modalities, _ = gated.shape
        if not self.shape.use_attention:
            own = torch.eye(n_modalities).to(gated).expand(n_rows, self.shape.n_heads, -1, -1)
            return gated, own * present[:, None, :, None]
        heads = gated.unflatten(-1, (self.shape.n_heads, -1)).transpose(1, 2)  # (B, H, M, d/H)
        scores = heads @ self.bilinear @ heads.transpose(-1, -2) / heads.shape[-1] ** 0.5
        attention = masked_softmax(scores, present[:, None, None, :])
        read = (attention @ heads).transpose(1, 2).flatten(2)
        return gated + read, attention * present[:, None, :, None]


def similarity_graph(h: Tensor, present: Tensor, kind: str = "relu") -> Tensor:
    """Row-normalised adjacency of a row's modalities (Eq. 10, made safe).

    The printed equation divides by a sum of cosines, which can be zero or negative. Negative
    cosines count as zero here and each node is its own neighbour, so that a row sums to one or
    more before it is normalised. Where all cosines are positive, that is the printed equation.

    Parameters
    ----------
    h : Tensor of shape (B, M, d)
        Modalities.
    present : Tensor of shape (B, M), bool
        Which of them each row has.
    kind : str, default="relu"
        One of :data:`ADJACENCIES`: ``shifted`` takes (1 + cosine) / 2, ``softmax`` the softmax of
        cosine / 0.5, ``uniform`` weighs all alike, ``identity`` has no edges.

    Returns
    -------
    Tensor of shape (B, M, M)
        At least zero, rows of present modalities sum to one, the others are zero.
    """
    wide = h.to(torch.promote_types(h.dtype, torch.float32))
    unit = normalize(wide, dim=-1, eps=1e-8)
    pairs = present[:, :, None] & present[:, None, :]
    own = torch.eye(h.shape[1], dtype=torch.bool, device=h.device) & pairs
    cosine = (unit @ unit.transpose(1, 2)).masked_fill(own, 1.0)
    if kind == "softmax":
        graph = masked_softmax(cosine / _GRAPH_TEMPERATURE, pairs)
        return graph.to(h.dtype)
    if kind == "identity":
        return own.to(h.dtype)
    raw = {
        "relu": lambda: cosine.relu(),
        "shifted": lambda: (1.0 + cosine) / 2.0,
        "uniform": lambda: torch.ones_like(cosine),
    }[kind]()
    raw = torch.where(pairs, raw, 0.0)
    return (raw / raw.sum(dim=-1, keepdim=True).clamp_min(1.0)).to(h.dtype)


def alignment_loss(h: Tensor, present: Tensor, weight: Tensor, kind: str) -> Tensor:
    """How far a row's modalities are apart (Eq. 14).

    Parameters
    ----------
    h : Tensor of shape (B, M, d)
        Normalised and gated modalities.
    present : Tensor of shape (B, M), bool
        Which of them each row has.
    weight : Tensor of shape (B,)
        Of the rows.
    kind : {"cosine", "mse", "infonce"}
        ``cosine``: squared distance of unit vectors, within [0, 4]. ``mse``: as printed, on the
        vectors as they are, per feature; zero vectors minimise it. ``infonce``: a row's two
        modalities against those of the batch's other rows.

    Returns
    -------
    Tensor
        Mean over pairs of present modalities and rows; zero where no row has two.
    """
    wide = h.to(torch.promote_types(h.dtype, torch.float32))
    unit = normalize(wide, dim=-1, eps=1e-8)
    first, second = torch.triu_indices(h.shape[1], h.shape[1], offset=1, device=h.device)
    pairs = present[:, first] & present[:, second]
    counted = pairs.to(wide) * weight[:, None].to(wide)
    if kind == "infonce":
        loss = _contrast(unit[:, first], unit[:, second], counted)
    elif kind == "mse":
        loss = (wide[:, first] - wide[:, second]).square().mean(dim=-1)
    else:
        loss = (unit[:, first] - unit[:, second]).square().sum(dim=-1)
    total = counted.sum().clamp_min(torch.finfo(wide.dtype).tiny)
    return ((loss * counted).sum() / total).to(h.dtype)


def _contrast(one: Tensor, other: Tensor, counted: Tensor) -> Tensor:
    """Cross-entropy of finding a row's other modality (B, P, d) among those of all rows (B, P)."""
    scores = torch.einsum("bpd,cpd->pbc", one, other) / _CONTRAST_TEMPERATURE
    own = scores.diagonal(dim1=1, dim2=2).T
    # A row of weight two is there twice. Finite where a row isn't there, so that a pair that no
    # row has gets no gradient instead of NaN.
    often = torch.where(counted > 0, counted, 1.0).log().masked_fill(counted == 0, -1e30)
    scores = scores + often.T[:, None, :]
    reached = scores.logsumexp(dim=-1).T
    return torch.where(counted > 0, reached - own, 0.0)
