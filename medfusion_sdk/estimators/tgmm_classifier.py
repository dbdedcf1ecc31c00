"""TGMMClassifier: diagnosis from any subset of modalities, guided by prompts."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, ClassVar

import numpy as np

from medfusion_sdk._parameters import Allowed
from medfusion_sdk.estimators._block_classifier import BlockClassifier
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._tgmm_diagnosis import TGMMDiagnosis
from medfusion_sdk.estimators._tgmm_explanations import TaskOutput

__all__ = ["TGMMClassifier"]


class TGMMClassifier(TGMMDiagnosis, BlockClassifier):
    """Text-guided multimodal diagnosis (TGMM, 2025) on a block table.

    Each modality is projected to one width. MedFlexFusion lets every modality look at the others
    by cross-attention and weighs them by gates, whatever subset of them a row has. Textual
    Guidance reads the fused row by prompt tokens: learned ones, and the frozen embeddings of a
    sentence that says what is asked. A linear head scores the classes.

    The paper names these parts and shows no equations, and no code of it is public: what they
    compute here is our decision, written out on the method's page.

    Parameters
    ----------
    modalities : "auto" or mapping, default="auto"
        How columns group into modalities; "auto" groups by the text before the first ``__``.
        Their order is of no matter.
    token_shapes : mapping of str to (int, int) or None, default=None
        Modalities that are sequences: number of tokens T and width of each, whose block has
        T times width columns, token after token. A token that is all NaN isn't there. None
        takes every block as one vector, which suits small data.
    encoders : mapping of str to encoder or (encoder, columns), or None, default=None
        Raw modalities of a cohort table: which encoder reads which column, or columns; the column
        of the modality's name by default. The other columns are taken as a block table.
    encoder_tuning : "frozen", int, "lora" or mapping of modality to these, default="frozen"
        What learns of those encoders: nothing; the last blocks of a transformer, by number; or
        low-rank adapters in all its blocks, by peft. One value is for every TextEncoder,
        LabTextEncoder, ImageEncoder and SignalEncoder of ST-MEM; the others stay frozen. What an
        encoder that learns makes isn't clipped.
    encoder_learning_rate : float, default=1e-5
        Of what learns in encoders.
    d_model : int, default=64
        Width d of tokens. Our decision for hundreds of patients; the encoders' own is 768.
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
    n_learned_tokens : int, default=4
        Learned prompt tokens. Our decision: eight cost twice as much and did no better.
    prompts : str, mapping of task to str, or None, default=None
        What is asked, for ``guidance`` "both" or "fixed"; None is "Does this patient have the
        condition?".
    prompt_encoder : str or path, default="minilm"
        Language model that embeds the prompt, once, in fit; see :class:`TextEncoder`. The
        embeddings are kept with the weights, so prediction needs no language model.
    expert : bool or "auto", default="auto"
        Whether simpler models stand beside the network. From 500 rows on, with 20 of each class:
        trees on the columns as they are, whose log-odds count as much as the network's. Below
        that, or beside the trees where blocks are embeddings: a ridge logistic model per
        modality, weighed by what each says of rows that it hasn't seen, which also decide how far
        the sum is from the base rate. "auto" has the latter from 100 rows on, with 10 of each
        class; True always. Ours; False is the published method.
    dropout : float, default=0.1
        In fusion and guidance.
    modality_dropout : float, default=0.2
        Probability that a training step goes without a modality, to train for absence.
    alpha : float, default=3.0
        L2 penalty as in :class:`SmallMultimodalClassifier`. Our decision, as those on steps, by
        cross-validation on the bundled infarctions and the PTB-XL records.
    scaling : str or mapping, default="auto"
        As in :class:`SmallMultimodalClassifier`.
    clip : float or None, default=3.0
        Values further from a column's median than this many robust standard deviations count as
        that, for the network: a slip of the pen is no hundredfold risk. None leaves them.
    learning_rate : float, default=0.01
        Of Adam, lowered to zero by a cosine.
    max_epochs : int, default=60
        Passes over the rows.
    batch_size : int or "auto", default="auto"
        "auto": all rows in one step up to 4,096 rows, else 256; 16 where an encoder learns.
    early_stopping : bool or "auto", default="auto"
        Hold rows out and stop when their loss no longer falls; "auto" from 10,000 rows on.
    validation_fraction : float, default=0.1
        Held-out share for early stopping.
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn.
    calibrate : bool, default=True
        As in :class:`SmallMultimodalClassifier`; without effect where there is an expert.
    warm_start : bool, default=False
        Start from the last fit's weights where the shapes agree.
    dtype : {"auto", "float32", "float64"}, default="auto"
        "auto" computes tables of up to 50,000 values in float64.
    device : str, default="auto"
        "auto": CUDA if there is one, else CPU.
    random_state : int, RandomState or None, default=None
        Equal values give bit-identical fits on the CPU.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray
        Classes, or label positions for multilabel y.
    label_names_ : ndarray
        Names of the classes or labels.
    modalities_ : list of str
        Names of the modalities, sorted.
    prompts_ : dict of str to str
        The sentence of each task; empty where no fixed tokens are.
    expert_ : Expert or None
        The trees, as arrays.
    ridge_expert_ : RidgeExpert or None
        The ridge logistic models; its ``weights`` tell how much each modality counts.
    encode_ : ColumnTransformer or None
        The encoders, fitted.
    tuned_ : dict of str to int or str
        What learns of which encoder.
    calibration_ : Calibration or None
        As of :class:`SmallMultimodalClassifier`; None with an expert.
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

    References
    ----------
    .. [1] "A language-signal-vision multimodal framework for multitask cardiac analysis".
       arXiv 2508.13072 (2025).

    Examples
    --------
    >>> from medfusion_sdk import TGMMClassifier
    >>> from medfusion_sdk.datasets import make_multimodal_cohort
    >>> cohort = make_multimodal_cohort(120, random_state=0)
    >>> model = TGMMClassifier(max_epochs=20, random_state=0).fit(cohort.data, cohort.target)
    >>> model.predict_proba(cohort.data).shape
    (120, 2)
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
        n_learned_tokens: int = 4,
        prompts: str | Mapping[str, str] | None = None,
        prompt_encoder: str | PathLike[str] = "minilm",
        expert: bool | str = "auto",
        dropout: float = 0.1,
        modality_dropout: float = 0.2,
        alpha: float = 3.0,
        scaling: str | Mapping[str, str] = "auto",
        clip: float | None = 3.0,
        learning_rate: float = 1e-2,
        max_epochs: int = 60,
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
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.warm_start = warm_start
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **BlockClassifier._allowed,
        **TGMMDiagnosis._allowed,
    }

    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        return self._check_rows_and_targets(X, y)

    def _read_once(self, table: TrainingTable) -> TrainingTable:
        return self._read_columns(table)

    def _fit_table(self, table: TrainingTable) -> None:
        targets = table.targets
        kind = "labels" if targets.multilabel else "classes"
        table = self._read_table(table)
        scores = self._fit_expert(table, targets.codes, kind)
        settings = {"n_outputs": len(targets.classes), "multilabel": targets.multilabel}
        self._learn(table, {"diagnosis": settings}, {"target": targets.codes})
        self._weigh_network(table, scores, kind)

    @property
    def _weighed_unseen(self) -> bool:
        return self._mixture is not None

    def _answers(self, out: Mapping[str, np.ndarray]) -> dict[str, TaskOutput]:
        labels = list(self.label_names_)
        return {"diagnosis": TaskOutput.of("probability", "proba", out, labels)}
