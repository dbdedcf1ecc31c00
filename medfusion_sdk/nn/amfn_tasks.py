"""What AMFN learns: an ensemble of networks with a classification or a regression loss."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.amfn import alignment_loss
from medfusion_sdk.nn.amfn_network import AMFNNetwork, AMFNShape, Scored
from medfusion_sdk.nn.layers import SharedDropout
from medfusion_sdk.nn.small import drop_modalities
from medfusion_sdk.nn.tasks import classification_loss, focal_loss, probabilities, weighted_mean

__all__ = ["AMFNTraining", "ClassificationTask", "RegressionTask", "averaged"]

# Bounds of the logarithm of a standardised target's variance. A score of 0 means 0, and there a
# score counts as much as it does without bounds.
_LEAST, _MOST = -8.0, 4.0
_ZERO = math.log(_MOST / -_LEAST)
_SLOPE = -_LEAST * _MOST / (_MOST - _LEAST)

# Held while dropout is at work in a network that threads may share: they would draw from one
# stream.
_SAMPLING = threading.Lock()


class AMFNTraining(NamedTuple):
    """How the networks are trained and sampled.

    Attributes
    ----------
    ensemble_size : int
        Networks, each with initial weights and dropout of its own.
    dropout, modality_dropout : float
        Probabilities of hiding a feature, or a modality, from a training step.
    alignment : str or None
        Kind of the alignment loss.
    lambda_align, lambda_rec : float
        Weights of the alignment and the reconstruction loss.
    """

    ensemble_size: int = 1
    dropout: float = 0.0
    modality_dropout: float = 0.0
    alignment: str | None = "cosine"
    lambda_align: float = 0.0
    lambda_rec: float = 0.0


class _Ensemble(nn.Module, ABC):
    """Networks trained side by side on the same batches; each step costs the sum of theirs.

    Parameters
    ----------
    shape : AMFNShape
        Of each network.
    training : AMFNTraining
        How they are trained.
    """

    def __init__(self, shape: AMFNShape, training: AMFNTraining) -> None:
        super().__init__()
        self.how = training
        self.mc_samples = 0  # set before predicting
        self.members = nn.ModuleList(
            AMFNNetwork(shape, training.dropout) for _ in range(training.ensemble_size)
        )
        self.generator: torch.Generator | None = None  # seeded by the training engine

    @abstractmethod
    def member_loss(self, scored: Scored, batch: dict[str, Tensor], weight: Tensor) -> Tensor:
        """Task loss of one network, averaged over the rows."""

    def loss(self, batch: dict[str, Tensor], sample_weight: Tensor | None) -> dict[str, Tensor]:
        """Training loss of a batch.

        Parameters
        ----------
        batch : dict of Tensor
            What the networks read, with ``present``, ``target`` and, where there is an expert,
            ``expert``.
        sample_weight : Tensor of shape (B,) or None
            Row weights.

        Returns
        -------
        dict of Tensor
            ``loss``, and its parts ``task`` and, where they count, ``alignment`` and
            ``reconstruction``; means over the networks.
        """
        target = batch["target"]
        weight = sample_weight if sample_weight is not None else target.new_ones(len(target))
        weight = weight.to(batch["vector"])
        found = [self._parts(network, batch, weight) for network in self.members]
        parts = {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}
        factors = {"alignment": self.how.lambda_align, "reconstruction": self.how.lambda_rec}
        loss = torch.stack([factors.get(name, 1.0) * part for name, part in parts.items()]).sum()
        return {"loss": loss, **parts}

    def _parts(self, network: Any, batch: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
        how = self.how
        present = drop_modalities(
            batch["present"], how.modality_dropout, self.training, self.generator
        )
        scored = network(batch, present, weight)
        parts = {"task": self.member_loss(scored, batch, weight)}
        if how.alignment is not None and how.lambda_align:
            parts["alignment"] = alignment_loss(scored.fused.gated, present, weight, how.alignment)
        if how.lambda_rec:
            parts["reconstruction"] = network.reconstruction_loss(
                batch, scored.encoded, present, weight
            )
        return parts

    def run(self, batch: dict[str, Tensor]) -> list[Scored]:
        """Score a batch with each network, and with some of its sub-networks.

        Parameters
        ----------
        batch : dict of Tensor
            What the networks read, with ``present``.

        Returns
        -------
        list of Scored
            One per network and pass; ``mc_samples`` passes of each network have dropout at work,
            or one has none. The sub-networks are the same for all rows and batches, so that a
            row's prediction is its own.
        """
        if not self.mc_samples:
            return [network(batch, batch["present"]) for network in self.members]
        with _SAMPLING:
            return [one for seed in range(len(self.members)) for one in self._sample(seed, batch)]

    def _sample(self, seed: int, batch: dict[str, Tensor]) -> list[Scored]:
        """Score with sub-networks of one network; others mustn't use it meanwhile."""
        network = self.members[seed]
        dropping = [part for part in network.modules() if isinstance(part, SharedDropout)]
        generator = torch.Generator()
        generator.manual_seed(seed)
        for part in dropping:
            part.generator, part.sampling = generator, True
        try:
            return [network(batch, batch["present"]) for _ in range(self.mc_samples)]
        finally:
            for part in dropping:
                part.sampling = False

    def explained(self, found: list[Scored]) -> dict[str, Tensor]:
        """What fused the modalities, averaged over the networks.

        Parameters
        ----------
        found : list of Scored
            From :meth:`run`.

        Returns
        -------
        dict of Tensor
            ``gate`` (B, M), ``attention`` (B, H, M, M), ``graph`` (B, M, M), ``fusion`` (B, M),
            ``contribution`` (B, M, n_outputs) to the scores, and ``embedding`` (B, E), the
            networks' read-outs end to end.
        """
        told = {
            name: torch.stack([getattr(one.fused, name) for one in found]).mean(dim=0)
            for name in ("gate", "attention", "graph", "fusion")
        }
        passes = max(1, self.mc_samples)
        networks: list[Any] = [one for one in self.members for _ in range(passes)]
        added = [one.contributions(own) for one, own in zip(networks, found, strict=True)]
        contribution = torch.stack(added).mean(dim=0)
        embedding = torch.cat([one.embedding for one in found[::passes]], dim=1)
        return {"embedding": embedding, "contribution": contribution, **told}


class ClassificationTask(_Ensemble):
    """Ensemble that scores classes or labels.

    Parameters
    ----------
    shape : AMFNShape
        Of each network.
    training : AMFNTraining
        How they are trained.
    multilabel : bool
        Labels are independent.
    focal : bool, default=False
        Train by the focal loss instead of cross-entropy.
    """

    def __init__(
        self, shape: AMFNShape, training: AMFNTraining, *, multilabel: bool, focal: bool = False
    ) -> None:
        super().__init__(shape, training)
        self.multilabel = multilabel
        self.focal = focal

    def member_loss(self, scored: Scored, batch: dict[str, Tensor], weight: Tensor) -> Tensor:
        """Cross-entropy of one network with the expert's say.

        Parameters
        ----------
        scored : Scored
            What the network made of the batch.
        batch : dict of Tensor
            With ``target`` and, where there is one, ``expert``.
        weight : Tensor of shape (B,)
            Of the rows.

        Returns
        -------
        Tensor
            Mean over the rows.
        """
        loss = focal_loss if self.focal else classification_loss
        return weighted_mean(loss(_with_expert(scored, batch), batch["target"]), weight)

    def predict(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Probabilities, their uncertainty, and what led to them.

        Parameters
        ----------
        batch : dict of Tensor
            What the networks read, with ``present`` and, where there is one, ``expert``.

        Returns
        -------
        dict of Tensor
            ``proba`` (B, C): mean over networks and passes; ``logits`` (B, C): its logarithm, or
            log-odds of labels; ``entropy`` (B,) of that mean in nats, ``entropy_data`` (B,): mean
            entropy of the single networks and passes, and ``entropy_model`` (B,): the difference,
            by which they disagree. Labels' entropies are summed. ``scores`` (B, S, C) of each
            network and pass; ``network`` and ``expert`` (B, C): what each adds to their mean. And
            what :meth:`explained` has.
        """
        found = self.run(batch)
        scores = torch.stack([_with_expert(one, batch) for one in found], dim=1)
        return {
            "scores": scores,
            **averaged(scores, self.multilabel),
            "network": torch.stack([one.scores for one in found]).mean(dim=0),
            **({"expert": batch["expert"]} if "expert" in batch else {}),
            **self.explained(found),
        }


def averaged(scores: Tensor, multilabel: bool) -> dict[str, Tensor]:
    """Average networks' probabilities.

    Parameters
    ----------
    scores : Tensor of shape (B, S, C)
        Of each network and pass.
    multilabel : bool
        Labels are independent.

    Returns
    -------
    dict of Tensor
        ``proba``, ``logits``, ``entropy``, ``entropy_data`` and ``entropy_model`` of
        :meth:`ClassificationTask.predict`.
    """
    each = probabilities(scores, multilabel)
    proba = each.mean(dim=1)
    total, data = _entropy(proba, multilabel), _entropy(each, multilabel).mean(dim=1)
    safe = proba.clamp(torch.finfo(proba.dtype).tiny, 1.0)
    rest = (1 - proba).clamp_min(torch.finfo(proba.dtype).eps / 2)
    return {
        "proba": proba,
        "logits": safe.log() - rest.log() if multilabel else safe.log(),
        "entropy": total,
        "entropy_data": data,
        "entropy_model": (total - data).clamp_min(0.0),
    }


def _entropy(proba: Tensor, multilabel: bool) -> Tensor:
    entropy = torch.special.entr(proba)
    if multilabel:
        entropy = entropy + torch.special.entr(1 - proba)
    return entropy.sum(dim=-1)


class RegressionTask(_Ensemble):
    """Ensemble that predicts a mean and a variance of each target, both standardised.

    Parameters
    ----------
    shape : AMFNShape
        Of each network; ``n_outputs`` is twice the number of targets.
    training : AMFNTraining
        How they are trained.
    squared : bool, default=False
        Learn the means by their squared errors, and the variances beside them; else both by
        their likelihood.
    """

    def __init__(self, shape: AMFNShape, training: AMFNTraining, *, squared: bool = False) -> None:
        super().__init__(shape, training)
        self.squared = squared

    def member_loss(self, scored: Scored, batch: dict[str, Tensor], weight: Tensor) -> Tensor:
        """Likelihood or squared error of one network.

        The likelihood of each row is weighed by the square root of its own variance (Seitzer et
        al. 2022): unweighed, rows that are hard at first would be given up on.

        Parameters
        ----------
        scored : Scored
            What the network made of the batch.
        batch : dict of Tensor
            With ``target`` and, where there is one, ``expert``.
        weight : Tensor of shape (B,)
            Of the rows.

        Returns
        -------
        Tensor
            Mean over targets and rows.
        """
        mean, log_variance = self._mean_and_variance(scored, batch)
        error = (mean - batch["target"]).square()
        variance = log_variance.exp()
        if self.squared:
            loss = (error + error.detach() / variance + log_variance) / 2
        else:
            loss = variance.detach().sqrt() * (error / variance + log_variance) / 2
        return weighted_mean(loss.mean(dim=1), weight)

    def _mean_and_variance(self, scored: Scored, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        mean, log_variance = scored.scores.chunk(2, dim=1)
        if "expert" in batch:
            mean = mean + batch["expert"]
        # Within e^-8 and e^4 of the targets' own variance, whatever a row may hold.
        return mean, _LEAST + (_MOST - _LEAST) * torch.sigmoid(log_variance / _SLOPE - _ZERO)

    def predict(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Means and variances, and what led to them.

        Parameters
        ----------
        batch : dict of Tensor
            What the networks read, with ``present`` and, where there is one, ``expert``.

        Returns
        -------
        dict of Tensor
            ``mean`` (B, K) over networks and passes; ``variance_data`` (B, K): the mean of the
            predicted variances; ``variance_model`` (B, K): the variance of the predicted means.
            And what :meth:`explained` has; ``contribution`` (B, M, K) is to the means, and
            where there is one ``expert`` (B, K) too.
        """
        found = self.run(batch)
        each = [self._mean_and_variance(one, batch) for one in found]
        means = torch.stack([mean for mean, _ in each])
        variances = torch.stack([log_variance.exp() for _, log_variance in each])
        told = self.explained(found)
        return {
            "mean": means.mean(dim=0),
            "variance_data": variances.mean(dim=0),
            "variance_model": means.var(dim=0, correction=0),
            **told,
            "contribution": told["contribution"].chunk(2, dim=2)[0],  # to the means
            **({"expert": batch["expert"]} if "expert" in batch else {}),
        }


def _with_expert(scored: Scored, batch: dict[str, Tensor]) -> Tensor:
    return scored.scores + batch["expert"] if "expert" in batch else scored.scores
