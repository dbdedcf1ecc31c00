"""What the dual adapter learns from: labels, or its own two views of each row."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from medfusion_sdk.nn.contrast import batch_log_similarity
from medfusion_sdk.nn.dual_adapter import TEXT, TS, Batch, DualAdapterNetwork, Paths
from medfusion_sdk.nn.tasks import (
    classification_loss,
    l2_penalty,
    probabilities,
    weighted_mean,
)

__all__ = ["ContrastiveTask", "SupervisedTask", "info_nce"]


class SupervisedTask(nn.Module):
    """Both paths, their combination and a linear head.

    Parameters
    ----------
    network : DualAdapterNetwork
        The paths.
    n_outputs : int
        Classes C.
    multilabel : bool
        Labels are independent.
    path_weight : float, default=0.0
        Weight of each path's own cross-entropy beside that of the combined scores.
    alpha, signal_alpha : float, default=0.0
        L2 penalties, ``alpha / 2`` times the squared norm of the head, and of the maps of a frozen
        series embedding.
    """

    def __init__(
        self,
        network: DualAdapterNetwork,
        n_outputs: int,
        *,
        multilabel: bool,
        path_weight: float = 0.0,
        alpha: float = 0.0,
        signal_alpha: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.multilabel = multilabel
        self.path_weight = path_weight
        self.alpha = alpha
        self.signal_alpha = signal_alpha
        self.head = nn.Linear(network.combine.width, n_outputs)

    def forward(self, batch: Batch, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Score a batch.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.
        weight : Tensor of shape (B,), optional
            Their weights.

        Returns
        -------
        dict of Tensor
            ``embedding`` (B, width), ``logits`` (B, C), ``path_logits`` (B, 2, C) and
            ``present`` (B, 2).
        """
        paths = self.network(batch, weight)
        embedding = self.network.combine(*paths)
        return {
            "embedding": embedding,
            "logits": self.head(embedding),
            "path_logits": self.head(self.network.combine.path_vectors(paths.z)),
            "present": paths.present,
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
        """Cross-entropy of the combined scores, and of each path's own.

        Parameters
        ----------
        batch : dict of Tensor
            Rows with ``target``.
        sample_weight : Tensor of shape (B,) or None
            Their weights.

        Returns
        -------
        dict of Tensor
            ``loss``, and the parts ``combined``, ``temporal`` and ``textual``.
        """
        target = batch["target"]
        inputs = {name: tensor for name, tensor in batch.items() if name != "target"}
        out = self(inputs, sample_weight)
        weight = torch.ones_like(out["logits"][:, 0]) if sample_weight is None else sample_weight
        parts = {"combined": weighted_mean(classification_loss(out["logits"], target), weight)}
        for path, name in ((TS, "temporal"), (TEXT, "textual")):
            own = weight * out["present"][:, path]
            losses = classification_loss(out["path_logits"][:, path], target)
            parts[name] = (own * losses).sum() / weight.sum()
        loss = parts["combined"] + self.path_weight * (parts["temporal"] + parts["textual"])
        return {"loss": loss + self._penalty(), **parts}

    def _penalty(self) -> Tensor | float:
        penalty = l2_penalty(self.head, self.alpha)
        if self.network.shape.embedding_width:
            for part in (self.network.signal_token, self.network.series_vector):
                penalty = penalty + l2_penalty(part, self.signal_alpha)
        return penalty


class ContrastiveTask(nn.Module):
    """MedualTime without labels: each path against its own noisy view, later against the other.

    Parameters
    ----------
    network : DualAdapterNetwork
        The paths.
    temperature : float, default=0.1
        Of InfoNCE.
    aug_noise : float, default=0.5
        Standard deviation of the noise that makes the second view of a series, in units of the
        series' own.
    contrastive_weight : float, default=0.1
        Weight lambda of the terms between the paths.
    contrastive_start : float, default=0.1
        Share rho of the training after which these terms count.
    """

    def __init__(
        self,
        network: DualAdapterNetwork,
        *,
        temperature: float = 0.1,
        aug_noise: float = 0.5,
        contrastive_weight: float = 0.1,
        contrastive_start: float = 0.1,
    ) -> None:
        super().__init__()
        width = network.lm.width
        self.network = network
        self.temperature = temperature
        self.aug_noise = aug_noise
        self.contrastive_weight = contrastive_weight
        self.contrastive_start = contrastive_start
        self.projections = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)])
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        for linear in self.projections:
            nn.init.normal_(linear.weight, std=0.01)  # type: ignore[arg-type]
        if network.shape.embedding_width:
            # From zero all rows would look alike, and nothing would tell them apart.
            network.signal_token.reset_parameters()
            network.series_vector.reset_parameters()  # type: ignore[operator]
        self.generator: torch.Generator | None = None  # seeded by the training engine
        self.between_counts = False

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Hear from the training engine which epoch begins.

        Parameters
        ----------
        epoch : int
            From 1.
        max_epochs : int
            Epochs in all.
        """
        self.between_counts = epoch > self.contrastive_start * max_epochs

    def forward(self, batch: Batch, weight: Tensor | None = None) -> Paths:
        """Embed a batch by both paths.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.
        weight : Tensor of shape (B,), optional
            Their weights.

        Returns
        -------
        Paths
            Vectors of length one.
        """
        paths = self.network(batch, weight)
        projected = [linear(paths.z[:, i]) for i, linear in enumerate(self.projections)]
        z = [p + norm(p) for p, norm in zip(projected, self.norms, strict=True)]
        return Paths(normalize(torch.stack(z, dim=1), dim=-1), paths.present)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Embed a batch.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.

        Returns
        -------
        dict of Tensor
            ``embedding`` (B, width), the paths' mean; ``paths`` (B, 2, d); ``present`` (B, 2).
        """
        paths = self(batch)
        embedding = self.network.combine(*paths)
        return {"embedding": embedding, "paths": paths.z, "present": paths.present}

    def loss(self, batch: Batch, sample_weight: Tensor | None) -> dict[str, Tensor]:
        """InfoNCE between views, and from some epoch on between paths.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.
        sample_weight : Tensor of shape (B,) or None
            Their weights; a row of weight two counts as two, and its second copy as another row.

        Returns
        -------
        dict of Tensor
            ``loss``, and the parts ``temporal``, ``textual`` and ``between``.
        """
        own = self(batch, sample_weight)
        other = self({**batch, "signal": self._noisy(batch["signal"])}, sample_weight)

        def alike(z: Tensor, positive: Tensor, rows: Tensor) -> Tensor:
            weight = None if sample_weight is None else sample_weight[rows]
            return info_nce(z[rows], positive[rows], self.temperature, weight)

        parts = {}
        for path, name in ((TS, "temporal"), (TEXT, "textual")):
            parts[name] = alike(own.z[:, path], other.z[:, path], own.present[:, path])
        both, z_ts, z_text = own.present.all(dim=1), own.z[:, TS], own.z[:, TEXT]
        parts["between"] = alike(z_text, z_ts, both) + alike(z_ts, z_text, both)
        loss = parts["temporal"] + parts["textual"]
        if self.between_counts:
            loss = loss + self.contrastive_weight * parts["between"]
        return {"loss": loss, **parts}

    def _noisy(self, signal: Tensor) -> Tensor:
        noise = torch.randn(signal.shape, generator=self.generator, dtype=signal.dtype)
        spread = signal.std(dim=-1, correction=0, keepdim=True)
        return signal + self.aug_noise * spread * noise.to(signal.device)


def info_nce(
    z: Tensor, positive: Tensor, temperature: float, weight: Tensor | None = None
) -> Tensor:
    """InfoNCE in one direction, with the batch's other rows as negatives.

    Parameters
    ----------
    z, positive : Tensor of shape (B, d)
        Vectors of length one; row i belongs to row i.
    temperature : float
        Divides the cosines.
    weight : Tensor of shape (B,), optional
        Positive row weights; a row of weight two is two rows.

    Returns
    -------
    Tensor
        Scalar; 0 for a single row, or none.
    """
    if len(z) == 0:
        return z.sum()
    logits = z @ positive.T / temperature
    if weight is not None:
        return -weighted_mean(batch_log_similarity(logits, weight.to(logits)), weight.to(logits))
    return cross_entropy(logits, torch.arange(len(z), device=z.device))
