"""AMFNClassifier: adaptive multimodal fusion of series, images and blocks of columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_X_y

from medfusion_sdk._parameters import Allowed, OneOf
from medfusion_sdk.estimators._amfn import AMFNBase
from medfusion_sdk.estimators._amfn_explanations import amfn_explanation
from medfusion_sdk.estimators._calibration import Calibration
from medfusion_sdk.estimators._classifier import NetworkClassifier
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._rows import row_labels

if TYPE_CHECKING:
    from medfusion_sdk.nn.amfn_tasks import ClassificationTask

__all__ = ["AMFNClassifier"]


class AMFNClassifier(AMFNBase, NetworkClassifier):
    """Adaptive multimodal fusion network with dynamic cross-modal learning (AMFN, 2025).

    Each modality, a group of channels over time, an image or a block of columns, is encoded to one
    vector. The vectors are normalised, gated by their importance, attend to each other, are
    refined by a graph convolution over their similarities, and are averaged with weights that
    depend on the row. A missing modality is masked in each of these steps.

    Two things are ours. Series are read twice: as a summary of each channel (level, spread,
    course, how often it was looked at), which carries most of what irregular clinical series say,
    and step by step where they are dense. And on 500 rows or more an expert stands beside the
    networks: trees on the same summaries, cross-fitted, to whose log-odds the networks add what
    the trees don't see; ``expert=False`` leaves it out.

    Parameters
    ----------
    modalities : "auto" or mapping, default="auto"
        "auto": each column of arrays is a modality, numeric columns group by the text before the
        first ``__``. A mapping names columns, prefixes or slices; others aren't used.
    encoder : {"auto", "gru", "tcn", "transformer", "mlp"} or mapping, default="auto"
        How series are read; "mlp" reads the summary alone. "auto": "gru" where nine tenths
        of a series or more were observed, else "mlp". A mapping says it per modality, and
        ``"cnn"`` there makes arrays (H, W) images; arrays (H, W, 3) always are.
    d_model : int, default=48
        Width of each modality's vector. Published: 128; narrower did as well on 3,200 stays.
    encoder_width : int, default=16
        Width of the state of a sequence encoder; a multiple of 4.
    summaries : bool, default=True
        Read the summaries of series besides the steps.
    n_heads : int, default=4
        Heads of the bilinear attention.
    n_gcn_layers : int, default=2
        Graph convolutions.
    adjacency : {"relu", "shifted", "softmax", "uniform", "identity"}, default="relu"
        How similarities become weights of edges; the published equation can divide by zero.
    gcn_residual : bool, default=True
        Whether a graph convolution adds to what it is given.
    norm : {"batch", "layer"} or None, default="batch"
        How encoded modalities are normalised: over the rows, or over their own features.
    use_gate, use_attention, use_gcn : bool, default=True
        Switches for ablations.
    alignment : {"cosine", "mse", "infonce"} or None, default="cosine"
        What brings a row's modalities closer together.
    lambda_align : float, default=0.1
        Weight of the alignment.
    lambda_rec : float, default=0.0
        Weight of reading each modality's vector back from its encoding.
    readout : {"fusion", "concat", "both"}, default="concat"
        What the head reads: the weighted average of the modalities (Eq. 16), all of them end to
        end (section 3.3.3), or both. The paper has the first two without saying when.
    image_head : {"pooled", "multiscale"}, default="pooled"
        Whether images are read at the last scale of their network or at all three.
    expert : bool or "auto", default="auto"
        Whether there is an expert; "auto" from 500 rows on, with 20 of each class.
    ensemble_size : int, default=4
        Networks that are averaged, each from its own initial weights.
    task_loss : {"ce", "focal"}, default="ce"
        Cross-entropy, or the focal loss.
    dropout : float, default=0.3
        Of features while training.
    modality_dropout : float, default=0.2
        Probability that a training step goes without a modality.
    mc_samples : int, default=0
        Passes of each network with dropout at work when predicting; 0 for one without.
    scaling : {"auto", "feature", "block", "none"} or mapping, default="auto"
        How blocks of columns are scaled; see :class:`SmallMultimodalClassifier`.
    weight_decay : float, default=0.01
        Of AdamW.
    learning_rate : float, default=0.001
        Lowered to zero by a cosine.
    max_epochs : int or "auto", default="auto"
        Passes over the rows; "auto": 10, and at least 250 steps.
    batch_size : int or "auto", default="auto"
        "auto": all rows in one step up to 64 rows, else 128.
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
        Names of the modalities.
    encoders_ : list of str
        How each is read.
    expert_ : Expert or None
        The trees, as arrays.
    calibration_ : Calibration or None
        As of :class:`SmallMultimodalClassifier`; None with an expert.
    state_ : dict of str to ndarray
        Trained weights of the networks.
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
    AMFNRegressor : The same for numbers.

    References
    ----------
    .. [1] "Adaptive multimodal fusion network with dynamic cross-modal learning for biomedical
       time series". Frontiers in Physiology 16, 1605406 (2025).

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from medfusion_sdk import AMFNClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(40) % 2
    >>> vitals = [rng.normal(label, size=(2, 24)) for label in y]
    >>> X = pd.DataFrame({"vitals": vitals, "static__age": rng.normal(60, 9, size=40)})
    >>> model = AMFNClassifier(max_epochs=20, random_state=0).fit(X, y)
    >>> model.modalities_, model.score(X, y) > 0.9
    (['vitals', 'static'], True)
    """

    task_loss: str

    def __init__(
        self,
        modalities: str | Mapping[str, Any] = "auto",
        *,
        encoder: str | Mapping[str, str] = "auto",
        d_model: int = 48,
        encoder_width: int = 16,
        summaries: bool = True,
        n_heads: int = 4,
        n_gcn_layers: int = 2,
        adjacency: str = "relu",
        gcn_residual: bool = True,
        norm: str | None = "batch",
        use_gate: bool = True,
        use_attention: bool = True,
        use_gcn: bool = True,
        alignment: str | None = "cosine",
        lambda_align: float = 0.1,
        lambda_rec: float = 0.0,
        readout: str = "concat",
        image_head: str = "pooled",
        expert: bool | str = "auto",
        ensemble_size: int = 4,
        task_loss: str = "ce",
        dropout: float = 0.3,
        modality_dropout: float = 0.2,
        mc_samples: int = 0,
        scaling: str | Mapping[str, str] = "auto",
        weight_decay: float = 0.01,
        learning_rate: float = 1e-3,
        max_epochs: int | str = "auto",
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
        self.encoder = encoder
        self.d_model = d_model
        self.encoder_width = encoder_width
        self.summaries = summaries
        self.n_heads = n_heads
        self.n_gcn_layers = n_gcn_layers
        self.adjacency = adjacency
        self.gcn_residual = gcn_residual
        self.norm = norm
        self.use_gate = use_gate
        self.use_attention = use_attention
        self.use_gcn = use_gcn
        self.alignment = alignment
        self.lambda_align = lambda_align
        self.lambda_rec = lambda_rec
        self.readout = readout
        self.image_head = image_head
        self.expert = expert
        self.ensemble_size = ensemble_size
        self.task_loss = task_loss
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.mc_samples = mc_samples
        self.scaling = scaling
        self.weight_decay = weight_decay
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
        **NetworkClassifier._allowed,
        **AMFNBase._allowed,
        "task_loss": OneOf("ce", "focal"),
    }

    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        X = self._check_table(X, reset=True)
        # For y alone; the table has been checked.
        _, y = check_X_y(np.zeros((len(X), 1)), y, multi_output=True)
        return X, y

    def _fit_table(self, table: TrainingTable) -> None:
        targets = table.targets
        kind = "labels" if targets.multilabel else "classes"
        data = self._prepare(table, kind, targets.codes)
        data["target"] = self._target_tensor(targets, data["vector"].dtype)
        self.architecture_ |= {
            "multilabel": targets.multilabel,
            "focal": self.task_loss == "focal",
        }
        self._learn(table, data, len(targets.classes))

    @property
    def _weighed_unseen(self) -> bool:
        return self.expert_ is not None

    def _calibrated(
        self, out: dict[str, np.ndarray], calibration: Calibration
    ) -> dict[str, np.ndarray]:
        import torch

        from medfusion_sdk.nn.amfn_tasks import averaged

        scores = calibration(out["scores"])
        told = averaged(torch.from_numpy(scores), self.multilabel_)
        parts = {
            "scores": scores,
            "network": calibration(out["network"]),
            "contribution": calibration.scale(out["contribution"]),
        }
        if "expert" in out:
            parts["expert"] = calibration.scale(out["expert"])
        return out | parts | {name: value.numpy() for name, value in told.items()}

    def _make_task(self) -> ClassificationTask:
        from medfusion_sdk.nn.amfn_tasks import ClassificationTask

        built = self.architecture_
        return ClassificationTask(
            self._shape(), self._training(), multilabel=built["multilabel"], focal=built["focal"]
        )

    def explain(self, X: Any) -> pd.DataFrame:
        """Tell how each row's modalities were weighed, and how sure its prediction is.

        Parameters
        ----------
        X : DataFrame or array
            Table with the columns of the fit.

        Returns
        -------
        DataFrame
            One line per row and quantity: ``row``, ``quantity``, ``modality``, ``source``,
            ``head``, ``label``, ``value``; averages over the networks. By modality: ``gate``,
            ``fusion`` (they sum to one; under ``readout="concat"`` the head doesn't read what they
            average, and they stay equal) and ``contribution``. Gates and fusion weights say what
            the network lets in, not what changes the answer. Contributions to a class sum to its
            logit: :meth:`decision_function`, for two classes the second's less the first's.
            A modality's is what it adds through the networks alone; that of the modality
            ``"expert"`` is all that the trees or the ridge model add, which read every column
            and often carry most of the answer: no modality's share of it is told. ``"bias"`` is
            the heads' (with what `mc_samples` drops) and ``"averaging"`` is what averaging
            probabilities instead of scores changes. By modality and source: ``graph`` and
            ``attention``, how much a modality takes. By class: ``probability``, ``expert`` and
            ``network`` (what each adds to its score). Of the row: ``entropy`` of the prediction in
            nats, ``entropy_data`` (what the networks expect to remain) and ``entropy_model`` (by
            which they disagree).
        """
        out = self._predict(X)
        out["answer"] = out["logits"]
        told = {name: name for name in ("entropy", "entropy_data", "entropy_model", "network")}
        told |= {"probability": "proba"} | ({"expert": "expert"} if "expert" in out else {})
        return amfn_explanation(row_labels(X), self.modalities_, list(self.label_names_), out, told)
