"""What AdaCoMed's parameters may be, alone and together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from sklearn.pipeline import Pipeline

from medfusion_sdk._parameters import (
    FLAG,
    NONE,
    Allowed,
    Having,
    InstanceOf,
    ListOf,
    MappingTo,
    Number,
    OneOf,
    Whole,
)
from medfusion_sdk.estimators.small import SmallMultimodalClassifier
from medfusion_sdk.exceptions import ModalityWarning, ParameterError

__all__ = [
    "COLLABORATION",
    "check_collaboration",
    "check_n_experts",
    "choose_strategy",
    "reads_cells",
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
    "large": Having("fit_transform", "transform") | NONE,
    "small": InstanceOf(SmallMultimodalClassifier, Pipeline) | OneOf("precomputed", None),
    "large_modalities": ListOf(InstanceOf(str)) | NONE,
    "small_modalities": ListOf(InstanceOf(str)) | NONE,
    "hidden_dim": Whole(least=1),
    "n_heads": Whole(least=1),
    "attention": OneOf("tokens", "concat"),
    "max_subset_size": Whole(least=1) | NONE,
    "strategy": OneOf("auto", *_STRATEGIES),
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
    _check_small(estimator)
    threshold = dict(estimator.strategy_params or {}).get("threshold", 0.5)
    if estimator.strategy == "threshold" and not 0 < threshold < 1:
        warnings.warn(
            f"threshold={threshold} lies outside (0, 1), where similarities are: one path will "
            "have almost no weight.",
            ModalityWarning,
            stacklevel=4,
        )


def reads_cells(estimator: Any) -> bool:
    """Tell whether the small model reads the cohort table itself.

    Parameters
    ----------
    estimator : AdaCoMedClassifier
        About to be fitted.

    Returns
    -------
    bool
        False where it reads blocks, or is one.
    """
    return estimator.large is not None and not isinstance(estimator.small, str)


def choose_strategy(estimator: Any) -> str:
    """Tell how the two paths are weighed.

    Parameters
    ----------
    estimator : AdaCoMedClassifier
        About to be fitted.

    Returns
    -------
    str
        Its strategy; for "auto" "gaussian" where both paths read the same blocks, and "ensemble"
        where the small model reads cells: either may then be the better one, and "gaussian" would
        leave nearly all to the small one.
    """
    if estimator.strategy != "auto":
        return estimator.strategy
    return "ensemble" if reads_cells(estimator) else "gaussian"


def _check_small(estimator: Any) -> None:
    small = estimator.small
    if isinstance(small, str) and not estimator.freeze_small:
        raise ParameterError(
            f"freeze_small=False needs a small model to train; small={small!r} has none."
        )
    if isinstance(small, Pipeline):
        if not isinstance(small[-1], SmallMultimodalClassifier):
            raise ParameterError(
                "small: a Pipeline has to end in a SmallMultimodalClassifier, this one does in "
                f"{small[-1]!r}."
            )
        if estimator.large is None:
            raise ParameterError(
                "small: a Pipeline reads the cohort table, and without large= the table is one of "
                "blocks; set large, or pass the Pipeline's last step alone."
            )
        small[-1]._check_parameters()
    if not reads_cells(estimator):
        return
    if not estimator.freeze_small:
        raise ParameterError(
            "freeze_small=False trains a small model that reads blocks; with large= it reads "
            "the cohort table, and only its head learns on."
        )
    if estimator.small_modalities is not None:
        raise ParameterError(
            f"small_modalities={list(estimator.small_modalities)} selects blocks; with large= the "
            "small model reads the cohort table: set its own modalities to select columns."
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
