"""AMFNRegressor: numbers and their uncertainty by adaptive multimodal fusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_X_y

from medfusion_sdk._parameters import Allowed, OneOf
from medfusion_sdk.estimators._amfn import AMFNBase
from medfusion_sdk.estimators._amfn_explanations import amfn_explanation
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._regressor import NetworkRegressor
from medfusion_sdk.estimators._rows import row_labels

if TYPE_CHECKING:
    from medfusion_sdk.nn.amfn_tasks import RegressionTask

__all__ = ["AMFNRegressor"]


class AMFNRegressor(AMFNBase, NetworkRegressor):
    """Adaptive multimodal fusion network for one number or several, with their uncertainty.

    The network is that of :class:`AMFNClassifier`; its head predicts a mean and a variance for
    each row. What is unsure has two parts: the variance that the networks predict (the data's),
    and how far they and their sub-networks differ (the model's).

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
        Whether there is an expert; "auto" from 500 rows on.
    ensemble_size : int, default=4
        Networks that are averaged, each from its own initial weights.
    task_loss : {"nll", "mse"}, default="nll"
        Means and variances by their likelihood, or means by their squared error and the
        variances beside them.
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
    target_mean_, target_scale_ : ndarray of shape (n_targets,)
        What the networks' targets are standardised by.
    target_names_ : ndarray
        Names of the targets.
    modalities_ : list of str
        Names of the modalities.
    encoders_ : list of str
        How each is read.
    expert_ : Expert or None
        The trees, as arrays.
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
    AMFNClassifier : The same for classes; its page tells how it works.

    References
    ----------
    .. [1] "Adaptive multimodal fusion network with dynamic cross-modal learning for biomedical
       time series". Frontiers in Physiology 16, 1605406 (2025).

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from medfusion_sdk import AMFNRegressor
    >>> rng = np.random.default_rng(0)
    >>> days = rng.normal(size=60)
    >>> vitals = [rng.normal(day, size=(2, 12)) for day in days]
    >>> X = pd.DataFrame({"vitals": vitals, "static__age": rng.normal(60, 9, size=60)})
    >>> model = AMFNRegressor(max_epochs=20, random_state=0).fit(X, days)
    >>> mean, std = model.predict(X, return_std=True)
    >>> mean.shape, bool((std > 0).all())
    ((60,), True)
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
        task_loss: str = "nll",
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
        self.warm_start = warm_start
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **NetworkRegressor._allowed,
        **AMFNBase._allowed,
        "task_loss": OneOf("nll", "mse"),
    }

    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        X = self._check_table(X, reset=True)
        # For y alone; the table has been checked.
        _, y = check_X_y(np.zeros((len(X), 1)), y, multi_output=True, y_numeric=True)
        return X, y

    def _fit_table(self, table: TrainingTable) -> None:
        import torch

        codes = table.targets.codes
        data = self._prepare(table, "numbers", codes)
        data["target"] = torch.from_numpy(codes).to(data["vector"].dtype)
        self.architecture_["squared"] = self.task_loss == "mse"
        self._learn(table, data, 2 * codes.shape[1])

    def _make_task(self) -> RegressionTask:
        from medfusion_sdk.nn.amfn_tasks import RegressionTask

        return RegressionTask(
            self._shape(), self._training(), squared=self.architecture_["squared"]
        )

    def predict(
        self, X: Any, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict the targets.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.
        return_std : bool, default=False
            Return the standard deviation too.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_targets)
            In the units of y.
        std : ndarray of the same shape
            With ``return_std``: of the row's predictive distribution, from both the data's and
            the model's variance.
        """
        out = self._predict(X)
        mean = self._restore(out["mean"])
        if not return_std:
            return mean
        return mean, self._spread(out["variance_data"] + out["variance_model"])

    def _spread(self, variance: np.ndarray) -> np.ndarray:
        """Standard deviations in the targets' own units and y's own shape."""
        spread = np.sqrt(variance.astype(np.float64)) * self.target_scale_
        return spread[:, 0] if self._flat else spread

    def explain(self, X: Any) -> pd.DataFrame:
        """Tell how each row's modalities were weighed, and how sure its prediction is.

        Parameters
        ----------
        X : DataFrame or array
            Table with the columns of the fit.

        Returns
        -------
        DataFrame
            As :meth:`AMFNClassifier.explain` has it, with ``mean``, ``std_data`` and ``std_model``
            per target instead of probabilities and entropies; these and ``contribution`` are in
            the units of y. Contributions sum to :meth:`predict`: of modalities through the
            networks, of the ``"expert"``, and the ``"bias"`` with the targets' mean.
        """
        out = self._predict(X)
        out["mean"] = out["mean"] * self.target_scale_ + self.target_mean_
        out["answer"] = out["mean"]
        for part in {"contribution", "expert"} & set(out):
            out[part] = out[part] * self.target_scale_
        for part in ("data", "model"):
            out[f"std_{part}"] = np.sqrt(out[f"variance_{part}"]) * self.target_scale_
        told = {name: name for name in ("mean", "std_data", "std_model")}
        return amfn_explanation(
            row_labels(X), self.modalities_, list(self.target_names_), out, told
        )
