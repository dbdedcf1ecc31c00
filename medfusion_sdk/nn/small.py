"""The small multimodal network (MultimodalPred's skeleton): light encoders, one linear head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.layers import SharedDropout
from medfusion_sdk.nn.small_encoders import ModalityEncoders, Raw, raw_name
from medfusion_sdk.nn.tasks import classification_loss, l2_penalty, probabilities, weighted_mean

__all__ = ["SmallNetwork"]

Batch = Mapping[str, Any]


class SmallNetwork(nn.Module):
    """One light encoder per modality, fused by a linear head.

    A block has one hidden layer, ``relu(W x + b)``; series a bidirectional LSTM, texts a vector
    per token and an LSTM, both with the largest value over time; images and volumes a residual
    network of convolutions.

    Whatever the fusion, the class scores are ``head(embed(x, present))``: so the head can be
    shared with a large path (AdaCoMed, Eq. 6).

    Parameters
    ----------
    dims : sequence of int
        What the encoder of each modality reads: width of a block, channels of a series, an image
        or a volume, numbers that a token may have.
    n_outputs : int
        Number of class scores C.
    embed_size : int
        Width k of each modality's embedding.
    fusion : {"joint", "early", "late"}
        ``joint``: head on the concatenated embeddings, trained end to end. ``late``: mean of the
        present modalities' scores, each modality trained on its own loss. ``early``: two stacked
        linear maps on embeddings trained one modality at a time and then frozen.
    dropout : float
        On the embeddings while training.
    modality_dropout : float
        Probability that a training step goes without a modality.
    alpha : float
        L2 penalty on the weights, divided by the number of training rows.
    multilabel : bool
        Labels are independent.
    kinds : sequence of {"block", "series", "text", "image", "volume"} or None
        Of each modality; None for blocks alone.
    """

    def __init__(
        self,
        dims: Sequence[int],
        n_outputs: int,
        embed_size: int,
        fusion: str = "joint",
        dropout: float = 0.0,
        modality_dropout: float = 0.0,
        alpha: float = 0.0,
        multilabel: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.multilabel = multilabel
        self.alpha = alpha
        self.modality_dropout = modality_dropout
        self.generator: torch.Generator | None = None  # seeded by the training engine
        width = len(dims) * embed_size
        kinds = ["block"] * len(dims) if kinds is None else kinds
        self.encoders = ModalityEncoders(kinds, dims, embed_size)
        # What a missing modality is to a joint head; late fusion leaves it out of the mean.
        self.absent = nn.Parameter(torch.zeros(len(dims), embed_size))
        self.stack = nn.Linear(width, width) if fusion == "early" else None
        self.head = nn.Linear(width, n_outputs)
        self.dropout = SharedDropout(dropout)

    @property
    def embed_width(self) -> int:
        """Width of e_small."""
        return self.head.in_features

    def modality_embeddings(self, x: Tensor, present: Tensor, raw: Raw = None) -> Tensor:
        """Embed each modality on its own.

        Parameters
        ----------
        x : Tensor of shape (B, width)
            Modalities side by side.
        present : Tensor of shape (B, M), bool
            Presence mask.
        raw : mapping of int to Ragged or Tensor, or None
            What the encoder of each modality that is no block reads; rows that lack it hold
            anything.

        Returns
        -------
        Tensor of shape (B, M, k)
            Embeddings, zero where absent.
        """
        hidden = self.encoders(x, present, raw)
        return self.dropout(hidden) * present[..., None].to(x)

    def _raw(self, batch: Batch) -> Raw:
        return {m: batch[raw_name(m)] for m in self.encoders.raw}

    def embed(self, x: Tensor, present: Tensor, raw: Raw = None) -> Tensor:
        """Fuse a batch into e_small, the head's input.

        Parameters
        ----------
        x : Tensor of shape (B, width)
            Modalities side by side; absent ones hold anything finite.
        present : Tensor of shape (B, M), bool
            Presence mask.
        raw : mapping of int to Ragged or Tensor, or None
            What the encoder of each modality that is no block reads; rows that lack it hold
            anything.

        Returns
        -------
        Tensor of shape (B, M * k)
            The vector e_small of each row.
        """
        flat = self._fused_parts(x, present, raw).flatten(1)
        return flat if self.stack is None else self.stack(flat)

    def _fused_parts(self, x: Tensor, present: Tensor, raw: Raw) -> Tensor:
        embeddings = self.modality_embeddings(x, present, raw)
        mask = present[..., None].to(x)
        if self.fusion == "late":
            # The head sums over modalities; this makes the sum a mean over the present ones.
            return embeddings / mask.sum(dim=1, keepdim=True)
        return embeddings + (1 - mask) * self.absent

    def modality_logits(self, x: Tensor, present: Tensor, raw: Raw = None) -> Tensor:
        """Class scores of each modality alone, for late fusion and unimodal training.

        Parameters
        ----------
        x : Tensor of shape (B, width)
            Modalities side by side.
        present : Tensor of shape (B, M), bool
            Presence mask.
        raw : mapping of int to Ragged or Tensor, or None
            What the encoder of each modality that is no block reads; rows that lack it hold
            anything.

        Returns
        -------
        Tensor of shape (B, M, C)
            Scores; for an absent modality the bias alone.
        """
        embeddings = self.modality_embeddings(x, present, raw)
        weight = self.head.weight.view(len(self.head.weight), len(self.encoders), -1)
        return torch.einsum("bmk,cmk->bmc", embeddings, weight) + self.head.bias

    def forward(self, x: Tensor, present: Tensor, raw: Raw = None) -> Tensor:
        """Class scores.

        Parameters
        ----------
        x : Tensor of shape (B, width)
            Modalities side by side.
        present : Tensor of shape (B, M), bool
            Presence mask.
        raw : mapping of int to Ragged or Tensor, or None
            What the encoder of each modality that is no block reads; rows that lack it hold
            anything.

        Returns
        -------
        Tensor of shape (B, C)
            Scores.
        """
        return self.head(self.embed(x, present, raw))

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Probabilities, and what led to them.

        Parameters
        ----------
        batch : dict of Tensor
            ``x``, ``present``, and by :func:`raw_name` what else the encoders read.

        Returns
        -------
        dict of Tensor
            ``proba`` and ``logits`` of shape (B, C); ``embedding`` of shape (B, M k);
            ``contributions`` of shape (B, M + 1, C): what each modality and the bias add to the
            logits, exactly, since all after the embeddings is affine.
        """
        x, present, raw = batch["x"], batch["present"], self._raw(batch)
        embedding = self.embed(x, present, raw)
        logits = self.head(embedding)
        return {
            "proba": probabilities(logits, self.multilabel),
            "logits": logits,
            "embedding": embedding,
            "contributions": self._contributions(x, present, raw),
        }

    def _contributions(self, x: Tensor, present: Tensor, raw: Raw) -> Tensor:
        parts = self._fused_parts(x, present, raw)
        weight: Tensor = self.head.weight
        bias: Tensor = self.head.bias
        if self.stack is not None:
            weight, bias = weight @ self.stack.weight, bias + weight @ self.stack.bias
        weight = weight.view(len(weight), len(self.encoders), -1)
        added = torch.einsum("bmk,cmk->bmc", parts, weight)
        return torch.cat([added, bias.expand(len(x), 1, -1)], dim=1)

    def loss(self, batch: Batch, sample_weight: Tensor | None) -> dict[str, Tensor]:
        """Training loss of a batch.

        Parameters
        ----------
        batch : dict of Tensor
            ``x``, ``present``, ``target``, and by :func:`raw_name` what else the encoders read.
        sample_weight : Tensor of shape (B,) or None
            Row weights.

        Returns
        -------
        dict of Tensor
            ``loss``, and its part ``task``.
        """
        x, present, target = batch["x"], self._drop(batch["present"]), batch["target"]
        raw = self._raw(batch)
        weight = x.new_ones(len(x)) if sample_weight is None else sample_weight
        if self.fusion == "late":
            task = self._unimodal_loss(
                self.modality_logits(x, present, raw), present, target, weight
            )
        else:
            task = weighted_mean(classification_loss(self(x, present, raw), target), weight)
        return {"loss": task + l2_penalty(self, self.alpha), "task": task}

    def _unimodal_loss(
        self, logits: Tensor, present: Tensor, target: Tensor, weight: Tensor
    ) -> Tensor:
        """Sum over modalities of each one's own mean loss over the rows that have it."""
        total = logits.new_zeros(())
        for m in range(len(self.encoders)):
            rows = weight * present[:, m].to(weight)
            loss = classification_loss(logits[:, m], target) * rows
            total = total + loss.sum() / rows.sum().clamp_min(torch.finfo(rows.dtype).tiny)
        return total

    def embed_modalities(self, batch: Batch) -> Tensor:
        """Embed each modality of a batch on its own.

        Parameters
        ----------
        batch : dict of Tensor
            As for :meth:`predict`.

        Returns
        -------
        Tensor of shape (B, M, k)
            Embeddings, zero where absent.
        """
        return self.modality_embeddings(batch["x"], batch["present"], self._raw(batch))

    @torch.no_grad()
    def fill_absent(self, batch: Batch, weight: Tensor, embeddings: Tensor | None = None) -> None:
        """Let modalities that training never lacked count as their mean embedding if missing.

        Parameters
        ----------
        batch : dict of Tensor
            Training rows.
        weight : Tensor of shape (B,)
            Their weights.
        embeddings : Tensor of shape (B, M, k) or None
            What :meth:`embed_modalities` gives for them; None to ask it for all at once.
        """
        if self.modality_dropout or self.fusion == "late":
            return
        present = batch["present"].to(self.absent.device)
        if embeddings is None:
            embeddings = self.modality_embeddings(batch["x"].to(self.absent.device), present)
        weight = weight.to(self.absent.device)
        mean = torch.einsum("b,bmk->mk", weight, embeddings) / weight.sum()
        never = present.all(dim=0)
        self.absent[never] = mean[never]

    def _drop(self, present: Tensor) -> Tensor:
        return drop_modalities(present, self.modality_dropout, self.training, self.generator)


def drop_modalities(
    present: Tensor, probability: float, training: bool, generator: torch.Generator | None
) -> Tensor:
    """Hide modalities from a training step, never the last one of a row.

    Parameters
    ----------
    present : Tensor of shape (B, M), bool
        Presence mask.
    probability : float
        Of hiding each modality; one draw per step, shared by the rows.
    training : bool
        Nothing is hidden otherwise.
    generator : torch.Generator or None
        Source of randomness.

    Returns
    -------
    Tensor of shape (B, M), bool
        The mask to train with.
    """
    if not training or probability == 0.0:
        return present
    keep = torch.rand(present.shape[1], generator=generator) >= probability
    kept = present & keep.to(present.device)
    return torch.where(kept.any(dim=1, keepdim=True), kept, present)
