"""DualAdapterClassifier: MedualTime on one signal and one text column."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk._parameters import FLAG, NONE, Allowed, Number, OneOf, Whole
from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.estimators._classifier import NetworkClassifier
from medfusion_sdk.estimators._dual_adapter import DualAdapterBase
from medfusion_sdk.estimators._dual_explanations import explain_table
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._networks import resume, seeded_module
from medfusion_sdk.estimators._probe import start_head
from medfusion_sdk.estimators._rows import row_labels

if TYPE_CHECKING:
    from medfusion_sdk.nn.dual_adapter import DualAdapterNetwork
    from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask

__all__ = ["DualAdapterClassifier"]

# Published: 64 without labels.
_CONTRASTIVE_ROWS = 64


class DualAdapterClassifier(DualAdapterBase, NetworkClassifier):
    """Two adapters on one frozen language model: MedualTime (IJCAI 2025).

    Each row has a signal and a text. The temporal-primary path runs the signal through the
    language model, with adaptation tokens ``P_l = Q_l + c`` in its top layers that carry the text;
    the textual-primary path runs the text, with tokens that carry the signal. In each adapted
    attention ``O' = O + tanh(g) * softmax(q P_l W_k) P_l W_v`` with the layer's own frozen
    projections and gates ``g`` per head that start at zero. The paths' read-outs are averaged and
    a linear head scores the classes.

    With fewer than 2,000 rows the defaults aren't the paper's: the signal enters as a frozen
    MiniRocket embedding, and the head starts as logistic regression on the frozen text. The
    method's page says why, and which settings are the published method.

    Parameters
    ----------
    backbone : str or path, default="minilm"
        Language model: a built-in name, a folder in the Hugging Face layout or a hub id; of the
        GPT-2, BERT, RoBERTa, DistilBERT, ELECTRA, Llama, Mistral or Qwen2 kind. Published: GPT-2.
    signal : "auto", str, list of str or None, default="auto"
        Column of signals (arrays ``(channels, time)``, WFDB records, ``.npy`` files), or the
        numeric columns that hold one flattened, or their prefix. "auto" finds it where there is
        one; None leaves signals out.
    text : "auto", str or None, default="auto"
        Column of texts.
    signal_shape : tuple of int or None, default=None
        Channels and samples of a flattened signal. Without it numeric columns are taken for an
        embedding of the signal that was made before.
    signal_encoder : {"auto", "cnn"} or SignalEncoder, default="auto"
        What reads the signal: "cnn" is the published patch embedding and residual CNN, trained
        here; an encoder gives one frozen token. "auto" is the former from 2,000 rows on, below it
        ``SignalEncoder(view="beats")``.
    secondary_text_encoder : TextEncoder or None, default=None
        Frozen encoder of the text that the temporal-primary path is given. Published:
        ClinicalBERT; None takes the backbone itself.
    fs : float or None, default=100.0
        Samples per second that signals are resampled to; None leaves them as they are.
    duration : float or None, default=None
        Seconds: longer signals keep their beginning, shorter ones are followed by zeros.
    mode : {"dual", "ts_primary", "text_primary"}, default="dual"
        Both paths, or one of them (the paper's ablations).
    combine : {"mean", "gate", "concat", "cross_attention", "symmetric"}, default="mean"
        How the read-outs become one: MedualTime's mean, a sigmoid gate per feature, end to end,
        after attention to the other modality's tokens, or one sequence of both modalities.
    adapter_layers : int or "auto", default="auto"
        Adapted top layers. "auto": the published 11 with patches, 2 with a frozen token.
    adapter_len : int, default=5
        Adaptation tokens per layer.
    patch_len : int, default=25
        Samples per patch.
    stride : int or None, default=None
        Samples between patches; None is `patch_len`.
    share_gates : bool, default=True
        One set of gates for both paths, as in the published code.
    gate_activation : {"tanh", "identity"}, default="tanh"
        On the gates.
    revin, secondary_revin : bool, default=True, False
        Whether each channel of a signal is normalised before patches are cut, and before the CNN.
    norm_secondary : bool, default=False
        Whether the text vector is layer-normalised; published: no.
    readout : {"auto", "last", "cls", "mean"}, default="auto"
        Which token states are read out: the last for causal models, else the mean.
    max_text_tokens : int, default=256
        Tokens of a text that are read at a time.
    long_text : {"cut", "chunks"}, default="cut"
        What becomes of a longer text, as `long` of :class:`TextEncoder`.
    probe : bool, default=True
        Start the head as logistic regression on the frozen texts, and the text path's layer norm
        so that it standardises them: linear probing before fine-tuning [2]_. Our addition.
    pretrain : {None, "contrastive"}, default=None
        Learn the adapters without labels or weights before, as :class:`DualAdapterEmbedder` does;
        not where `warm_start` goes on from a fit.
    pretrain_epochs : int, default=4
        Passes over the rows for that; published.
    aug_noise, temperature, contrastive_weight, contrastive_start : float
        Of that objective, as in :class:`DualAdapterEmbedder`; 0.5, 0.1, 0.1 and 0.1, published.
    path_weight : float, default=1.0
        Weight of each path's own cross-entropy. Published: 0; our decision, so that neither path
        leans on the other.
    alpha : float, default=10.0
        L2 penalty of the head, ``alpha / (2 n)`` times its squared norm.
    signal_alpha : float, default=200.0
        The same for the two maps of a frozen signal embedding.
    weight_decay : float, default=0.01
        Of AdamW.
    learning_rate : float, default=1e-3
        Of AdamW, lowered to zero by a cosine, or as `lr_gamma` says.
    lr_gamma : float or None, default=None
        Factor on the rate after each epoch; published: 0.5 for five classes, 0.85 for four.
    max_epochs : int or "auto", default="auto"
        Passes over the rows. "auto": the published 40 with patches, 10 with a frozen token, and
        at least 100 steps.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is 32, or all rows up to 64.
    early_stopping : bool or "auto", default="auto"
        Hold rows out and stop when their loss no longer falls; "auto" from 10,000 rows on.
    validation_fraction : float, default=0.1
        Held-out share for early stopping.
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs.
    class_weight, calibrate : optional
        As in :class:`SmallMultimodalClassifier`.
    warm_start : bool, default=False
        Start from the last fit's weights where the shapes agree.
    gradient_checkpointing : bool, default=False
        Compute the blocks' inner states twice instead of keeping them, for small memory.
    revision : str or None, default=None
        Branch, tag or commit of a hub model.
    allow_download : bool, default=False
        Whether a hub model may be fetched.
    dtype : {"auto", "float32", "float64", "bfloat16"}, default="auto"
        "auto" is float32, with frozen blocks in bfloat16 during training where the hardware has
        units for it; float64 for tables of numbers alone up to 50,000 values. What is trained, and
        predictions, are never in bfloat16.
    device : str, default="auto"
        "auto": CUDA if there is one, else CPU.
    cache : EmbeddingCache, path or None, default=None
        Where the frozen parts are kept: text vectors, token states below the first adapted layer,
        signal embeddings.
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
    signal_column_, text_column_ : object or None
        The columns that are read.
    signal_encoder_ : SignalEncoder or None
        The frozen encoder of the signals, where there is one.
    calibration_ : Calibration or None
        As of :class:`SmallMultimodalClassifier`.
    state_ : dict of str to ndarray
        Trained weights: the adapters alone, nothing of the language model.
    history_ : DataFrame
        One row per epoch, with the losses of the combined scores and of each path.
    n_iter_ : int
        Epochs run.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of str
        Their names, where X had any.

    References
    ----------
    .. [1] Ye, J. et al. "MedualTime: A Dual-Adapter Language Model for Medical Time Series-Text
       Multimodal Learning". IJCAI 2025, arXiv 2406.06620.
    .. [2] Kumar, A. et al. "Fine-Tuning can Distort Pretrained Features and Underperform
       Out-of-Distribution". ICLR 2022.

    Examples
    --------
    >>> from medfusion_sdk import DualAdapterClassifier
    >>> from medfusion_sdk.datasets import load_ptbxl
    >>> X, y = load_ptbxl(return_X_y=True)
    >>> X, y = X[["ecg", "report"]].head(40), y["NORM"].head(40)
    >>> model = DualAdapterClassifier(backbone="standin-text", max_epochs=2, random_state=0)
    >>> model.fit(X, y).predict_proba(X).shape
    (40, 2)
    """

    def __init__(
        self,
        backbone: str | PathLike[str] = "minilm",
        *,
        signal: Any = "auto",
        text: str | None = "auto",
        signal_shape: tuple[int, int] | None = None,
        signal_encoder: str | SignalEncoder = "auto",
        secondary_text_encoder: TextEncoder | None = None,
        fs: float | None = 100.0,
        duration: float | None = None,
        mode: str = "dual",
        combine: str = "mean",
        adapter_layers: int | str = "auto",
        adapter_len: int = 5,
        patch_len: int = 25,
        stride: int | None = None,
        share_gates: bool = True,
        gate_activation: str = "tanh",
        revin: bool = True,
        secondary_revin: bool = False,
        norm_secondary: bool = False,
        readout: str = "auto",
        max_text_tokens: int = 256,
        long_text: str = "cut",
        probe: bool = True,
        pretrain: str | None = None,
        pretrain_epochs: int = 4,
        aug_noise: float = 0.5,
        temperature: float = 0.1,
        contrastive_weight: float = 0.1,
        contrastive_start: float = 0.1,
        path_weight: float = 1.0,
        alpha: float = 10.0,
        signal_alpha: float = 200.0,
        weight_decay: float = 0.01,
        learning_rate: float = 1e-3,
        lr_gamma: float | None = None,
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
        calibrate: bool = True,
        warm_start: bool = False,
        gradient_checkpointing: bool = False,
        revision: str | None = None,
        allow_download: bool = False,
        dtype: str = "auto",
        device: str = "auto",
        cache: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.signal = signal
        self.text = text
        self.signal_shape = signal_shape
        self.signal_encoder = signal_encoder
        self.secondary_text_encoder = secondary_text_encoder
        self.fs = fs
        self.duration = duration
        self.mode = mode
        self.combine = combine
        self.adapter_layers = adapter_layers
        self.adapter_len = adapter_len
        self.patch_len = patch_len
        self.stride = stride
        self.share_gates = share_gates
        self.gate_activation = gate_activation
        self.revin = revin
        self.secondary_revin = secondary_revin
        self.norm_secondary = norm_secondary
        self.readout = readout
        self.max_text_tokens = max_text_tokens
        self.long_text = long_text
        self.probe = probe
        self.pretrain = pretrain
        self.pretrain_epochs = pretrain_epochs
        self.aug_noise = aug_noise
        self.temperature = temperature
        self.contrastive_weight = contrastive_weight
        self.contrastive_start = contrastive_start
        self.path_weight = path_weight
        self.alpha = alpha
        self.signal_alpha = signal_alpha
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.lr_gamma = lr_gamma
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.warm_start = warm_start
        self.gradient_checkpointing = gradient_checkpointing
        self.revision = revision
        self.allow_download = allow_download
        self.dtype = dtype
        self.device = device
        self.cache = cache
        self.random_state = random_state
        self.verbose = verbose

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **NetworkClassifier._allowed,
        **DualAdapterBase._allowed,
        "probe": FLAG,
        "pretrain": OneOf("contrastive") | NONE,
        "pretrain_epochs": Whole(least=1),
        "path_weight": Number(least=0),
        "alpha": Number(least=0),
        "signal_alpha": Number(least=0),
    }

    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        return self._check_table_and_targets(X, y)

    def _fit_table(self, table: TrainingTable) -> None:
        before = getattr(self, "state_", None) if self.warm_start else None
        network, data = self._prepare(table, before)
        if self.pretrain is not None and before is None:
            self._train(
                self._contrastive(network),
                table,
                data,
                max_epochs=self.pretrain_epochs,
                auto_rows=_CONTRASTIVE_ROWS,
            )
        self.architecture_ |= {
            "n_outputs": len(table.targets.classes),
            "multilabel": table.targets.multilabel,
        }
        data["target"] = self._target_tensor(table.targets, network.queries.dtype)
        total = table.weight[table.kept].sum()
        task = seeded_module(
            lambda: self._with_task(
                network,
                path_weight=self.path_weight,
                alpha=self.alpha / total,
                signal_alpha=self.signal_alpha / total,
            ),
            self._seed,
            network.queries.dtype,
        )
        reads_texts_alone = self.mode != "ts_primary" and self.combine != "symmetric"
        goes_on = resume(task, before)
        if self.probe and "tokens" in data and reads_texts_alone and not goes_on:
            start_head(task, self._in_full_precision(network), table, data, alpha=self.alpha)

        def finish(trained: SupervisedTask) -> SupervisedTask:
            self._widen(trained.network)
            return trained

        self._module = self._train(task, table, data, finish)
        self._keep_state()

    def _with_task(self, network: DualAdapterNetwork, **training: float) -> SupervisedTask:
        from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask

        built = self.architecture_
        task = SupervisedTask(
            network, built["n_outputs"], multilabel=built["multilabel"], **training
        )
        return task.to(network.queries.dtype)

    @property
    def _needs_signal(self) -> bool:
        return self.pretrain is not None

    def explain(self, X: Any, *, attribution: bool = True) -> pd.DataFrame:
        """Tell how far each prediction came from the signal, the text, and one through the other.

        Parameters
        ----------
        X : DataFrame or array
            Table with the columns of the fit.
        attribution : bool, default=True
            Also tell what parts of signal and text are worth, which takes most of the time: with
            a frozen encoder about a hundred embeddings per row.

        Returns
        -------
        DataFrame
            One line per row and quantity: ``row``, ``quantity``, ``path``, ``layer``, ``head``,
            ``modality``, ``position``, ``part``, ``label``, ``value``. Quantities are ``gate`` (per
            layer and head, the same for all rows, whose ``row`` is empty), ``probability``,
            ``probability_temporal`` and ``probability_textual`` (of the paths that the row has),
            ``share`` (per path and layer: norm of what the other modality added to the attention's
            own output), and ``attribution`` to the highest score, by ``modality``. Of the text: per
            token (``part``), gradient times the state that enters the first adapted layer, in which
            the layers below have mixed in its neighbours; the textual-primary path alone. Of the
            signal: per channel (``part``) and patch, gradient times input, or, where a frozen
            encoder reads it, the fall of the score when a tenth of the median beat in one channel,
            or a patch of a whole signal in all, is made a straight line; through both paths.
        """
        check_is_fitted(self, "state_")
        return explain_table(self, self._validate(X), row_labels(X), attribution=attribution)
