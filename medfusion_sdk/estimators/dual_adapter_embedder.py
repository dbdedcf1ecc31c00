"""DualAdapterEmbedder: MedualTime's representation, learnt without labels."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.estimators._dual_adapter import DualAdapterBase
from medfusion_sdk.estimators._network_estimator import UnlabelledTable
from medfusion_sdk.estimators._networks import resume
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.training import with_callbacks

if TYPE_CHECKING:
    from medfusion_sdk.nn.dual_adapter import DualAdapterNetwork
    from medfusion_sdk.nn.dual_adapter_tasks import ContrastiveTask

__all__ = ["DualAdapterEmbedder"]


class DualAdapterEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DualAdapterBase):
    """Embed a signal and a text together, by adapters that learnt without labels.

    The two paths of :class:`DualAdapterClassifier`, each followed by ``z <- Lz + LN(Lz)`` and
    scaled to length one. Each path learns to know a row by a noisy view of its signal among the
    other rows of a batch (InfoNCE), and from some epoch on by the other path's view of it. The
    embedding is the paths' mean; any classifier can follow.

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
    aug_noise : float, default=0.5
        Standard deviation of the noise on a signal's second view, in units of the signal's own.
        Published command: 0.5.
    temperature : float, default=0.1
        Of InfoNCE. Published.
    contrastive_weight : float, default=0.1
        Weight of the terms between the paths. Published command.
    contrastive_start : float, default=0.1
        Share of the epochs before they count. Published command.
    weight_decay : float, default=0.01
        Of AdamW.
    learning_rate : float, default=1e-3
        Of AdamW, lowered to zero by a cosine, or as `lr_gamma` says.
    lr_gamma : float or None, default=None
        Factor on the rate after each epoch; published: 0.5 for five classes, 0.85 for four.
    max_epochs : int or "auto", default=4
        Passes over the rows. Published command: 4.
    batch_size : int or "auto", default="auto"
        Rows per step, and so negatives per row; "auto" is the published 64.
    early_stopping : bool or "auto", default="auto"
        Hold rows out and stop when their loss no longer falls; "auto" from 10,000 rows on.
    validation_fraction : float, default=0.1
        Held-out share for early stopping.
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs.
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
    signal_column_, text_column_ : object or None
        The columns that are read.
    state_ : dict of str to ndarray
        Trained weights, nothing of the language model.
    history_ : DataFrame
        One row per epoch, with the losses of each path and between them.
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

    Examples
    --------
    >>> from medfusion_sdk import DualAdapterEmbedder
    >>> from medfusion_sdk.datasets import load_ptbxl
    >>> X = load_ptbxl().data[["ecg", "report"]].head(20)
    >>> embedder = DualAdapterEmbedder(backbone="standin-text", max_epochs=1, random_state=0)
    >>> embedder.fit_transform(X).shape
    (20, 64)
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
        aug_noise: float = 0.5,
        temperature: float = 0.1,
        contrastive_weight: float = 0.1,
        contrastive_start: float = 0.1,
        weight_decay: float = 0.01,
        learning_rate: float = 1e-3,
        lr_gamma: float | None = None,
        max_epochs: int | str = 4,
        batch_size: int | str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
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
        self.aug_noise = aug_noise
        self.temperature = temperature
        self.contrastive_weight = contrastive_weight
        self.contrastive_start = contrastive_start
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.lr_gamma = lr_gamma
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.gradient_checkpointing = gradient_checkpointing
        self.revision = revision
        self.allow_download = allow_download
        self.dtype = dtype
        self.device = device
        self.cache = cache
        self.random_state = random_state
        self.verbose = verbose

    _batch_rows = 64
    _needs_signal = True

    @with_callbacks
    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Learn from the rows alone.

        Parameters
        ----------
        X : DataFrame or array
            Cohort table with a signal and a text column, or numbers.
        y : object, optional
            Ignored.
        groups : array-like of shape (n_samples,), optional
            Patient of each row, of any hashable type: early stopping holds out whole patients. By
            default rows that hold the same belong together, and windows or prefixes of one stay,
            by their index.

        Returns
        -------
        self
            The fitted embedder.

        Raises
        ------
        DataError
            If groups don't fit the rows.
        ModalityError
            If the columns aren't found, or a row has neither modality.
        ParameterError
            For a parameter that has a value it can't have.
        TrainingError
            If the loss stops being finite.
        """
        check_aligned(X=X, y=y, groups=groups)
        self._check_parameters()
        X = self._check_table(X, reset=True)
        self._module = None
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        together = self._row_groups(X, groups, row_labels(X), np.ones(len(X), dtype=bool))
        table = UnlabelledTable(X, held=self._held_out(together))
        before = getattr(self, "state_", None) if self.warm_start else None
        network, data = self._prepare(table, before)
        task = self._contrastive(network)
        resume(task, before)

        def finish(trained: ContrastiveTask) -> ContrastiveTask:
            self._widen(trained.network)
            return trained

        self._module = self._train(task, table, data, finish)
        self._keep_state()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed rows.

        Parameters
        ----------
        X : DataFrame or array
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_dims)
            One vector per row.
        """
        return self._predict(X)["embedding"]

    def _with_task(self, network: DualAdapterNetwork) -> ContrastiveTask:
        return self._contrastive(network)
