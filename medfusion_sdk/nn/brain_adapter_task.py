"""What Brain-Adapter learns from: classes, and which volume belongs to which report."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.brain_adapter import Batch, BrainAdapterNetwork
from medfusion_sdk.nn.brain_adapter_shape import IMAGE, TEXT
from medfusion_sdk.nn.contrast import batch_log_similarity, cosine_logits
from medfusion_sdk.nn.tasks import classification_loss, probabilities, weighted_mean

__all__ = ["BrainAdapterTask", "alignment_loss"]

_KINDS = {"clip": "softmax", "decoupled": "decoupled"}


class BrainAdapterTask(nn.Module):
    """The network and a linear head on its concatenated vectors.

    Parameters
    ----------
    network : BrainAdapterNetwork
        Up to the common space.
    n_outputs : int
        Classes C.
    multilabel : bool
        Labels are independent.
    contrastive : {"clip", "decoupled"}, default="clip"
        Whether a pair stands among what it is compared with.
    contrastive_weight : float, default=1.0
        Weight lambda of the contrastive loss.
    """

    def __init__(
        self,
        network: BrainAdapterNetwork,
        n_outputs: int,
        *,
        multilabel: bool,
        contrastive: str = "clip",
        contrastive_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.multilabel = multilabel
        self.contrastive = contrastive
        self.contrastive_weight = contrastive_weight
        shape = network.shape
        self.head = nn.Linear(len(shape.modalities) * shape.proj_dim, n_outputs)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Score a batch.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.

        Returns
        -------
        dict of Tensor
            ``embedding`` (B, d) and ``unit`` (B, M, d) in the common space, ``present`` (B, M),
            ``logits`` (B, C), and ``contributions`` (B, M, C): what each modality's vector adds to
            the logits, which are their sum and the head's bias.
        """
        aligned = self.network(batch)
        parts = self.head.weight.unflatten(1, aligned.z.shape[1:])
        contributions = torch.einsum("bmd,cmd->bmc", aligned.z, parts)
        return {
            "embedding": aligned.joint(),
            "unit": aligned.unit(),
            "present": aligned.present,
            "logits": contributions.sum(dim=1) + self.head.bias,
            "contributions": contributions,
        }

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Score a batch, with probabilities.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.

        Returns
        -------
        dict of Tensor
            As :meth:`forward`, and ``proba`` (B, C).
        """
        out = self(batch)
        return {**out, "proba": probabilities(out["logits"], self.multilabel)}

    def loss(self, batch: Batch, sample_weight: Tensor | None) -> dict[str, Tensor]:
        """Cross-entropy of the classes, and the contrastive loss of the rows that have both.

        Parameters
        ----------
        batch : dict of Tensor
            Rows with ``target``, and with ``subject`` (B,) where rows of one person aren't to be
            told apart.
        sample_weight : Tensor of shape (B,) or None
            Their weights.

        Returns
        -------
        dict of Tensor
            ``loss``, and the parts ``classification`` and ``contrastive``.
        """
        out = self(batch)
        weight = torch.ones_like(out["logits"][:, 0]) if sample_weight is None else sample_weight
        losses = classification_loss(out["logits"], batch["target"])
        parts = {"classification": weighted_mean(losses, weight)}
        if out["present"].shape[1] == 1:
            return {"loss": parts["classification"], **parts}
        both = out["present"].all(dim=1)
        parts["contrastive"] = alignment_loss(
            out["unit"][both, IMAGE],
            out["unit"][both, TEXT],
            self.network.scale,
            weight[both],
            subject=batch["subject"][both] if "subject" in batch else None,
            kind=self.contrastive,
        )
        return {
            "loss": parts["classification"] + self.contrastive_weight * parts["contrastive"],
            **parts,
        }


def alignment_loss(
    z_image: Tensor,
    z_text: Tensor,
    scale: Tensor | float,
    weight: Tensor,
    *,
    subject: Tensor | None = None,
    kind: str = "clip",
) -> Tensor:
    """Contrastive loss between volumes and reports, both ways: CLIP's, or without the positive.

    Parameters
    ----------
    z_image, z_text : Tensor of shape (B, d)
        Vectors; row i belongs to row i.
    scale : Tensor or float
        Factor on their cosines.
    weight : Tensor of shape (B,)
        Positive row weights; a row of weight two is two rows.
    subject : Tensor of shape (B,), optional
        Whose rows they are: other rows of the same person are no negatives.
    kind : {"clip", "decoupled"}
        Whether the pair itself stands in the denominator. Without it the loss may be negative.

    Returns
    -------
    Tensor
        Scalar; 0 where no row has a negative.

    Examples
    --------
    >>> import torch
    >>> same = torch.ones(4, 3)
    >>> alignment_loss(same, same, 10.0, torch.ones(4)).round(decimals=3)  # chance: ln 4
    tensor(1.3860)
    """
    if not len(z_image):
        return z_image.sum()
    logits = cosine_logits(z_image, z_text, 1.0) * scale
    if subject is not None:
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        kin = (subject[:, None] == subject) & ~own
        logits = logits.masked_fill(kin, -torch.inf)
    both_ways = [batch_log_similarity(way, weight, _KINDS[kind]) for way in (logits, logits.T)]
    return -weighted_mean(torch.stack(both_ways).mean(dim=0), weight)
