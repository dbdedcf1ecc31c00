"""AdaCoMed's second stage: its network, its head's start, its bank."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from medfusion_sdk.exceptions import ModalityWarning

if TYPE_CHECKING:
    from torch import Tensor

    from medfusion_sdk.nn.adacomed import AdaCoMedNetwork

__all__ = ["fill_bank", "make_network", "start_head"]


def make_network(estimator: Any, dims: list[int], n_rows: float | None = None) -> AdaCoMedNetwork:
    """The network of a fit's ``architecture_``.

    Parameters
    ----------
    estimator : AdaCoMedClassifier
        Whose network it is.
    dims : list of int
        Input width of each modality of the large path.
    n_rows : float or None
        Total weight of the training rows, for a network that is to be trained; None for one that
        predicts.

    Returns
    -------
    AdaCoMedNetwork
        Untrained.
    """
    from medfusion_sdk.nn.adacomed import AdaCoMedNetwork, Collaboration
    from medfusion_sdk.nn.experts import ModalityExperts

    a = estimator.architecture_
    training = {}
    if n_rows is not None:
        training = {
            "modality_dropout": estimator.modality_dropout,
            "alpha": estimator.alpha / n_rows,
            "router_entropy": estimator.router_entropy,
        }
    collaboration = Collaboration(
        strategy=a["strategy"],
        strategy_params=a["strategy_params"],
        similarity=a["similarity"],
        scope=estimator.similarity_scope,
        lambda_contrast=estimator.lambda_contrast,
        temperature=a["temperature"],
        detach_similarity=estimator.detach_similarity,
    )
    experts = ModalityExperts(
        dims,
        a["hidden_dim"],
        a["n_heads"],
        a["attention"],
        a["max_subset_size"],
        estimator.dropout,
    )
    return AdaCoMedNetwork(
        experts,
        a["small_width"],
        a["n_outputs"],
        collaboration,
        proj_dim=a["proj_dim"],
        share_head=a["share_head"],
        small_encoder=None if a["freeze_small"] else _small_encoder(estimator._small.model),
        match_norm=a["match_norm"],
        bank_size=a["bank_size"],
        multilabel=a["multilabel"],
        **training,
    )


def _small_encoder(small_model: Any) -> Any:
    encoder = copy.deepcopy(small_model._network())
    encoder.head.requires_grad_(False)  # the collaboration's own head takes its place
    return encoder


def start_head(network: AdaCoMedNetwork, small_model: Any, classes: np.ndarray) -> None:
    """Start the head from the small model's (paper, section 3.3).

    Parameters
    ----------
    network : AdaCoMedNetwork
        Untrained.
    small_model : SmallMultimodalClassifier
        Fitted.
    classes : ndarray
        All classes; one that no row of the small path has starts from zero.
    """
    import torch

    known = np.searchsorted(classes, small_model.classes_)
    own = (small_model.state_[f"head.{part}"] for part in ("weight", "bias"))
    weight, bias = (
        torch.zeros(
            (len(classes), *part.shape[1:]), dtype=torch.from_numpy(part).dtype
        ).index_copy_(0, torch.from_numpy(known), torch.from_numpy(np.array(part)))
        for part in own
    )
    with torch.no_grad():
        if isinstance(network.project_small, torch.nn.Linear):
            projection = network.project_small
            if projection.out_features < projection.in_features:
                warnings.warn(
                    f"proj_dim={projection.out_features} is narrower than the small model's "
                    f"{projection.in_features}: its head can't be carried over, starts afresh.",
                    ModalityWarning,
                    stacklevel=2,
                )
                return
            # f(P e + p) = W e + b for f = W P^+ and P of full column rank.
            weight = weight.to(projection.weight) @ torch.linalg.pinv(projection.weight)
            bias = bias.to(weight) - weight @ projection.bias
        for head in (network.head, network.large_head):
            head.weight.copy_(weight)
            head.bias.copy_(bias)


def fill_bank(network: AdaCoMedNetwork, data: dict[str, Tensor], seed: int) -> None:
    """Keep small-path vectors of training rows as the negatives of every later row.

    Parameters
    ----------
    network : AdaCoMedNetwork
        Trained.
    data : dict of Tensor
        Training rows.
    seed : int
        Which rows are drawn.
    """
    import torch

    rows = torch.nonzero(data["has_small"].cpu()).flatten().numpy()
    drawn = np.random.RandomState(seed).permutation(rows)[: len(network.bank)]
    with torch.no_grad():
        z_small = network.cpu().small_path({name: part.cpu() for name, part in data.items()})
    network.fill_bank(z_small[np.sort(drawn)])
