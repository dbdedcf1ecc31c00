"""AdaCoMedClassifier: experts on large encoders' embeddings, collaborating with a small model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from medfusion_sdk._parameters import Allowed
from medfusion_sdk.estimators._block_classifier import BlockClassifier
from medfusion_sdk.estimators._collaboration import (
    COLLABORATION,
    check_collaboration,
    check_n_experts,
    fill_bank,
    make_network,
    start_head,
)
from medfusion_sdk.estimators._explanations import adacomed_explanation
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._networks import RowSpans, resume, seeded_module, to_tensors
from medfusion_sdk.estimators._paths import apply_where, fit_small_path, has_any, select_blocks
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.estimators._scaling import BlockScaling
from medfusion_sdk.tables import presence_mask

if TYPE_CHECKING:
    from torch import Tensor

    from medfusion_sdk.nn.adacomed import AdaCoMedNetwork

__all__ = ["AdaCoMedClassifier"]

# What the network's shape and its prediction depend on: kept from fit, so that parameters set
# afterwards don't change a fitted model.
_ARCHITECTURE = (
    "hidden_dim",
    "n_heads",
    "attention",
    "max_subset_size",
    "strategy",
    "similarity",
    "temperature",
    "proj_dim",
    "share_head",
    "freeze_small",
    "match_norm",
)


class AdaCoMedClassifier(BlockClassifier):
    """Large-small collaboration: AdaCoMed (CVPR 2025) on a block table.

    The large path projects each modality's embedding, lets the modalities attend to each other and
    mixes one expert per non-empty subset of modalities (Eq. 1-2). The small path is a pretrained
    small multimodal model. Both meet in one space (Eq. 3), share a head (Eq. 6), are drawn together
    by a contrastive loss (Eq. 4-5), and are weighed by their similarity (Table 1, Eq. 7-8).

    Parameters
    ----------
    modalities : "auto" or mapping, default="auto"
        How columns group into modalities; "auto" groups by the text before the first ``__``.
    small : SmallMultimodalClassifier, "precomputed" or None, default=None
        Pretrained on the same rows before the collaboration. None takes a
        :class:`SmallMultimodalClassifier` with its defaults and this estimator's `random_state`,
        `scaling`, `dtype`, `device`, `batch_size` and `max_epochs`. "precomputed": the modality of
        `small_modalities` is e_small itself.
    large_modalities, small_modalities : list of str or None, default=None
        Modalities that each path reads; None is all of them. A row that has none for a path is
        predicted by the other.
    hidden_dim : int, default=64
        Token width h. Published: 512, on 10^5 admissions; our decision for hundreds of patients.
    n_heads : int, default=8
        Attention heads.
    attention : {"tokens", "concat"}, default="tokens"
        Modalities as tokens, or one concatenated vector, for which attention is a linear map.
    max_subset_size : int or None, default=None
        Largest subset of modalities with an expert of its own. Needed beyond six modalities.
    strategy : str, default="gaussian"
        "learnable", "inverse", "inverse_paper", "gaussian", "threshold", "ensemble", "large_only"
        or "small_only". "inverse" is the authors' code, bounded; "inverse_paper" as printed.
        The paper's best differs by task; "gaussian" trusts the large path only as far as it has
        come to agree with the small one, which suits few patients.
    strategy_params : dict or None, default=None
        Constants of the strategy, see :func:`medfusion_sdk.nn.weighting.path_weights`.
    similarity : {"softmax", "softmax_mean"}, default="softmax"
        Eq. 4, or the authors' code, whose chance level is near 0.5 for any batch.
    similarity_scope : {"batch", "sample"}, default="batch"
        One similarity for all rows of a batch, or each row's own.
    inference_similarity : {"running", "bank"}, default="running"
        At prediction: the training mean, or against stored small-path vectors. Both keep a row's
        prediction independent of the other rows.
    lambda_contrast : float, default=0.5
        Weight of the contrastive loss. Published; useful from 0.1 to 1.
    temperature : float, default=0.07
        Divides the cosines: tau of Eq. 4. Published.
    proj_dim : int or None, default=None
        Width of the shared space. None takes the small model's, so that its head can be shared.
    share_head, init_head_from_small, freeze_small : bool, default=True
        Published: one head, started from the small model's, whose encoders stay as they are.
    match_norm : bool, default=True
        Give z_large the mean norm of the training rows' z_small, so that one head reads both on
        one scale. Our addition: on hundreds of patients the large path's scores otherwise grow
        until they drown the small path's. False is the paper's plain projection.
    detach_similarity : bool, default=False
        No gradient from the path weights into the similarity. Attached in the authors' code.
    router_entropy : float, default=0.0
        Bonus on the router's entropy, against collapse onto one expert.
    dropout : float, default=0.1
        On attention and expert branch. Authors' code.
    modality_dropout : float, default=0.0
        Probability that a training step goes without a modality of the large path. The small
        model has its own.
    alpha : float, default=0.1
        L2 penalty of the collaboration, as in :class:`SmallMultimodalClassifier`.
    scaling : str or mapping, default="auto"
        As in :class:`SmallMultimodalClassifier`.
    learning_rate : float, default=0.001
        Of Adam, lowered to zero by a cosine. Published: 1e-4 with mini-batches; ours takes one
        step an epoch.
    max_epochs, batch_size : optional
        As in :class:`SmallMultimodalClassifier`.
    early_stopping, validation_fraction, n_iter_no_change : optional
        As in :class:`SmallMultimodalClassifier`.
    class_weight, warm_start, dtype, device, random_state, verbose : optional
        As in :class:`SmallMultimodalClassifier`.

    Attributes
    ----------
    classes_ : ndarray
        Classes, or label positions for multilabel y.
    label_names_ : ndarray
        Names of the classes or labels.
    modalities_ : list of str
        Names of the large path's modalities.
    small_ : SmallMultimodalClassifier or None
        The pretrained small model.
    state_ : dict of str to ndarray
        Trained weights, the small model's apart.
    similarity_ : float
        Mean similarity of the two paths at the end of training.
    history_ : DataFrame
        One row per epoch, with the losses' parts.
    n_iter_ : int
        Epochs run.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of str
        Their names, where X had any.

    References
    ----------
    .. [1] Chen, W. et al. "Multi-modal Medical Diagnosis via Large-small Model Collaboration".
       CVPR 2025.

    Examples
    --------
    >>> from medfusion_sdk import AdaCoMedClassifier
    >>> from medfusion_sdk.datasets import make_multimodal_cohort
    >>> cohort = make_multimodal_cohort(120, random_state=0)
    >>> model = AdaCoMedClassifier(max_epochs=20, random_state=0)
    >>> model = model.fit(cohort.data, cohort.target)
    >>> weights = model.explain(cohort.data).query("quantity == 'w_large'")["value"]
    >>> bool(weights.between(0, 1).all())
    True
    """

    def __init__(
        self,
        modalities: str | Mapping[str, Any] = "auto",
        *,
        small: Any = None,
        large_modalities: Sequence[str] | None = None,
        small_modalities: Sequence[str] | None = None,
        hidden_dim: int = 64,
        n_heads: int = 8,
        attention: str = "tokens",
        max_subset_size: int | None = None,
        strategy: str = "gaussian",
        strategy_params: Mapping[str, float] | None = None,
        similarity: str = "softmax",
        similarity_scope: str = "batch",
        inference_similarity: str = "running",
        lambda_contrast: float = 0.5,
        temperature: float = 0.07,
        proj_dim: int | None = None,
        share_head: bool = True,
        init_head_from_small: bool = True,
        freeze_small: bool = True,
        match_norm: bool = True,
        detach_similarity: bool = False,
        router_entropy: float = 0.0,
        dropout: float = 0.1,
        modality_dropout: float = 0.0,
        alpha: float = 0.1,
        scaling: str | Mapping[str, str] = "auto",
        learning_rate: float = 1e-3,
        max_epochs: int = 100,
        batch_size: int | str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
        warm_start: bool = False,
        dtype: str = "auto",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.modalities = modalities
        self.small = small
        self.large_modalities = large_modalities
        self.small_modalities = small_modalities
        self.hidden_dim = hidden_dim
        self.n_heads = n_heads
        self.attention = attention
        self.max_subset_size = max_subset_size
        self.strategy = strategy
        self.strategy_params = strategy_params
        self.similarity = similarity
        self.similarity_scope = similarity_scope
        self.inference_similarity = inference_similarity
        self.lambda_contrast = lambda_contrast
        self.temperature = temperature
        self.proj_dim = proj_dim
        self.share_head = share_head
        self.init_head_from_small = init_head_from_small
        self.freeze_small = freeze_small
        self.match_norm = match_norm
        self.detach_similarity = detach_similarity
        self.router_entropy = router_entropy
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.alpha = alpha
        self.scaling = scaling
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **BlockClassifier._allowed,
        **COLLABORATION,
    }

    # -- fit ----------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_collaboration(self)

    def _fit_table(self, table: TrainingTable) -> None:
        from medfusion_sdk.training import module_to_state

        blocks = self._all_blocks(table.X)
        self._check_scaling(blocks)
        large = select_blocks(blocks, self.large_modalities, "large_modalities")
        check_n_experts(self, len(large))
        small = select_blocks(blocks, self.small_modalities, "small_modalities")
        presence_mask(table.X, large | small, table.rows)
        learning = table.take(table.kept)
        self._small = fit_small_path(self, learning, small)
        self.small_ = self._small.model
        has_large = has_any(learning.X, large)
        self._scaling = BlockScaling.fit(
            learning.X[has_large],
            learning.weight[has_large],
            feature_names=None,
            modalities=large,
            scaling=self.scaling,
        )
        self.modalities_ = list(large)
        network, data = self._start(table, has_any(table.X, large))

        def finish(trained: AdaCoMedNetwork) -> AdaCoMedNetwork:
            if self.inference_similarity == "bank":
                fill_bank(trained, data, self._seed)
            if self._spans is not None:
                trained.experts.dims = self._spans.widen(trained.experts.projections)
            return trained

        self._module = self._train(network, table, data, finish)
        self.similarity_ = self._module.running_similarity.item()
        self.state_ = module_to_state(self._module)
        del self._spans

    def _start(
        self, table: TrainingTable, has_large: np.ndarray
    ) -> tuple[AdaCoMedNetwork, dict[str, Tensor]]:
        """Stage 2's network, head started from the small model's, and the tensors to train on."""
        import torch

        x, present = apply_where(self._scaling, table.X, has_large)
        dtype = self._torch_dtype(x.size)
        before = getattr(self, "state_", None) if self.warm_start else None
        self.architecture_ = self._architecture(table, dtype)
        build = partial(make_network, self, n_rows=float(table.weight.sum()))
        network, inputs = None, x
        if before is not None:
            network = seeded_module(partial(build, self._scaling.dims), self._seed, dtype)
        self._spans = None
        if network is None or not resume(network, before):
            self._spans = RowSpans(x, present, self._scaling.dims)
            inputs = self._spans.project(x)
            network = seeded_module(partial(build, self._spans.dims), self._seed, dtype)
            if self.small_ is not None and self.init_head_from_small:
                start_head(network, self.small_, table.targets.classes)
        data = to_tensors(inputs, present, dtype)
        data |= self._small_inputs(table.X, has_large, dtype)
        network.measure_norm(data, torch.from_numpy(table.weight).to(dtype))
        data["target"] = self._target_tensor(table.targets, dtype)
        return network, data

    def _architecture(self, table: TrainingTable, dtype: Any) -> dict[str, Any]:
        n_rows = len(table.weight)
        # A batch less the row itself, or as many rows as have a small path at all.
        n_stored = min(self._config(n_rows).rows_per_step(n_rows), n_rows) - 1
        n_stored = min(n_stored, int(has_any(table.X, self._small.blocks).sum()))
        return {
            "dims": self._scaling.dims,
            "n_outputs": len(table.targets.classes),
            "small_width": self._small.width,
            "embed_width": self.proj_dim or self._small.width,
            "bank_size": n_stored if self.inference_similarity == "bank" else 0,
            "multilabel": table.targets.multilabel,
            "dtype": str(dtype).removeprefix("torch."),
            **{name: getattr(self, name) for name in _ARCHITECTURE},
            "strategy_params": dict(self.strategy_params or {}),
        }

    def _build_network(self) -> AdaCoMedNetwork:
        import torch

        a = self.architecture_
        dtype = getattr(torch, a["dtype"])
        return seeded_module(partial(make_network, self, a["dims"]), 0, dtype)

    # -- prediction ---------------------------------------------------------------------------

    def _read_blocks(self) -> dict[str, np.ndarray]:
        return self._small.blocks | self._scaling.blocks

    def _inputs(self, X: np.ndarray, rows: pd.Index) -> dict[str, Tensor]:
        import torch

        presence_mask(X, self._read_blocks(), rows)
        dtype = getattr(torch, self.architecture_["dtype"])
        has_large = has_any(X, self._scaling.blocks)
        x, present = apply_where(self._scaling, X, has_large)
        return to_tensors(x, present, dtype) | self._small_inputs(X, has_large, dtype)

    def _small_inputs(self, X: np.ndarray, has_large: np.ndarray, dtype: Any) -> dict[str, Tensor]:
        """The small path's part of a batch: its embedding, or what a trained encoder reads."""
        import torch

        inputs = {"has_large": torch.from_numpy(has_large)}
        has_small = has_any(X, self._small.blocks)
        if self.architecture_["freeze_small"]:
            inputs["e_small"] = torch.from_numpy(self._small.embed(X, has_small)).to(dtype)
        else:
            scaling = self.small_._scaling
            x, present = apply_where(scaling, X[:, self._small.columns], has_small)
            small = to_tensors(x, present, dtype)
            inputs |= {"small_x": small["x"], "small_present": small["present"]}
        return inputs | {"has_small": torch.from_numpy(has_small)}

    def explain(self, X: Any) -> pd.DataFrame:
        """Tell which modalities, experts and path each prediction came from.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Block table with the columns of the fit.

        Returns
        -------
        DataFrame
            One line per row and quantity: ``row``, ``quantity``, ``modality``, ``source``,
            ``label``, ``value``. Quantities are ``router`` (weight of each subset's expert, such
            as "ecg+note"), ``responsibility`` (of each modality; sums to one), ``attention`` (how
            much a modality takes from a source), ``w_large``, ``w_small``, ``similarity``,
            ``probability``, ``probability_large``, ``probability_small``.
        """
        out = self._predict(X)
        subsets = self._network().experts.subsets
        return adacomed_explanation(
            row_labels(X), self.modalities_, subsets, list(self.label_names_), out
        )
