"""TGMMRetriever: find patients across modalities, an ECG's report by the ECG and back."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk._parameters import Allowed
from medfusion_sdk.estimators._groups import checked_groups
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._rows import checked_numbers, row_labels
from medfusion_sdk.estimators._targets import Targets, row_weights
from medfusion_sdk.estimators._tgmm_search import TGMMSearch
from medfusion_sdk.training import with_callbacks

__all__ = ["TGMMRetriever"]


class TGMMRetriever(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TGMMSearch):
    """Text-guided multimodal retrieval (TGMM, 2025) on a block table.

    TGMM's network reads a row through any subset of its modalities and places it on a sphere. It
    learns to place a patient's modalities together, each seen alone with the others hidden
    (symmetric InfoNCE), so that a row can be searched by one modality and found by another. Search
    is exact, and a row without the modality asked for is never found.

    The paper names the task and reports LRAP and Recall@k, and no code of it is public: loss and
    start are our decisions, written out on the method's page.

    Parameters
    ----------
    modalities : "auto" or mapping, default="auto"
        How columns group into modalities; "auto" groups by the text before the first ``__``.
        Their order is of no matter.
    token_shapes : mapping of str to (int, int) or None, default=None
        As in :class:`TGMMClassifier`.
    embed_size : int, default=128
        Dimensions of the space in which is searched. Our decision.
    temperature : float, default=0.07
        Divides the cosines in the loss. Our decision, CLIP's usual start.
    label_share : float, default=0.2
        With y: share of the loss by which a row has to find rows of its labels, not itself
        (supervised contrastive). Rows with labels in common come nearer to each other.
    cca_ridge : float or None, default=1.0
        Projections start from regularised canonical correlation of the modalities, and of the
        labels where y is given; the ridge counts as so many rows. None starts from random weights,
        which takes thousands of rows. Our addition: on a few hundred it is nearly all there is to
        learn.
    n_neighbors : int, default=5
        Rows that :meth:`kneighbors` finds, and k of the Recall@k of :meth:`score`.
    keep_gallery : bool, default=True
        Remember where the training rows lie, so that they can be found; False until :meth:`index`.
    d_model : int, default=128
        Width d of tokens. Our decision.
    n_heads : int, default=4
        Heads of every attention.
    fusion : {"mffm", "attention_only", "gate_only", "mean", "concat"}, default="mffm"
        MedFlexFusion, parts of it, or plain averaging or concatenation.
    gate : {"softmax", "sigmoid"}, default="softmax"
        Gates that compete, or each for itself and divided by their sum.
    guidance : {"both", "fixed", "learned", "none"}, default="learned"
        Which prompt tokens there are. Published: both; the default needs no language model.
    guidance_at : {"readout", "fusion"}, default="readout"
        Prompts read the fused row, or stand among what modalities look at.
    n_learned_tokens : int, default=8
        Learned prompt tokens.
    prompts : str, mapping of task to str, or None, default=None
        What is asked, for ``guidance`` "both" or "fixed"; None is "Find patients with a similar
        condition."; the task is called "retrieval".
    prompt_encoder : str or path, default="minilm"
        As in :class:`TGMMClassifier`.
    dropout : float, default=0.1
        In fusion and guidance.
    modality_dropout : float, default=0.2
        Probability that a training step goes without a modality where it sees rows as a whole.
    alpha : float, default=0.1
        L2 penalty as in :class:`SmallMultimodalClassifier`.
    scaling : str or mapping, default="auto"
        As in :class:`SmallMultimodalClassifier`.
    clip : float or None, default=3.0
        As in :class:`TGMMClassifier`.
    learning_rate : float or "auto", default="auto"
        Of Adam, lowered to zero by a cosine. "auto": below 2,000 rows, from the aligned start,
        3e-5, which hardly leaves it; else 3e-4.
    max_epochs : int or "auto", default="auto"
        Passes over the rows. "auto" is 20 where the rate is 3e-5, else 60.
    batch_size : int or "auto", default="auto"
        Rows that a row has to be told from in a step. "auto": all below 2,000 rows, else 256.
    early_stopping, validation_fraction, n_iter_no_change : optional
        As in :class:`TGMMClassifier`.
    warm_start, dtype, device, random_state, verbose : optional
        As in :class:`TGMMClassifier`.

    Attributes
    ----------
    modalities_ : list of str
        Names of the modalities, sorted.
    gallery_ : Gallery
        Where the rows lie that can be found; arrays alone.
    state_ : dict of str to ndarray
        Trained weights and the prompts' embeddings.
    history_ : DataFrame
        One row per epoch.
    n_iter_ : int
        Epochs run.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of str
        Their names, where X had any.

    See Also
    --------
    medfusion_sdk.metrics.recall_at_k : Recall@k of :meth:`similarity`, with intervals.

    References
    ----------
    .. [1] "A language-signal-vision multimodal framework for multitask cardiac analysis".
       arXiv 2508.13072 (2025).

    Examples
    --------
    >>> from medfusion_sdk import TGMMRetriever
    >>> from medfusion_sdk.datasets import make_multimodal_cohort
    >>> X = make_multimodal_cohort(200, shared=4.0, random_state=0).data
    >>> retriever = TGMMRetriever(random_state=0).fit(X[:150])
    >>> distances, rows = retriever.kneighbors(X[150:], query="ecg", target="note")
    >>> rows.shape
    (50, 5)
    """

    def __init__(
        self,
        modalities: str | Mapping[str, Any] = "auto",
        *,
        token_shapes: Mapping[str, tuple[int, int]] | None = None,
        embed_size: int = 128,
        temperature: float = 0.07,
        label_share: float = 0.2,
        cca_ridge: float | None = 1.0,
        n_neighbors: int = 5,
        keep_gallery: bool = True,
        d_model: int = 128,
        n_heads: int = 4,
        fusion: str = "mffm",
        gate: str = "softmax",
        guidance: str = "learned",
        guidance_at: str = "readout",
        n_learned_tokens: int = 8,
        prompts: str | Mapping[str, str] | None = None,
        prompt_encoder: str | PathLike[str] = "minilm",
        dropout: float = 0.1,
        modality_dropout: float = 0.2,
        alpha: float = 0.1,
        scaling: str | Mapping[str, str] = "auto",
        clip: float | None = 3.0,
        learning_rate: float | str = "auto",
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        dtype: str = "auto",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.modalities = modalities
        self.token_shapes = token_shapes
        self.embed_size = embed_size
        self.temperature = temperature
        self.label_share = label_share
        self.cca_ridge = cca_ridge
        self.n_neighbors = n_neighbors
        self.keep_gallery = keep_gallery
        self.d_model = d_model
        self.n_heads = n_heads
        self.fusion = fusion
        self.gate = gate
        self.guidance = guidance
        self.guidance_at = guidance_at
        self.n_learned_tokens = n_learned_tokens
        self.prompts = prompts
        self.prompt_encoder = prompt_encoder
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.alpha = alpha
        self.scaling = scaling
        self.clip = clip
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _allowed: ClassVar[Mapping[str, Allowed]] = TGMMSearch._allowed

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None) -> Self:
        """Learn to place rows, and remember where these lie.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Block table; an all-NaN block is a missing modality, other NaN are imputed and flagged.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), optional
            Classes or 0/1 labels; see `label_share`. Not needed.
        sample_weight : array-like of shape (n_samples,), optional
            Rows of weight zero are as good as removed.
        groups : array-like of shape (n_samples,), optional
            Patient of each row. Other rows of a patient are no wrong answers.

        Returns
        -------
        self
            The fitted retriever.

        Raises
        ------
        ModalityError
            If a row has no modality, or a modality no row.
        DataError
            If groups don't fit the rows.
        ParameterError
            For a parameter that has a value it can't have.
        TrainingError
            If the loss stops being finite.
        """
        check_aligned(X=X, y=y, sample_weight=sample_weight, groups=groups)
        self._check_parameters()
        values, labels = self._validate_fit(X, y)
        weight = row_weights(values, values, sample_weight, None)
        counted = weight > 0
        patients = checked_groups(groups, len(values), row_labels(X), counted)
        together = self._row_groups(values, groups, row_labels(X), counted)
        self._module = None
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        targets = None if labels is None else Targets.encode(labels[counted], y)
        rows = row_labels(X)[counted]
        given = None if sample_weight is None else weight[counted]
        held = self._held_out(together)
        parts = values[counted], targets, weight[counted], rows, together, given, held
        table = TrainingTable(*parts)
        self._learn_places(table)
        if hasattr(self, "gallery_"):
            del self.gallery_
        if self.keep_gallery:
            self._keep(table.X, rows, None if patients is None else patients[counted])
        return self

    def _validate_fit(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray | None]:
        if y is None or not self.label_share:
            return checked_numbers(self, X), None
        return checked_numbers(self, X, y, multi_output=True)
