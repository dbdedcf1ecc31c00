"""AdaCoMedClassifier: experts on large encoders' embeddings, collaborating with a small model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medfusion_sdk.estimators._adacomed import AdaCoMedBase
from medfusion_sdk.estimators._explanations import adacomed_explanation
from medfusion_sdk.estimators._rows import row_labels

__all__ = ["AdaCoMedClassifier"]


class AdaCoMedClassifier(AdaCoMedBase):
    """Large-small collaboration: AdaCoMed (CVPR 2025) on a cohort table or a block table.

    The large path projects each modality's embedding, lets the modalities attend to each other and
    mixes one expert per non-empty subset of modalities (Eq. 1-2). The small path is a pretrained
    small multimodal model. Both meet in one space (Eq. 3), share a head (Eq. 6), are drawn together
    by a contrastive loss (Eq. 4-5), and are weighed by their similarity (Table 1, Eq. 7-8).

    Parameters
    ----------
    modalities : "auto" or mapping, default="auto"
        How columns group into modalities; "auto" groups by the text before the first ``__``.
    large : transformer or None, default=None
        None: X is a block table. With :func:`make_modality_transformer`, or another transformer
        that makes a block table, X is a cohort table of raw columns; a clone is fitted on the rows
        to learn from, and the large path reads what it makes. Frozen encoders in it with a
        cache compute each cell once, whatever is refitted.
    small : SmallMultimodalClassifier, Pipeline, "precomputed" or None, default=None
        Pretrained on the same rows before the collaboration. None takes a
        :class:`SmallMultimodalClassifier` with its defaults and this estimator's `random_state`,
        `scaling`, `dtype` and `device`, without `large` its `batch_size` and `max_epochs` too.
        With `large` it reads the cohort table itself, or what a Pipeline makes of it that ends in
        one. "precomputed": the modality of `small_modalities` is e_small itself.
    large_modalities, small_modalities : list of str or None, default=None
        Modalities that each path reads of the block table; None is all of them. A row that has none
        for a path is predicted by the other. A small model on the cohort table has its own
        `modalities` to select columns.
    hidden_dim : int, default=64
        Token width h. Published: 512, on 10^5 admissions; our decision for hundreds of patients.
    n_heads : int, default=8
        Attention heads.
    attention : {"tokens", "concat"}, default="tokens"
        Modalities as tokens, or one concatenated vector, for which attention is a linear map.
    max_subset_size : int or None, default=None
        Largest subset of modalities with an expert of its own. Needed beyond six modalities.
    strategy : str, default="auto"
        "learnable", "inverse", "inverse_paper", "gaussian", "threshold", "ensemble", "large_only"
        or "small_only". "inverse" is the authors' code, bounded; "inverse_paper" as printed.
        The paper's best differs by task. "auto" is "gaussian" where both paths read blocks, which
        trusts the large path only as far as it has come to agree with the small one; and
        "ensemble" where the small model reads cells, and either path may be the better one.
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
    class_weight, calibrate, warm_start, dtype, device, random_state, verbose : optional
        As in :class:`SmallMultimodalClassifier`.

    Attributes
    ----------
    classes_ : ndarray
        Classes, or label positions for multilabel y.
    label_names_ : ndarray
        Names of the classes or labels.
    modalities_ : list of str
        Names of the large path's modalities.
    large_ : transformer or None
        What makes the blocks of a cohort table, fitted.
    small_ : SmallMultimodalClassifier, Pipeline or None
        The pretrained small model.
    calibration_ : Calibration or None
        As of :class:`SmallMultimodalClassifier`.
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
        large: Any = None,
        small: Any = None,
        large_modalities: Sequence[str] | None = None,
        small_modalities: Sequence[str] | None = None,
        hidden_dim: int = 64,
        n_heads: int = 8,
        attention: str = "tokens",
        max_subset_size: int | None = None,
        strategy: str = "auto",
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
        calibrate: bool = True,
        warm_start: bool = False,
        dtype: str = "auto",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.modalities = modalities
        self.large = large
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
        self.calibrate = calibrate
        self.warm_start = warm_start
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def explain(self, X: Any) -> pd.DataFrame:
        """Tell which modalities, experts and path each prediction came from.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        DataFrame
            One line per row and quantity: ``row``, ``quantity``, ``modality``, ``source``,
            ``label``, ``value``. Quantities are ``router`` (weight of each subset's expert, such
            as "ecg+note"), ``responsibility`` (of each modality; sums to one: the router's
            weights shared out over subsets, which tell no effect on the answer), ``attention`` (how
            much a modality takes from a source), ``w_large``, ``w_small``, ``similarity``,
            ``probability``, ``probability_large``, ``probability_small``.
        """
        out = self._predict(X)
        subsets = self._network().experts.subsets
        return adacomed_explanation(
            row_labels(X), self.modalities_, subsets, list(self.label_names_), out
        )
