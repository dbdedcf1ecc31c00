"""AdaCoMed's second stage: what its parameters may be, its network, its head's start, its bank."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from medfusion_sdk._parameters import (
    FLAG,
    NONE,
    Allowed,
    InstanceOf,
    ListOf,
    MappingTo,
    Number,
    OneOf,
    Whole,
)
from medfusion_sdk.estimators.small import SmallMultimodalClassifier
from medfusion_sdk.exceptions import ModalityWarning, ParameterError

if TYPE_CHECKING:
    from torch import Tensor

    from medfusion_sdk.nn.adacomed import AdaCoMedNetwork

__all__ = [
    "COLLABORATION",
    "check_collaboration",
    "check_n_experts",
    "fill_bank",
    "make_network",
    "start_head",
]

_MAX_MODALITIES = 6
# medfusion_sdk.nn.weighting has the same, but imports torch.
_STRATEGIES = (
    "learnable",
    "inverse",
    "inverse_paper",
    "gaussian",
    "threshold",
    "ensemble",
    "large_only",
    "small_only",
)
_STRATEGY_PARAMS = ("alpha", "temperature", "sigma", "threshold", "slope")

# What AdaCoMed's own parameters may be.
COLLABORATION: Mapping[str, Allowed] = {
    "small": InstanceOf(SmallMultimodalClassifier) | OneOf("precomputed", None),
    "large_modalities": ListOf(InstanceOf(str)) | NONE,
    "small_modalities": ListOf(InstanceOf(str)) | NONE,
    "hidden_dim": Whole(least=1),
    "n_heads": Whole(least=1),
    "attention": OneOf("tokens", "concat"),
    "max_subset_size": Whole(least=1) | NONE,
    "strategy": OneOf(*_STRATEGIES),
    "strategy_params": MappingTo(Number(above=0), keys=_STRATEGY_PARAMS) | NONE,
    "similarity": OneOf("softmax", "softmax_mean"),
    "similarity_scope": OneOf("batch", "sample"),
    "inference_similarity": OneOf("running", "bank"),
    "lambda_contrast": Number(least=0),
    "temperature": Number(above=0),
    "proj_dim": Whole(least=1) | NONE,
    "share_head": FLAG,
    "init_head_from_small": FLAG,
    "freeze_small": FLAG,
    "match_norm": FLAG,
    "detach_similarity": FLAG,
    "router_entropy": Number(least=0),
}


def check_collaboration(estimator: Any) -> None:
    """Refuse parameters of the collaboration that don't fit each other.

    Parameters
    ----------
    estimator : AdaCoMedClassifier
        About to be fitted.

    Raises
    ------
    ParameterError
        Naming the parameters.
    """
    if estimator.attention == "tokens" and estimator.hidden_dim % estimator.n_heads:
        raise ParameterError(
            f"n_heads={estimator.n_heads} doesn't divide hidden_dim={estimator.hidden_dim}."
        )
    if isinstance(estimator.small, str) and not estimator.freeze_small:
        raise ParameterError(
            f"freeze_small=False needs a small model to train; small={estimator.small!r} has none."
        )
    threshold = dict(estimator.strategy_params or {}).get("threshold", 0.5)
    if estimator.strategy == "threshold" and not 0 < threshold < 1:
        warnings.warn(
            f"threshold={threshold} lies outside (0, 1), where similarities are: one path will "
            "have almost no weight.",
            ModalityWarning,
            stacklevel=4,
        )


def check_n_experts(estimator: Any, n_modalities: int) -> None:
    """Refuse an expert for every subset of many modalities.

    Parameters
    ----------
    estimator : AdaCoMedClassifier
        About to be fitted.
    n_modalities : int
        Of the large path.

    Raises
    ------
    ParameterError
        If there would be too many.
    """
    if n_modalities > _MAX_MODALITIES and estimator.max_subset_size is None:
        raise ParameterError(
            f"{n_modalities} modalities would need {2**n_modalities - 1} experts; set "
            "max_subset_size, for example to 2."
        )


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
        small_encoder=None if a["freeze_small"] else _small_encoder(estimator.small_),
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
