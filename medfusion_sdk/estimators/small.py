"""SmallMultimodalClassifier: light encoders and one linear head, trained end to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from medfusion_sdk._parameters import Allowed, OneOf
from medfusion_sdk.estimators._calibration import Calibration
from medfusion_sdk.estimators._explanations import small_explanation
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._networks import RowSpans, resume, seeded_module
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.estimators._small_table import SmallTable

if TYPE_CHECKING:
    from torch import Tensor

    from medfusion_sdk.nn.small import SmallNetwork

__all__ = ["SmallMultimodalClassifier"]


class SmallMultimodalClassifier(SmallTable):
    """Small multimodal network on a block table or on raw columns, after MultimodalPred.

    A light encoder embeds each modality and a linear head reads the fused embedding. A block of
    numbers has one hidden layer, ``e_m = relu(W_m x_m + b_m)``. Raw columns of a cohort table have
    encoders that are trained from scratch: a bidirectional LSTM for series and signals, hashed
    words and an LSTM for text, each with the largest value over time; small residual networks for
    images and volumes. It is the small path of :class:`AdaCoMedClassifier`, and on blocks a strong
    baseline by itself on a few hundred patients.

    Parameters
    ----------
    modalities : "auto" or mapping, default="auto"
        How columns group into modalities; "auto" groups numeric columns by the text before the
        first ``__``, and each raw column is a modality. A mapping gives a raw column's name.
    fusion : {"joint", "early", "late"}, default="joint"
        ``joint`` concatenates the embeddings, ``late`` averages the present modalities' scores,
        ``early`` stacks two linear maps on embeddings that were trained one modality at a time.
        The published default is joint.
    embed_size : int, default=128
        Width of each modality's embedding, even where there are series. Published: 512, for 10^4
        to 10^5 admissions; our decision for cohorts of hundreds.
    alpha : float, default=0.3
        L2 penalty as in MLPClassifier: ``alpha / (2 n)`` times the squared norm of the weights.
        Blocks are scaled to rows of norm one, so that it means the same for each. Our decision,
        by cross-validation on the bundled PTB-XL records.
    dropout : float, default=0.0
        On the embeddings.
    modality_dropout : float, default=0.0
        Probability that a training step goes without a modality, to train for absence; it costs
        a little where nothing is missing. Without it a modality that no training row lacked
        counts as its mean embedding where it is missing later.
    scaling : {"auto", "feature", "block", "none"} or mapping, default="auto"
        How columns are scaled, per modality if a mapping: by each column's own spread, or keeping
        relative spreads. "auto" takes the first for measurements: blocks of up to 32 columns, and
        wider ones with columns of very different spread.
    column_kinds : mapping of column to str, or None, default=None
        What raw columns hold, where that isn't clear: "series", "image", "volume", "text", "table"
        (numbers) or "ignore". By default arrays (channels, time) and paths of ``.hea`` are series,
        eight-bit arrays (H, W, 3), ``.png`` and ``.jpg`` images, other arrays of three axes and
        ``.nii`` volumes, strings of several words text.
    series_steps : int, default=256
        Most steps of a training series; longer ones are averaged over equal spans. Our decision,
        by cross-validation on PTB-XL, where half as many lost AUROC.
    learning_rate : float or "auto", default="auto"
        Of Adam, lowered to zero by a cosine. "auto": 0.01 for blocks, 0.003 with raw columns.
        Published: 0.0001.
    max_epochs : int or "auto", default="auto"
        Passes over the rows. "auto": 100 for blocks; with raw columns about 500 steps of 32 rows,
        between 5 and 30 epochs. Published: 30.
    batch_size : int or "auto", default="auto"
        "auto": for blocks all rows in one step up to 4,096 rows, else 256; with raw columns 32,
        in shuffled mini-batches, in which a row of weight two is two rows on average.
        Published: 8.
    early_stopping : bool or "auto", default="auto"
        Hold rows out and stop when their loss no longer falls; "auto" from 10,000 rows on.
    validation_fraction : float, default=0.1
        Held-out share for early stopping.
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn.
    calibrate : bool, default=True
        Learn from rows left out how far class scores can be believed, by three further fits, each
        without a third of the rows. Ours; False leaves the scores as the network gives them.
    warm_start : bool, default=False
        Start from the last fit's weights where the shapes agree.
    dtype : {"auto", "float32", "float64"}, default="auto"
        "auto" computes block tables of up to 50,000 values in float64, all else in float32.
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
    calibration_ : Calibration or None
        What class scores are divided by, its ``temperature``, and what is added then, its
        ``shift``. None with ``calibrate=False``, where a class is in fewer than three rows
        or groups, or where `warm_start` went on from an earlier fit.
    state_ : dict of str to ndarray
        Trained weights.
    history_ : DataFrame
        One row per epoch.
    n_iter_ : int
        Epochs run.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of str
        Their names, where X had any.

    Notes
    -----
    A missing cell, a block of NaN and a series in which nothing was observed are a missing
    modality: a zero embedding, for which a joint or early head has a learnt vector. Series are
    standardised by what was observed in training; gaps repeat the last value (before the first:
    the mean) beside a channel of marks, if training had gaps. Signals should have one sampling
    rate. Words are numbered by a hash up to 4,096, the first 256 of a text are read; images are
    brought to 64 by 64 pixels and volumes to 32 by 32 by 32 voxels, whatever their proportions.

    References
    ----------
    .. [1] Wang, Y. et al. "Multimodal risk prediction with physiological signals, medical images
       and clinical notes". Heliyon 10(5), e26772 (2024).

    Examples
    --------
    >>> from medfusion_sdk import SmallMultimodalClassifier
    >>> from medfusion_sdk.datasets import make_multimodal_cohort
    >>> cohort = make_multimodal_cohort(200, random_state=0)
    >>> model = SmallMultimodalClassifier(random_state=0).fit(cohort.data, cohort.target)
    >>> model.predict_proba(cohort.data).shape
    (200, 2)
    """

    def __init__(
        self,
        modalities: str | Mapping[str, Any] = "auto",
        *,
        fusion: str = "joint",
        embed_size: int = 128,
        alpha: float = 0.3,
        dropout: float = 0.0,
        modality_dropout: float = 0.0,
        scaling: str | Mapping[str, str] = "auto",
        column_kinds: Mapping[Any, str] | None = None,
        series_steps: int = 256,
        learning_rate: float | str = "auto",
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
        self.fusion = fusion
        self.embed_size = embed_size
        self.alpha = alpha
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.scaling = scaling
        self.column_kinds = column_kinds
        self.series_steps = series_steps
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
        **SmallTable._allowed,
        "fusion": OneOf("joint", "early", "late"),
    }

    def _fit_table(self, table: TrainingTable) -> None:
        import torch

        from medfusion_sdk.training import module_to_state

        kinds, dims = self._learn_table(table)
        x, present, raw = self._read(table.X, table.rows)
        dtype = torch.float32
        if not raw or self.dtype != "auto":
            dtype = self._torch_dtype(x.size)
        self.architecture_ = {
            "dims": dims,
            "kinds": kinds,
            "n_outputs": len(table.targets.classes),
            "embed_size": self.embed_size,
            "embed_width": self.embed_size * len(dims),
            "fusion": self.fusion,
            "multilabel": table.targets.multilabel,
            "dtype": str(dtype).removeprefix("torch."),
        }
        before = self.state_ if self.warm_start and hasattr(self, "state_") else None
        network, inputs = self._start(table, x, present, dtype, before)
        data = self._tensors(inputs, present, raw, dtype)
        data["target"] = self._target_tensor(table.targets, dtype)
        kept = self._kept_part(table, data)
        if self.fusion == "early":
            self._train_modalities_first(network, table, data)

        def finish(trained: SmallNetwork) -> SmallNetwork:
            weight = torch.from_numpy(table.weight[table.kept]).to(dtype)
            trained.fill_absent(kept, weight, self._embedded(trained, kept) if raw else None)
            if self._spans is not None:
                layers = torch.nn.ModuleList(trained.encoders[m] for m in trained.encoders.blocks)
                trained.encoders.set_block_widths(self._spans.widen(layers))
            return trained.requires_grad_(True)

        self._module = self._train(network, table, data, finish)
        self.state_ = module_to_state(self._module)
        del self._spans

    def _start(
        self, table: TrainingTable, x: np.ndarray, present: np.ndarray, dtype: Any, before: Any
    ) -> tuple[SmallNetwork, np.ndarray]:
        """An untrained network with its inputs, in the span of the rows; or the last fit's."""
        regularisation: dict[str, Any] = {
            "dropout": self.dropout,
            "modality_dropout": self.modality_dropout,
            "alpha": self.alpha / table.kept_weight,
        }
        if before is not None:
            network = seeded_module(lambda: self._make(**regularisation), self._seed, dtype)
            if resume(network, before):
                self._spans = None
                return network, x
        dims = list(self.architecture_["dims"])
        blocks = [m for m, kind in enumerate(self.architecture_["kinds"]) if kind == "block"]
        self._spans = None
        if blocks:
            there, widths = present[:, blocks], [dims[m] for m in blocks]
            self._spans = RowSpans(x[table.kept], there[table.kept], widths)
        if self._spans is not None:
            x = self._spans.project(x)
            for m, width in zip(blocks, self._spans.dims, strict=True):
                dims[m] = width
        return seeded_module(lambda: self._make(dims, **regularisation), self._seed, dtype), x

    def _make(self, dims: list[int] | None = None, **regularisation: float) -> SmallNetwork:
        from medfusion_sdk.nn.small import SmallNetwork

        a = self.architecture_
        return SmallNetwork(
            dims or a["dims"],
            a["n_outputs"],
            a["embed_size"],
            a["fusion"],
            multilabel=a["multilabel"],
            kinds=a["kinds"],
            **regularisation,
        )

    def _build_network(self) -> SmallNetwork:
        import torch

        # No initial weights are drawn: the state is loaded right after.
        dtype = getattr(torch, self.architecture_["dtype"])
        with torch.device("meta"):
            network = self._make()
        return network.to_empty(device="cpu").to(dtype)

    def _train_modalities_first(
        self, network: SmallNetwork, table: TrainingTable, data: dict[str, Tensor]
    ) -> None:
        """Early fusion's first stage: each encoder on its own loss, then frozen."""
        network.fusion = "late"
        self._train(network, table, data)
        network.fusion = "early"
        network.encoders.requires_grad_(False)

    def _embedded(self, network: SmallNetwork, data: dict[str, Any]) -> Tensor:
        """Embed all training rows, a few at a time."""
        import torch

        from medfusion_sdk.training import predict_batches

        size = self._predict_rows if self.batch_size == "auto" else self.batch_size
        found = predict_batches(network.embed_modalities, data, batch_size=size, device=self.device)
        return torch.from_numpy(found).to(network.absent.device)

    def _calibrated(
        self, out: dict[str, np.ndarray], calibration: Calibration
    ) -> dict[str, np.ndarray]:
        added = calibration.scale(out["contributions"])
        added[:, -1] += calibration.shift  # the bias
        return super()._calibrated(out, calibration) | {"contributions": added}

    def explain(self, X: Any) -> pd.DataFrame:
        """Tell what each modality added to each class score.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Block table with the columns of the fit.

        Returns
        -------
        DataFrame
            One line per row, modality and class: ``row``, ``modality``, ``label`` and
            ``contribution`` in logits. Over the modalities and the line "bias" they sum to the
            class score exactly.
        """
        out = self._predict(X)
        return small_explanation(row_labels(X), self.modalities_, list(self.label_names_), out)
