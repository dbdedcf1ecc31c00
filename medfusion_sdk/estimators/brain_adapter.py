"""BrainAdapterClassifier: Brain-Adapter on one column of volumes and one of reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk._parameters import Allowed
from medfusion_sdk.encoders.image import ImageEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.estimators._aligned_space import AlignedSpace
from medfusion_sdk.estimators._brain_adapter import BrainAdapterBase
from medfusion_sdk.estimators._brain_explanations import (
    brain_explanation,
    seen_volumes,
    volume_maps,
)
from medfusion_sdk.estimators._calibration import Calibration
from medfusion_sdk.estimators._classifier import NetworkClassifier
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._networks import resume, seeded_module
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.readers.volume import ORIENTATION

if TYPE_CHECKING:
    from medfusion_sdk.nn.brain_adapter_task import BrainAdapterTask

__all__ = ["BrainAdapterClassifier"]


class BrainAdapterClassifier(AlignedSpace, BrainAdapterBase, NetworkClassifier):
    """An adapter before a frozen 3-D encoder, aligned with reports: Brain-Adapter (ISBI 2025).

    A small trained adapter brings each volume to what a frozen vision transformer reads; a linear
    map projects the encoder's read-out, another one the frozen text encoder's vector of the report,
    into one space. There a contrastive loss pulls a row's two vectors together, and a linear head
    scores the classes from both. Encoders stay as they were published.

    The default `vision_encoder` is a tiny random stand-in, for tests and first steps; a process's
    first fit on it warns. For results name M3D-CLIP's folder.

    Parameters
    ----------
    vision_encoder : str, path or ImageEncoder, default="standin-vit3d"
        Frozen network: the stand-in, or M3D-CLIP as a folder, a file or a hub id; see
        :class:`VolumeEncoder`. An :class:`ImageEncoder` with `slices` set stands for its model on
        so many axial slices of what the adapter makes (2.5-D), for scans of few thick slices; of
        its other parameters `pooling`, `slice_pooling`, `revision` and `allow_download` count.
    text_encoder : str, path or TextEncoder, default="minilm"
        Frozen network of the reports: any Hugging Face encoder or decoder. Published: LLaMA2-7B,
        pooled over its tokens. M3D-CLIP's folder means its own language tower.
    volume : "auto", str, list of str or None, default="auto"
        Column of volumes (NIfTI or ``.npy`` files, arrays), or the numeric columns that hold one
        flattened, or their prefix. "auto" finds it where there is one; None leaves volumes out.
    report : "auto", str, list of str or None, default="auto"
        Column of texts, or the numeric columns that hold vectors of reports that a text encoder
        made before, or their prefix.
    subject : str or None, default=None
        Column that names the person; rows of one person aren't contrasted with each other, and are
        the `groups` of a fit that is given none.
    volume_shape : three ints or None, default=None
        Depth, height and width of a flattened volume. Numbers alone without it are vectors of
        reports.
    volume_size : three ints or None, default=None
        What volumes are resampled to before the adapter. By default all must have the first one's
        size; published: (256, 256, 256).
    target_size : three ints or None, default=None
        What the adapter brings them to; by default the encoder's own size, (32, 256, 256) for
        M3D-CLIP. Published: (64, 256, 256), for which positions are interpolated. For an
        ImageEncoder its number of slices, of the size that its model reads.
    spacing, orientation, max_nan : optional
        How volumes are read, as in :class:`VolumeEncoder`.
    inputs : {"both", "image", "text"}, default="both"
        Both modalities, or one of them whatever the table has.
    train_mode : {"tlp", "fpm", "full"}, default="tlp"
        "tlp" trains adapter, projections and head, "fpm" leaves the projections as they were drawn
        (the paper's two modes), "full" trains the vision encoder too, the costly baseline.
    adapter : {"conv3d", "slice2d", "none"}, default="conv3d"
        Convolutions over the volume, a bottleneck with slices as channels, or pooling alone.
    adapter_channels : int, default=8
        Of ``conv3d``.
    image_pool : {"cls", "mean"}, default="cls"
        The class token's state, or the mean of the patches'; an ImageEncoder has its own `pooling`.
    text_pool : {"auto", "mean", "cls", "last"}, default="auto"
        Which token states of a report count; "auto" is the mean, or the first where the model was
        published so.
    proj_dim : int or None, default=None
        Entries of the common space. None: 512, or, where both encoders are M3D-CLIP's, its own
        projections to start from.
    standardize : bool, default=True
        Whether both encoders' vectors are standardised over the training rows before they are
        projected (not before M3D-CLIP's own projections). Our addition.
    contrastive : {"clip", "decoupled"}, default="clip"
        Whether a pair stands in the denominator of its own contrastive loss.
    contrastive_weight : float, default=0.1
        Weight of that loss beside the cross-entropy; 0 leaves it out. The paper doesn't state
        one; 1 scored lower with few rows, where reports repeat and a batch has few strangers.
    temperature : float, default=0.07
        Of that loss, at the start.
    learnable_temperature : bool, default=True
        Whether it is trained.
    weight_decay : float, default=0.01
        Of AdamW.
    learning_rate : float or "auto", default="auto"
        Of AdamW, lowered to zero by a cosine. "auto": 1e-3, and 1e-4 for ``train_mode="full"``.
    max_epochs : int or "auto", default="auto"
        Passes over the rows. "auto": ten, and at least 100 steps.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is 8 where volumes are read.
    early_stopping : bool or "auto", default="auto"
        Hold rows out and stop when their loss no longer falls; "auto" from 10,000 rows on.
    validation_fraction : float, default=0.1
        Held-out share for early stopping.
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn.
    calibrate : bool, default=True
        As in :class:`SmallMultimodalClassifier`.
    warm_start : bool, default=False
        Start from the last fit's weights where the shapes agree.
    gradient_checkpointing : bool, default=False
        Compute inner states of adapter and encoder twice instead of keeping them.
    on_error : {"raise", "missing"}, default="raise"
        Whether a cell that can't be used raises, or counts as missing and is listed in `errors_`.
    allow_download : bool, default=False
        Whether hub models may be fetched.
    dtype : {"auto", "float32", "float64", "bfloat16"}, default="auto"
        "auto" is float32, with the frozen encoder in bfloat16 during training where the hardware
        has units for it; float64 for tables of numbers alone up to 50,000 values. What is trained,
        and predictions, are never in bfloat16.
    device : str, default="auto"
        "auto": CUDA if there is one, else CPU.
    cache : EmbeddingCache, path or None, default=None
        Where volumes are kept as the adapter gets them, and reports' vectors. Columns of more than
        512 MB are read batch by batch in every epoch; from a cache that is quick.
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
    modalities_ : tuple of str
        Of "image" and "text", what is read.
    volume_column_, report_column_ : object or None
        The columns that are read.
    errors_ : DataFrame
        Cells of the fit that couldn't be used, with ``on_error="missing"``.
    calibration_ : Calibration or None
        As of :class:`SmallMultimodalClassifier`.
    state_ : dict of str to ndarray
        Trained weights, and the fixed projections of "fpm"; nothing of a frozen encoder.
    history_ : DataFrame
        One row per epoch, with both losses.
    n_iter_ : int
        Epochs run.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of str
        Their names, where X had any.

    References
    ----------
    .. [1] Zhang, J. et al. "Brain-Adapter: Enhancing Neurological Disorder Analysis with
       Adapter-Tuning Multimodal Large Language Models". ISBI 2025, arXiv 2501.16282.

    Examples
    --------
    >>> from medfusion_sdk import BrainAdapterClassifier
    >>> from medfusion_sdk.datasets import make_volume_cohort
    >>> cohort = make_volume_cohort(16, random_state=0)
    >>> model = BrainAdapterClassifier(text_encoder="standin-text", max_epochs=2, random_state=0)
    >>> model.fit(cohort.data[["mri", "report"]], cohort.target).predict_proba(
    ...     cohort.data[["mri", "report"]]
    ... ).shape
    (16, 2)
    """

    def __init__(
        self,
        vision_encoder: str | PathLike[str] | ImageEncoder = "standin-vit3d",
        *,
        text_encoder: str | PathLike[str] | TextEncoder = "minilm",
        volume: Any = "auto",
        report: Any = "auto",
        subject: str | None = None,
        volume_shape: Sequence[int] | None = None,
        volume_size: Sequence[int] | None = None,
        target_size: Sequence[int] | None = None,
        spacing: float | Sequence[float] | None = None,
        orientation: str | None = ORIENTATION,
        max_nan: float = 0.0,
        inputs: str = "both",
        train_mode: str = "tlp",
        adapter: str = "conv3d",
        adapter_channels: int = 8,
        image_pool: str = "cls",
        text_pool: str = "auto",
        proj_dim: int | None = None,
        standardize: bool = True,
        contrastive: str = "clip",
        contrastive_weight: float = 0.1,
        temperature: float = 0.07,
        learnable_temperature: bool = True,
        weight_decay: float = 0.01,
        learning_rate: float | str = "auto",
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
        calibrate: bool = True,
        warm_start: bool = False,
        gradient_checkpointing: bool = False,
        on_error: str = "raise",
        allow_download: bool = False,
        dtype: str = "auto",
        device: str = "auto",
        cache: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.vision_encoder = vision_encoder
        self.text_encoder = text_encoder
        self.volume = volume
        self.report = report
        self.subject = subject
        self.volume_shape = volume_shape
        self.volume_size = volume_size
        self.target_size = target_size
        self.spacing = spacing
        self.orientation = orientation
        self.max_nan = max_nan
        self.inputs = inputs
        self.train_mode = train_mode
        self.adapter = adapter
        self.adapter_channels = adapter_channels
        self.image_pool = image_pool
        self.text_pool = text_pool
        self.proj_dim = proj_dim
        self.standardize = standardize
        self.contrastive = contrastive
        self.contrastive_weight = contrastive_weight
        self.temperature = temperature
        self.learnable_temperature = learnable_temperature
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
        self.gradient_checkpointing = gradient_checkpointing
        self.on_error = on_error
        self.allow_download = allow_download
        self.dtype = dtype
        self.device = device
        self.cache = cache
        self.random_state = random_state
        self.verbose = verbose

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **NetworkClassifier._allowed,
        **BrainAdapterBase._allowed,
    }

    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        return self._check_table_and_targets(X, y)

    def _fit_table(self, table: TrainingTable) -> None:
        before = getattr(self, "state_", None) if self.warm_start else None
        network, data = self._prepare(table)
        self.architecture_ |= {
            "n_outputs": len(table.targets.classes),
            "multilabel": table.targets.multilabel,
        }
        dtype = network.reference.dtype
        data["target"] = self._target_tensor(table.targets, dtype)
        task: BrainAdapterTask = seeded_module(
            lambda: self._with_task(
                network,
                contrastive=self.contrastive,
                contrastive_weight=self.contrastive_weight,
            ),
            self._seed,
            dtype,
        )
        resume(task, before)
        self._module = self._train(task, table, data, lambda trained: trained)
        self._keep_state()

    # -- explanations -----------------------------------------------------------------------------

    def explain(self, X: Any) -> pd.DataFrame:
        """Tell what volume and report add to each class score.

        Parameters
        ----------
        X : DataFrame or array
            Table with the columns of the fit.

        Returns
        -------
        DataFrame
            One line per row and quantity: ``row``, ``quantity``, ``modality``, ``label``,
            ``value``. Quantities are ``probability`` (by label); ``contribution`` (by label, for
            "image", "text" and "bias"), which sum to the class score exactly, since the head is
            linear; and ``similarity``, the cosine of a row's volume and report.
        """
        return brain_explanation(
            row_labels(X), self.modalities_, list(self.label_names_), self._predict(X), self._bias()
        )

    def volume_maps(self, X: Any, *, kind: str = "gradient") -> np.ndarray:
        """Map onto each volume what the prediction came from.

        Parameters
        ----------
        X : DataFrame or array
            Table with the columns of the fit.
        kind : {"gradient", "occlusion", "attention", "adapter"}, default="gradient"
            ``gradient``: gradient of the highest class score times voxel, through adapter and
            encoder. ``occlusion``: by how much that score falls when a block, a quarter of each
            axis long, is set to zero. ``attention``: rollout of the encoder's attention back to its
            patches. ``adapter``: what the adapter adds to its pooling.

        Returns
        -------
        ndarray of shape (n_samples, D, H, W)
            At the size that volumes are brought to before the adapter; NaN for a row without one.

        Raises
        ------
        ModalityError
            If the model reads no volumes.
        ParameterError
            For another kind.
        """
        check_is_fitted(self, "state_")
        return volume_maps(self, X, kind)

    def seen_volumes(self, X: Any) -> np.ndarray:
        """Read volumes as the adapter gets them.

        Parameters
        ----------
        X : DataFrame or array
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples, D, H, W), float32
            From 0 to 1; NaN for a row without a volume.

        Raises
        ------
        ModalityError
            If the model reads no volumes.
        """
        check_is_fitted(self, "state_")
        return seen_volumes(self, X)

    def _bias(self) -> np.ndarray:
        bias = np.asarray(self.state_["head.bias"], dtype=np.float64)
        return bias if self.calibration_ is None else self.calibration_(bias)

    def _calibrated(
        self, out: dict[str, np.ndarray], calibration: Calibration
    ) -> dict[str, np.ndarray]:
        added = calibration.scale(out["contributions"])
        return super()._calibrated(out, calibration) | {"contributions": added}
