"""TGMMSurvival: prognosis from any subset of modalities, guided by prompts."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, ClassVar

import numpy as np

from medfusion_sdk._parameters import Allowed
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._survivor import NetworkSurvival
from medfusion_sdk.estimators._tgmm_explanations import TaskOutput
from medfusion_sdk.estimators._tgmm_prognosis import TGMMPrognosis

__all__ = ["TGMMSurvival"]


class TGMMSurvival(TGMMPrognosis, NetworkSurvival):
    """Text-guided multimodal prognosis (TGMM, 2025) on a block table.

    The network is that of :class:`TGMMClassifier`; its head gives a log-risk that is trained by
    Cox's partial likelihood, by a margin between pairs, or by both. Breslow's baseline hazard
    turns risks into survival curves.

    On hundreds of patients most of what can be learnt is linear. So, by default, a ridge Cox model
    of each modality stands beside the network: the modalities' log-risks are weighed by what they
    say of patients whom they haven't seen, and half of the network's, which is learnt apart, is
    added. That is ours; ``expert=False`` is the published method.

    Parameters
    ----------
    modalities : "auto" or mapping, default="auto"
        How columns group into modalities; "auto" groups by the text before the first ``__``.
        Their order is of no matter.
    token_shapes, encoders, encoder_tuning, encoder_learning_rate : optional
        As in :class:`TGMMClassifier`. What an encoder that learns makes isn't clipped.
    d_model, n_heads, fusion, gate : optional
        As in :class:`TGMMClassifier`.
    guidance, guidance_at, n_learned_tokens, prompts, prompt_encoder : optional
        As in :class:`TGMMClassifier`; what is asked is "What is the risk of the event for this
        patient?".
    prognosis_loss : {"cox", "margin", "both"}, default="cox"
        Partial likelihood, hinge between comparable pairs, or their sum. Published: Cox or margin.
    ties : {"breslow", "efron"}, default="breslow"
        How events at one time share their risk set.
    margin : float, default=1.0
        By how much the margin loss wants the earlier event's log-risk to be higher. Our decision.
    expert : bool or "auto", default="auto"
        Whether ridge Cox models stand beside the network; "auto" from 100 rows with 20 events on.
    dropout : float, default=0.1
        In fusion and guidance.
    modality_dropout : float, default=0.5
        Probability that a training step goes without a modality, to train for absence, and
        against leaning on one.
    alpha : float, default=100.0
        L2 penalty of the network as in :class:`SmallMultimodalClassifier`. Chosen, as were the two
        above and below, by cross-validation on TCGA, where 60 to 110 events train it.
    scaling : str or mapping, default="auto"
        As in :class:`SmallMultimodalClassifier`.
    clip : float, "auto" or None, default="auto"
        Values further from a column's median than this many robust standard deviations
        (interquartile range / 1.349) count as that. Expression has long tails, and one patient's
        value can otherwise carry a coefficient. "auto": 3 for blocks of more than 32 columns.
    learning_rate : float, default=0.003
        Of Adam, lowered to zero by a cosine.
    max_epochs : int, default=30
        Passes over the rows.
    batch_size : int or "auto", default="auto"
        "auto": all rows in one step up to 4,096 rows, else 256. Risk sets are those of a batch,
        and each batch gets its share of events.
    early_stopping, validation_fraction, n_iter_no_change : optional
        As in :class:`TGMMClassifier`.
    warm_start, dtype, device, random_state, verbose : optional
        As in :class:`TGMMClassifier`.

    Attributes
    ----------
    modalities_ : list of str
        Names of the modalities, sorted.
    cox_expert_ : CoxExpert or None
        The ridge Cox models: ``weights`` per modality and ``coef`` per scaled column.
    baseline_ : BaselineHazard
        Breslow's estimate, from risks that the expert gives unseen rows.
    prompts_ : dict of str to str
        The sentence that is asked; empty where no fixed tokens are.
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
    TGMMClassifier : The same network for diagnosis.
    medfusion_sdk.metrics.SurvivalScorer : Scores for ``scoring=``.
    medfusion_sdk.model_selection.EventStratifiedKFold : Folds with equal shares of events.

    References
    ----------
    .. [1] "A language-signal-vision multimodal framework for multitask cardiac analysis".
       arXiv 2508.13072 (2025).

    Examples
    --------
    >>> from medfusion_sdk import TGMMSurvival
    >>> from medfusion_sdk.datasets import load_heart_failure
    >>> X, y = load_heart_failure(return_X_y=True)
    >>> model = TGMMSurvival(random_state=0).fit(X[:200], y[:200])
    >>> curve = model.predict_survival_function(X[200:201])[0]
    >>> bool(0 < curve(90) < curve(30) < 1)
    True
    """

    def __init__(
        self,
        modalities: str | Mapping[str, Any] = "auto",
        *,
        token_shapes: Mapping[str, tuple[int, int]] | None = None,
        encoders: Mapping[str, Any] | None = None,
        encoder_tuning: int | str | Mapping[str, int | str] = "frozen",
        encoder_learning_rate: float = 1e-5,
        d_model: int = 64,
        n_heads: int = 4,
        fusion: str = "mffm",
        gate: str = "softmax",
        guidance: str = "learned",
        guidance_at: str = "readout",
        n_learned_tokens: int = 8,
        prompts: str | Mapping[str, str] | None = None,
        prompt_encoder: str | PathLike[str] = "minilm",
        prognosis_loss: str = "cox",
        ties: str = "breslow",
        margin: float = 1.0,
        expert: bool | str = "auto",
        dropout: float = 0.1,
        modality_dropout: float = 0.5,
        alpha: float = 100.0,
        scaling: str | Mapping[str, str] = "auto",
        clip: float | str | None = "auto",
        learning_rate: float = 3e-3,
        max_epochs: int = 30,
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
        self.encoders = encoders
        self.encoder_tuning = encoder_tuning
        self.encoder_learning_rate = encoder_learning_rate
        self.d_model = d_model
        self.n_heads = n_heads
        self.fusion = fusion
        self.gate = gate
        self.guidance = guidance
        self.guidance_at = guidance_at
        self.n_learned_tokens = n_learned_tokens
        self.prompts = prompts
        self.prompt_encoder = prompt_encoder
        self.prognosis_loss = prognosis_loss
        self.ties = ties
        self.margin = margin
        self.expert = expert
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

    _allowed: ClassVar[Mapping[str, Allowed]] = {**TGMMPrognosis._allowed}

    def _validate_fit(self, X: Any) -> Any:
        return self._check_rows(X)

    def _fit_table(self, table: TrainingTable) -> np.ndarray:
        table = self._read_table(table)
        labels = self._prognosis_labels(table.targets)
        self._learn(table, {"prognosis": self._prognosis_head}, labels)
        risk = self._fit_cox_expert(table, table.targets)
        self._conclude(table)
        return risk

    def _answers(self, out: Mapping[str, np.ndarray]) -> dict[str, TaskOutput]:
        return {"prognosis": TaskOutput.of("log_risk", "risk", out, ["log_risk"])}
