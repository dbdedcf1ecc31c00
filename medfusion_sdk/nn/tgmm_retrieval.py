"""TGMM's retrieval: single modalities of one patient meet in one space (symmetric InfoNCE)."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medfusion_sdk.nn.tgmm_head import Batch, Head, Reread, labelled_mean

__all__ = ["RetrievalHead", "common_labels", "matching_loss"]


class _View(NamedTuple):
    """The rows of a batch seen through some of their modalities."""

    z: Tensor  # (B, d), of length one
    has: Tensor  # (B,), bool: which rows have them


class RetrievalHead(Head):
    """Linear map to the space in which is searched, vectors of length one.

    The loss looks at a batch through one modality at a time, the others hidden, and through what
    the training step has of each row. In each pair of views a row has to find itself among the
    rows of other patients. Rows with the same report need no care: their errors add up to those
    of one row with as many right answers.

    Parameters
    ----------
    width : int
        Of the task's vector.
    embed_size : int, default=128
        Dimensions d_r of the space.
    temperature : float, default=0.07
        Divides the cosines.
    label_share : float, default=0.0
        Share of the loss by which a row has to find those of its labels, not itself.
    """

    def __init__(
        self,
        width: int,
        embed_size: int = 128,
        temperature: float = 0.07,
        label_share: float = 0.0,
    ) -> None:
        super().__init__()
        self.temperature, self.label_share = temperature, label_share
        self.space = nn.Linear(width, embed_size)

    def loss(
        self, vector: Tensor, batch: Batch, present: Tensor, weight: Tensor, reread: Reread
    ) -> Tensor:
        """Symmetric InfoNCE over all pairs of views.

        Parameters
        ----------
        vector : Tensor of shape (B, d)
            Of each row.
        batch : mapping of str to Tensor
            With ``present`` (B, M); ``row`` (B,), which copies of a row share, and ``patient``
            (B,), numbers; and, where `label_share` is positive, ``labels`` (B, L) of 0 and 1.
        present : Tensor of shape (B, M), bool
            Modalities that `vector` was read from.
        weight : Tensor of shape (B,)
            Of the rows.
        reread : callable
            Gives the vectors of the batch with other modalities hidden.

        Returns
        -------
        Tensor
            Mean over pairs, directions and rows.
        """
        views = self._views(vector, batch, reread)
        losses = []
        for a, b in combinations(views, 2):
            losses += [self._direction(a, b, batch, weight), self._direction(b, a, batch, weight)]
        return torch.stack(losses).mean()

    def _views(self, vector: Tensor, batch: Batch, reread: Reread) -> list[_View]:
        there = batch["present"]
        views = [_View(self._embed(vector), torch.ones_like(there[:, 0]))]
        n_modalities = there.shape[1]
        for m in range(n_modalities):
            alone = there & (torch.arange(n_modalities, device=there.device) == m)
            views.append(_View(self._embed(reread(alone)), there[:, m]))
        return views

    def _direction(self, query: _View, target: _View, batch: Batch, weight: Tensor) -> Tensor:
        """Loss of finding, from one view of each row, the other view of it."""
        logits = query.z @ target.z.T / self.temperature
        row, patient = batch["row"], batch["patient"]
        same = row[:, None] == row
        allowed = target.has & (same | (patient[:, None] != patient))
        losses = matching_loss(logits, same & allowed, allowed, weight)
        if self.label_share:
            alike = common_labels(batch["labels"]) * allowed
            losses = torch.lerp(
                losses, matching_loss(logits, alike, allowed, weight), self.label_share
            )
        return labelled_mean(losses, weight * (query.has & target.has))

    def _embed(self, vector: Tensor) -> Tensor:
        return normalize(self.space(vector), dim=1)

    def predict(self, vector: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Place each row in the space.

        Parameters
        ----------
        vector : Tensor of shape (B, d)
            Of each row.
        batch : mapping of str to Tensor
            What the network read.

        Returns
        -------
        dict of Tensor
            ``place``, of shape (B, d_r), of length one.
        """
        return {"place": self._embed(vector)}


def matching_loss(logits: Tensor, right: Tensor, allowed: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of finding the right ones among those allowed.

    A row of weight two counts as two rows, in what is right and in what is wrong.

    Parameters
    ----------
    logits : Tensor of shape (B, K)
        Cosines over the temperature.
    right : Tensor of shape (B, K)
        At least zero: how right each answer is, as True or a share of labels in common.
    allowed : Tensor of shape (B, K), bool
        What may be answered.
    weight : Tensor of shape (K,)
        Positive weights of the answers.

    Returns
    -------
    Tensor of shape (B,)
        Mean over the right answers, weighted by how right they are; zero where there is none.
    """
    weighed = (logits + weight.log()).masked_fill(~allowed, float("-inf"))
    # Nothing allowed: keep the row finite; it has nothing right either.
    total = weighed.logsumexp(dim=1, keepdim=True).nan_to_num(neginf=0.0)
    share = right * weight
    share = share / share.sum(dim=1, keepdim=True).clamp_min(torch.finfo(logits.dtype).tiny)
    return (share * (total - logits)).sum(dim=1)


def common_labels(labels: Tensor) -> Tensor:
    """Labels in common, as a share of those that one of two rows has (Jaccard).

    Parameters
    ----------
    labels : Tensor of shape (B, L)
        0 and 1; a class is one label.

    Returns
    -------
    Tensor of shape (B, B)
        Between 0 and 1; 0 where neither has a label.
    """
    shared = labels @ labels.T
    n_labels = labels.sum(dim=1)
    return shared / (n_labels[:, None] + n_labels - shared).clamp_min(1.0)
