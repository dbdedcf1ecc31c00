"""What TGMM learns: a head and a loss for each task, summed over the rows that are labelled."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.small import drop_modalities
from medfusion_sdk.nn.survival import prognosis_loss
from medfusion_sdk.nn.tasks import classification_loss, l2_penalty, probabilities
from medfusion_sdk.nn.tgmm_head import Batch, Head, Reread, labelled_mean
from medfusion_sdk.nn.tgmm_network import Guided, TGMMNetwork
from medfusion_sdk.nn.tgmm_retrieval import RetrievalHead

__all__ = ["HEADS", "DiagnosisHead", "PrognosisHead", "TGMMTasks"]


class DiagnosisHead(Head):
    """Linear scores of classes or labels, cross-entropy.

    Parameters
    ----------
    width : int
        Of the vector.
    n_outputs : int
        Classes C, or labels.
    multilabel : bool, default=False
        Labels are independent.
    """

    def __init__(self, width: int, n_outputs: int, multilabel: bool = False) -> None:
        super().__init__()
        self.multilabel = multilabel
        self.scores = nn.Linear(width, n_outputs)
        # Zero, so that training begins at no preference and the classes' order is of no matter.
        nn.init.zeros_(self.scores.weight)
        nn.init.zeros_(self.scores.bias)

    def loss(
        self, vector: Tensor, batch: Batch, present: Tensor, weight: Tensor, reread: Reread
    ) -> Tensor:
        """Cross-entropy.

        Parameters
        ----------
        vector : Tensor of shape (B, d)
            Of each row.
        batch : mapping of str to Tensor
            With ``target``: class positions, -1 where unknown; or 0/1 labels.
        present : Tensor of shape (B, M), bool
            Not needed.
        weight : Tensor of shape (B,)
            Of the rows.
        reread : callable
            Not needed.

        Returns
        -------
        Tensor
            Mean over the rows with a label.
        """
        target = batch["target"]
        logits = self.scores(vector)
        if self.multilabel:
            return labelled_mean(classification_loss(logits, target), weight)
        known = target >= 0
        return labelled_mean(
            classification_loss(logits, target.clamp_min(0)), weight * known.to(weight)
        )

    def predict(self, vector: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Score and weigh the classes.

        Parameters
        ----------
        vector : Tensor of shape (B, d)
            Of each row.
        batch : mapping of str to Tensor
            What the network read.

        Returns
        -------
        dict of Tensor
            ``logits`` and ``proba``, of shape (B, C).
        """
        logits = self.scores(vector)
        return {"logits": logits, "proba": probabilities(logits, self.multilabel)}


class PrognosisHead(Head):
    """Linear log-risk without a bias, Cox's partial likelihood or a margin between pairs.

    Parameters
    ----------
    width : int
        Of the vector.
    loss : {"cox", "margin", "both"}, default="cox"
        Kind of loss.
    ties : {"breslow", "efron"}, default="breslow"
        Of the Cox loss.
    margin : float, default=1.0
        Of the margin loss.
    """

    def __init__(
        self, width: int, loss: str = "cox", ties: str = "breslow", margin: float = 1.0
    ) -> None:
        super().__init__()
        self.how = {"kind": loss, "ties": ties, "margin": margin}
        self.risk = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.risk.weight)

    def loss(
        self, vector: Tensor, batch: Batch, present: Tensor, weight: Tensor, reread: Reread
    ) -> Tensor:
        """Loss of the log-risks.

        Parameters
        ----------
        vector : Tensor of shape (B, d)
            Of each row.
        batch : mapping of str to Tensor
            With ``time``, NaN where unknown, and ``event``.
        present : Tensor of shape (B, M), bool
            Not needed.
        weight : Tensor of shape (B,)
            Of the rows.
        reread : callable
            Not needed.

        Returns
        -------
        Tensor
            Mean over the events, or over comparable pairs, of the rows with a time.
        """
        known = ~batch["time"].isnan()
        if not known.any():
            return 0.0 * vector.sum()
        risk = self.risk(vector[known])[:, 0]
        time, event = batch["time"][known], batch["event"][known]
        return prognosis_loss(risk, time, event, weight[known], **self.how)  # type: ignore[arg-type]

    def predict(self, vector: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Tell the log-risks.

        Parameters
        ----------
        vector : Tensor of shape (B, d)
            Of each row.
        batch : mapping of str to Tensor
            What the network read.

        Returns
        -------
        dict of Tensor
            ``risk``, of shape (B,).
        """
        return {"risk": self.risk(vector)[:, 0]}


# By the name of the task.
HEADS: Mapping[str, type[Head]] = {
    "diagnosis": DiagnosisHead,
    "prognosis": PrognosisHead,
    "retrieval": RetrievalHead,
}


class TGMMTasks(nn.Module):
    """One network with a head for each task, trained on the sum of their losses.

    Parameters
    ----------
    network : TGMMNetwork
        Its tasks are the heads'.
    heads : mapping of str to Head
        By task.
    modality_dropout : float, default=0.0
        Probability that a training step goes without a modality.
    alpha : float, default=0.0
        L2 penalty on the weights, divided by the number of training rows.
    task_weights : mapping of str to float or None, default=None
        What each task's loss counts; one where nothing else is said.
    """

    def __init__(
        self,
        network: TGMMNetwork,
        heads: Mapping[str, Head],
        *,
        modality_dropout: float = 0.0,
        alpha: float = 0.0,
        task_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.heads = nn.ModuleDict(heads)
        self.modality_dropout = modality_dropout
        self.alpha = alpha
        self.task_weights = dict(task_weights or {})
        self.generator: torch.Generator | None = None  # seeded by the training engine

    def loss(self, batch: Batch, sample_weight: Tensor | None) -> dict[str, Tensor]:
        """Training loss of a batch.

        Parameters
        ----------
        batch : mapping of str to Tensor
            What the network reads, with ``present`` and the tasks' labels.
        sample_weight : Tensor of shape (B,) or None
            Row weights.

        Returns
        -------
        dict of Tensor
            ``loss``, and each task's own.
        """
        x = batch["x"]
        weight = x.new_ones(len(x)) if sample_weight is None else sample_weight
        present = drop_modalities(
            batch["present"], self.modality_dropout, self.training, self.generator
        )
        found = self.network(batch, present)
        parts = {
            task: head.loss(  # type: ignore[operator]
                found.vectors[task], batch, present, weight, self._reread(task, batch)
            )
            for task, head in self.heads.items()
        }
        counted = [self.task_weights.get(task, 1.0) * part for task, part in parts.items()]
        total = torch.stack(counted).sum()
        return {"loss": total + l2_penalty(self, self.alpha), **parts}

    def _reread(self, task: str, batch: Batch) -> Reread:
        return lambda present: self.network(batch, present).vectors[task]

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Predictions of every task, and what led to them.

        Parameters
        ----------
        batch : mapping of str to Tensor
            What the network reads, with ``present``.

        Returns
        -------
        dict of Tensor
            What the heads predict; ``embedding``: the tasks' vectors end to end; ``present``
            (B, M): the modalities that were read; and of each task t ``t.gate`` (B, M),
            ``t.attention`` (B, H, M, M) and, where prompts read the fused row, ``t.prompt``
            (B, H, P, 1 + M).
        """
        found = self.network(batch, batch["present"])
        out = {
            "embedding": torch.cat(list(found.vectors.values()), dim=1),
            "present": next(iter(found.fused.values())).present,
        }
        for task, head in self.heads.items():
            out |= head.predict(found.vectors[task], batch)  # type: ignore[operator]
            out |= _explained(found, task)
        return out


def _explained(found: Guided, task: str) -> dict[str, Tensor]:
    fused = found.fused[task]
    told = {
        "gate": fused.gate,
        "attention": fused.attention,
        **({"prompt": found.prompt_attention[task]} if found.prompt_attention else {}),
    }
    return {f"{task}.{name}": value for name, value in told.items()}
