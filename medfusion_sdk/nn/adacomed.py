"""AdaCoMed's network: expert mixture, shared head, adaptive weights of the two paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.contrast import bank_log_similarity, batch_log_similarity, cosine_logits
from medfusion_sdk.nn.experts import ModalityExperts
from medfusion_sdk.nn.small import drop_modalities
from medfusion_sdk.nn.tasks import classification_loss, l2_penalty, probabilities, weighted_mean
from medfusion_sdk.nn.weighting import path_weights

__all__ = ["AdaCoMedNetwork", "Collaboration"]


@dataclass(frozen=True)
class Collaboration:
    """How the two paths work together (methods of AdaCoMed, sections 3.3 and Table 1).

    Attributes
    ----------
    strategy : str
        Name of the weighting strategy.
    strategy_params : mapping
        Its constants, see :func:`~medfusion_sdk.nn.weighting.path_weights`.
    similarity : {"softmax", "softmax_mean"}
        Eq. 4, or the authors' code.
    scope : {"batch", "sample"}
        One similarity for the batch, or one per row.
    lambda_contrast : float
        Weight of the contrastive loss.
    temperature : float
        tau of the cosines.
    detach_similarity : bool
        No gradient through the path weights' similarity.
    """

    strategy: str = "inverse"
    strategy_params: Mapping[str, float] = field(default_factory=dict)
    similarity: str = "softmax"
    scope: str = "batch"
    lambda_contrast: float = 0.5
    temperature: float = 0.07
    detach_similarity: bool = False


class AdaCoMedNetwork(nn.Module):
    """Large path on embeddings, small path from a pretrained model, one prediction.

    Parameters
    ----------
    experts : ModalityExperts
        The mixture of the large path.
    small_width : int
        Width of e_small.
    n_outputs : int
        Number of class scores C.
    collaboration : Collaboration
        How the paths work together.
    proj_dim : int or None
        Width d of the shared space. None takes `small_width` and leaves e_small as it is, so that
        the head can start from the small model's.
    share_head : bool
        One head f for both paths; False gives the large path its own.
    small_encoder : nn.Module or None
        Given where the small encoder is trained on; frozen ones hand in ``e_small`` directly.
    match_norm : bool
        Give every z_large the training rows' mean norm of z_small, so that a shared head reads both
        paths on one scale. False is the paper's plain projection.
    bank_size : int
        Number K of stored negatives; 0 predicts with the running similarity.
    modality_dropout, alpha, router_entropy : float
        Regularisers: hidden modalities, L2 penalty, bonus on the router's entropy.
    multilabel : bool
        Labels are independent.
    """

    large_norm: Tensor
    running_similarity: Tensor
    running_steps: Tensor
    bank: Tensor

    def __init__(
        self,
        experts: ModalityExperts,
        small_width: int,
        n_outputs: int,
        collaboration: Collaboration,
        *,
        proj_dim: int | None = None,
        share_head: bool = True,
        small_encoder: Any = None,
        match_norm: bool = True,
        bank_size: int = 0,
        modality_dropout: float = 0.0,
        alpha: float = 0.0,
        router_entropy: float = 0.0,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        self.multilabel = multilabel
        width = small_width if proj_dim is None else proj_dim
        self.experts = experts
        self.collaboration = collaboration
        self.small_encoder = small_encoder
        self.project_large = nn.Linear(len(experts.dims) * experts.hidden_dim, width)
        self.project_small = nn.Identity() if proj_dim is None else nn.Linear(small_width, width)
        self.head = nn.Linear(width, n_outputs)
        self.large_head = self.head if share_head else nn.Linear(width, n_outputs)
        learns_weights = collaboration.strategy == "learnable"
        self.theta = nn.Parameter(torch.ones(2)) if learns_weights else None
        self.modality_dropout = modality_dropout
        self.alpha = alpha
        self.router_entropy = router_entropy
        self.generator: torch.Generator | None = None  # seeded by the training engine
        self.match_norm = match_norm
        self.register_buffer("large_norm", torch.ones(()))
        self.register_buffer("running_similarity", torch.zeros(()))
        self.register_buffer("running_steps", torch.zeros(()))
        self.register_buffer("bank", torch.zeros(bank_size, width))

    # -- one batch through both paths ---------------------------------------------------------

    def paths(self, batch: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Both paths up to the shared space and their class scores.

        Parameters
        ----------
        batch : dict of Tensor
            ``x`` and, with a frozen small model, ``e_small``.
        present : Tensor of shape (B, M), bool
            Presence mask of the large path.

        Returns
        -------
        dict of Tensor
            ``z_large``, ``z_small``, ``logits_large``, ``logits_small``, ``router``, ``attention``.
        """
        mixture = self.experts(batch["x"], present)
        z_large = self.project_large(mixture.fused)
        if self.match_norm:
            z_large = self.large_norm * nn.functional.normalize(z_large, dim=1)
        z_small = self.small_path(batch)
        return {
            "z_large": z_large,
            "z_small": z_small,
            "logits_large": self.large_head(z_large),
            "logits_small": self.head(z_small),
            "router": mixture.router,
            "attention": mixture.attention,
        }

    def small_path(self, batch: dict[str, Tensor]) -> Tensor:
        """The small path up to the shared space.

        Parameters
        ----------
        batch : dict of Tensor
            ``e_small``, or what a trained small encoder reads.

        Returns
        -------
        Tensor of shape (B, d)
            The vectors z_small.
        """
        if self.small_encoder is None:
            return self.project_small(batch["e_small"])
        embedded = self.small_encoder.embed(batch["small_x"], batch["small_present"])
        return self.project_small(embedded)

    @torch.no_grad()
    def measure_norm(self, batch: dict[str, Tensor], weight: Tensor) -> None:
        """Take the mean norm of z_small over training rows for ``match_norm``.

        Parameters
        ----------
        batch : dict of Tensor
            Training rows.
        weight : Tensor of shape (B,)
            Their weights.
        """
        norms = self.small_path(batch).norm(dim=1)
        self.large_norm.copy_(_mean_where(norms, weight * batch["has_small"].to(weight)))

    def combine(
        self, paths: dict[str, Tensor], log_similarity: Tensor, batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Weigh the two paths' scores (Eq. 7).

        Parameters
        ----------
        paths : dict of Tensor
            From :meth:`paths`.
        log_similarity : Tensor of shape (B,)
            Logarithm of s of each row.
        batch : dict of Tensor
            ``has_large`` and ``has_small``, bool: a path without any input has no weight.

        Returns
        -------
        dict of Tensor
            ``logits``, ``w_large``, ``w_small``, ``similarity``.
        """
        collaboration = self.collaboration
        s = log_similarity.exp()
        if collaboration.detach_similarity:
            s = s.detach()
        w_large, w_small = path_weights(
            collaboration.strategy, s, theta=self.theta, **collaboration.strategy_params
        )
        w_large = torch.where(batch["has_large"], w_large, torch.zeros_like(w_large))
        w_large = torch.where(batch["has_small"], w_large, torch.ones_like(w_large))
        w_small = 1.0 - w_large
        large, small = w_large[:, None].to(paths["z_large"]), w_small[:, None].to(paths["z_large"])
        logits = large * paths["logits_large"] + small * paths["logits_small"]
        return {"logits": logits, "w_large": w_large, "w_small": w_small, "similarity": s}

    # -- training -----------------------------------------------------------------------------

    def loss(self, batch: dict[str, Tensor], sample_weight: Tensor | None) -> dict[str, Tensor]:
        """Training loss: task + lambda * contrast (Eq. 8) + regularisers.

        Parameters
        ----------
        batch : dict of Tensor
            ``x``, ``present``, ``target``, ``has_large``, ``has_small`` and the small path's input.
        sample_weight : Tensor of shape (B,) or None
            Row weights.

        Returns
        -------
        dict of Tensor
            ``loss`` and its parts ``task``, ``contrast``, ``similarity``, ``w_large``.
        """
        x = batch["x"]
        weight = x.new_ones(len(x)) if sample_weight is None else sample_weight
        present = drop_modalities(
            batch["present"], self.modality_dropout, self.training, self.generator
        )
        paths = self.paths(batch, present)
        logits = cosine_logits(paths["z_large"], paths["z_small"], self.collaboration.temperature)
        # Only rows with both paths can agree or disagree.
        both = weight * (batch["has_large"] & batch["has_small"]).to(weight)
        log_s = batch_log_similarity(logits, both, "softmax")
        contrast = -_mean_where(log_s, both)
        combined = self.combine(paths, self._training_similarity(logits, log_s, both), batch)
        task = weighted_mean(classification_loss(combined["logits"], batch["target"]), weight)
        total = task + self.collaboration.lambda_contrast * contrast
        if self.router_entropy:
            router = paths["router"]
            entropy = -(router * router.clamp_min(1e-12).log()).sum(dim=1)
            total = total - self.router_entropy * weighted_mean(entropy, weight)
        return {
            "loss": total + l2_penalty(self, self.alpha),
            "task": task,
            "contrast": contrast,
            "similarity": weighted_mean(combined["similarity"], weight),
            "w_large": weighted_mean(combined["w_large"], weight),
        }

    def _training_similarity(self, logits: Tensor, log_s: Tensor, both: Tensor) -> Tensor:
        """log s per row in the kind and scope asked for; keeps the running mean."""
        kind = self.collaboration.similarity
        if kind != "softmax":
            log_s = batch_log_similarity(logits, both, kind)
        if self.collaboration.scope == "batch":
            log_s = _mean_where(log_s.exp(), both).clamp_min(1e-30).log().expand(len(log_s))
        if self.training:
            with torch.no_grad():
                step = _mean_where(log_s.exp(), both)
                self.running_steps += 1
                # Unbiased exponential mean: the first steps count as much as they should.
                rate = 0.01 / (1.0 - 0.99**self.running_steps)
                self.running_similarity += rate.to(step) * (step - self.running_similarity)
        return log_s

    @torch.no_grad()
    def fill_bank(self, z_small: Tensor) -> None:
        """Store negatives for ``inference_similarity="bank"``.

        Parameters
        ----------
        z_small : Tensor of shape (K, d)
            Small path's vectors of training rows.
        """
        self.bank = z_small.detach().clone()

    # -- prediction ---------------------------------------------------------------------------

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict rows, each independently of the others.

        Parameters
        ----------
        batch : dict of Tensor
            As for :meth:`loss`, without the target.

        Returns
        -------
        dict of Tensor
            ``logits`` and everything that led to them.
        """
        paths = self.paths(batch, batch["present"])
        z_large, z_small = paths["z_large"], paths["z_small"]
        if len(self.bank):
            tau = self.collaboration.temperature
            own = nn.functional.cosine_similarity(z_large, z_small, dim=1) / tau
            log_s = bank_log_similarity(
                own, cosine_logits(z_large, self.bank, tau), self.collaboration.similarity
            )
        else:
            log_s = self.running_similarity.clamp_min(1e-30).log().expand(len(z_large))
        return {**paths, **self.combine(paths, log_s, batch)}

    def predict(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Probabilities of the whole and of each path, beside what :meth:`forward` gives.

        Parameters
        ----------
        batch : dict of Tensor
            As for :meth:`forward`.

        Returns
        -------
        dict of Tensor
            ``proba``, ``proba_large``, ``proba_small``, ``embedding`` and the rest. The embedding
            is ``w_large z_large + w_small z_small``: a shared head being affine, and the weights
            summing to one, the head of the embedding is the prediction.
        """
        out = self(batch)
        w_large = out["w_large"][:, None].to(out["z_large"])
        out["embedding"] = w_large * out["z_large"] + (1 - w_large) * out["z_small"]
        for path in ("", "_large", "_small"):
            out[f"proba{path}"] = probabilities(out[f"logits{path}"], self.multilabel)
        return out


def _mean_where(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over rows of positive weight; zero where there are none."""
    rows = weight > 0
    total = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    return torch.where(rows, values * weight, torch.zeros_like(values)).sum() / total
