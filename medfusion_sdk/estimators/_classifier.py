"""What the classifiers share: one fit from table to state, predictions from scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk._parameters import FLAG, NONE, Allowed, InstanceOf, OneOf
from medfusion_sdk.estimators._calibration import Calibration, learn_calibration
from medfusion_sdk.estimators._network_estimator import (
    NetworkEstimator,
    TrainingTable,
    kept_rows,
)
from medfusion_sdk.estimators._networks import probabilities_of
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.estimators._targets import (
    Targets,
    balanced_weights,
    row_weights,
    warn_of_lost_classes,
)
from medfusion_sdk.training import with_callbacks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NetworkClassifier"]


class NetworkClassifier(
    ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, NetworkEstimator
):
    """Base of the classifiers.

    A subclass implements ``_validate_fit`` (checked X and y) and ``_fit_table`` (sets ``state_``
    and ``architecture_``), besides what :class:`NetworkEstimator` asks for.
    """

    class_weight: Any
    calibrate: bool
    calibration_: Calibration | None

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **NetworkEstimator._allowed,
        # A list has a dict for each label, as in scikit-learn.
        "class_weight": InstanceOf(dict, list) | OneOf("balanced") | NONE,
        "calibrate": FLAG,
    }

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit on a table.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            The table that the class reads. In a block table, with columns ``modality__feature``, an
            all-NaN block is a missing modality, other NaN are imputed and flagged, and a bare
            array is one modality.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Classes, or 0/1 labels.
        sample_weight : array-like of shape (n_samples,), optional
            Rows of weight zero are as good as removed.
        groups : array-like of shape (n_samples,), optional
            Patient of each row, of any hashable type. Whatever is learnt by leaving rows out keeps
            a patient's rows together. By default rows that hold the same belong together, and
            windows or prefixes of one stay, by their index.

        Returns
        -------
        self
            The fitted classifier.

        Raises
        ------
        DataError
            If groups don't fit the rows.
        ModalityError
            If a row has no modality, or a modality no row.
        ParameterError
            For a parameter that has a value it can't have.
        TrainingError
            If the loss stops being finite.
        """
        check_aligned(X=X, y=y, sample_weight=sample_weight, groups=groups)
        self._check_parameters()
        raw_X, raw_y = X, y
        X, y = self._validate_fit(X, y)
        weight = row_weights(X, y, sample_weight, self.class_weight)
        counted = weight > 0
        warn_of_lost_classes(y, counted)
        targets = Targets.encode(y[counted], raw_y)
        self.classes_ = targets.classes
        self.label_names_ = targets.names
        self.multilabel_ = targets.multilabel
        self._module = None if not self.warm_start else getattr(self, "_module", None)
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        given = None
        if sample_weight is not None:  # a single number is one weight for all
            given = np.broadcast_to(np.asarray(sample_weight, dtype=float), weight.shape)[counted]
        rows = row_labels(raw_X)
        together = self._row_groups(X, groups, rows, counted)
        held = self._held_out(together, targets.strata)
        own = weight[counted]
        if self.class_weight == "balanced":
            own = balanced_weights(targets.codes, own, kept_rows(len(own), held))
        parts = X[counted], targets, own, rows[counted], together, given, held
        self._fit_calibrated(TrainingTable(*parts))
        return self

    def _fit_calibrated(self, table: TrainingTable) -> None:
        """Fit the network, and learn from rows left out how far its scores can be believed."""
        # Weights that go on from an earlier fit may have seen any row.
        goes_on = self.warm_start and hasattr(self, "state_")
        self.calibration_ = None
        table = self._read_once(table)
        self._fit_table(table)
        if self.calibrate and not goes_on and not self._weighed_unseen:
            self.calibration_ = learn_calibration(self, table)
        self._conclude(table)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, or of each label.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns follow ``classes_``; rows sum to one unless y was multilabel.
        """
        return self._predict(X)["proba"].astype(np.float64)

    def decision_function(self, X: Any) -> np.ndarray:
        """Class scores before the softmax, or label scores before the sigmoid.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logits; for two classes the second's less the first's.
        """
        logits = self._predict(X)["logits"].astype(np.float64)
        if len(self.classes_) == 2 and not self.multilabel_:
            return logits[:, 1] - logits[:, 0]
        return logits

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class, or the labels of probability above one half.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Classes, or 0/1 labels.
        """
        proba = self.predict_proba(X)
        if self.multilabel_:
            return (proba > 0.5).astype(int)
        return self.classes_[proba.argmax(axis=1)]

    def transform(self, X: Any) -> np.ndarray:
        """Fused representation, which a linear head scores.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_dims)
            One vector per row.
        """
        return self._predict(X)["embedding"]

    # -- what subclasses implement ------------------------------------------------------------

    @abstractmethod
    def _validate_fit(self, X: Any, y: Any) -> tuple[Any, np.ndarray]: ...

    @abstractmethod
    def _fit_table(self, table: TrainingTable) -> None: ...

    def _read_once(self, table: TrainingTable) -> TrainingTable:
        """Do what needn't be done anew for each fold, such as to run frozen encoders."""
        return table

    @property
    def _weighed_unseen(self) -> bool:
        """Whether rows left out weigh the scores already, with an expert beside the network."""
        return False

    def _conclude(self, table: TrainingTable) -> None:
        """Look at the training rows through the finished model."""
        return

    def _calibrated(
        self, out: dict[str, np.ndarray], calibration: Calibration
    ) -> dict[str, np.ndarray]:
        """Calibrate outputs of the network; a subclass adds what else is in logits."""
        logits = calibration(out["logits"])
        return out | {"logits": logits, "proba": probabilities_of(logits, self.multilabel_)}

    # -- shared steps -------------------------------------------------------------------------

    def _outputs(self, X: Any, rows: pd.Index) -> dict[str, np.ndarray]:
        out = super()._outputs(X, rows)
        return out if self.calibration_ is None else self._calibrated(out, self.calibration_)

    def _target_tensor(self, targets: Targets, dtype: Any) -> Tensor:
        import torch

        codes = torch.from_numpy(targets.codes)
        return codes.to(dtype) if targets.multilabel else codes

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
