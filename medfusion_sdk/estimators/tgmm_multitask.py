"""TGMMMultiTask: one fused representation for a diagnosis and a prognosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.metrics import accuracy_score

from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.estimators._tgmm_targets import TaskTargets
from medfusion_sdk.estimators._tgmm_two_tasks import TGMMTwoTasks
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.survival import concordance

__all__ = ["TGMMMultiTask"]


class TGMMMultiTask(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TGMMTwoTasks):
    """Diagnosis and prognosis from one fused representation (TGMM, 2025) on a block table.

    As :class:`TGMMClassifier` and :class:`TGMMSurvival`, with one fusion that learns from both:
    each task has prompts and a head of its own, and the losses are summed. A patient counts for
    the tasks whose labels are known; so cohorts in which few were followed up, or few were
    diagnosed, can be learnt from together.

    Parameters
    ----------
    modalities : "auto" or mapping, default="auto"
        How columns group into modalities; "auto" groups by the text before the first ``__``.
        Their order is of no matter.
    tasks : "auto" or list of {"diagnosis", "prognosis"}, default="auto"
        What to learn; "auto" is all that y has columns for.
    event, time : str, default="event" and "time"
        Names of these columns of y. The one that remains is the diagnosis.
    task_weights : mapping of str to float or None, default=None
        What the loss of a task counts; 1 where nothing else is said. Our decision.
    token_shapes, encoders, encoder_tuning, encoder_learning_rate : optional
        As in :class:`TGMMClassifier`. What an encoder that learns makes isn't clipped.
    d_model, n_heads, fusion, gate : optional
        As in :class:`TGMMClassifier`.
    guidance, guidance_at, n_learned_tokens : optional
        As in :class:`TGMMClassifier`.
    prompts : str, mapping of task to str, or None, default=None
        What is asked, for ``guidance`` "both" or "fixed"; of each task, or the same of all.
    prompt_encoder : str or path, default="minilm"
        As in :class:`TGMMClassifier`.
    prognosis_loss, ties, margin : optional
        As in :class:`TGMMSurvival`.
    expert : bool or "auto", default="auto"
        Whether trees or ridge logistic models stand beside the diagnosis as in
        :class:`TGMMClassifier`, and ridge Cox models beside the prognosis as in
        :class:`TGMMSurvival`; "auto" decides for each.
    dropout, modality_dropout, alpha, scaling, clip : optional
        As in :class:`TGMMClassifier`.
    learning_rate, max_epochs, batch_size : optional
        As in :class:`TGMMClassifier`.
    early_stopping, validation_fraction, n_iter_no_change : optional
        As in :class:`TGMMClassifier`.
    warm_start, dtype, device, random_state, verbose : optional
        As in :class:`TGMMClassifier`.

    Attributes
    ----------
    tasks_ : list of str
        What was learnt.
    classes_ : ndarray
        Of the diagnosis.
    diagnosis_ : object
        Name of the column of diagnoses.
    modalities_ : list of str
        Names of the modalities, sorted.
    expert_ : Expert or None
        Trees beside the diagnosis.
    ridge_expert_ : RidgeExpert or None
        Ridge logistic models beside the diagnosis.
    cox_expert_ : CoxExpert or None
        Ridge Cox models beside the prognosis.
    baseline_ : BaselineHazard
        Of the prognosis.
    prompts_ : dict of str to str
        The sentence of each task; empty where no fixed tokens are.
    state_ : dict of str to ndarray
        Trained weights and the prompts' embeddings.
    history_ : DataFrame
        One row per epoch, with each task's loss.
    n_iter_ : int
        Epochs run.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of str
        Their names, where X had any.

    See Also
    --------
    TGMMClassifier : Diagnosis alone.
    TGMMSurvival : Prognosis alone.

    References
    ----------
    .. [1] "A language-signal-vision multimodal framework for multitask cardiac analysis".
       arXiv 2508.13072 (2025).

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from medfusion_sdk import TGMMMultiTask
    >>> from medfusion_sdk.datasets import make_multimodal_cohort
    >>> cohort = make_multimodal_cohort(120, random_state=0)
    >>> rng = np.random.default_rng(0)
    >>> y = pd.DataFrame({"hf": cohort.target.astype(float), "event": 1.0})
    >>> y["time"] = rng.exponential(10 - 8 * cohort.target)
    >>> y.loc[:39, "hf"] = np.nan
    >>> y.loc[80:, ["event", "time"]] = np.nan
    >>> model = TGMMMultiTask(max_epochs=20, random_state=0).fit(cohort.data, y)
    >>> model.predict(cohort.data).columns.to_list()
    ['hf', 'log_risk']
    """

    def __init__(
        self,
        modalities: str | Mapping[str, Any] = "auto",
        *,
        tasks: str | Sequence[str] = "auto",
        event: str = "event",
        time: str = "time",
        task_weights: Mapping[str, float] | None = None,
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
        prognosis_loss: str = "cox",
        ties: str = "breslow",
        margin: float = 1.0,
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
        warm_start: bool = False,
        dtype: str = "auto",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.modalities = modalities
        self.tasks = tasks
        self.event = event
        self.time = time
        self.task_weights = task_weights
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

    def predict(self, X: Any) -> pd.DataFrame:
        """Answer every task.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        DataFrame of n_samples rows
            The most probable class in a column that is called as in y, and ``log_risk``.
        """
        out = self._predict(X)
        answers = {}
        if "diagnosis" in self.tasks_:
            answers[self.diagnosis_] = self.classes_[out["proba"].argmax(axis=1)]
        if "prognosis" in self.tasks_:
            answers["log_risk"] = out["risk"].astype(np.float64)
        return pd.DataFrame(answers, index=row_labels(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the diagnosis.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns follow ``classes_``.

        Raises
        ------
        DataError
            If no diagnosis was learnt.
        """
        self._require("diagnosis")
        return self._predict(X)["proba"].astype(np.float64)

    def predict_risk(self, X: Any) -> np.ndarray:
        """Log-risks.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples,)
            The higher, the earlier the event is expected.

        Raises
        ------
        DataError
            If no prognosis was learnt.
        """
        return self._risk(X)

    def transform(self, X: Any) -> np.ndarray:
        """Representation that each task's head reads, one after the other.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_tasks * d_model)
            One vector per row.
        """
        return self._predict(X)["embedding"]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean of the tasks' scores over the rows with a label.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.
        y : DataFrame of n_samples rows, or array-like of shape (n_samples,)
            As in :meth:`fit`.
        sample_weight : array-like of shape (n_samples,), optional
            Of the rows, for the accuracy.

        Returns
        -------
        float
            Accuracy of the diagnosis, Harrell's concordance index of the prognosis.
        """
        targets, out = TaskTargets.of(y, self.event, self.time), self._predict(X)
        scores = []
        if "diagnosis" in self.tasks_ and targets.classes is not None:
            known = targets.codes >= 0
            truth = targets.classes[targets.codes[known]]
            called = self.classes_[out["proba"][known].argmax(axis=1)]
            weight = None if sample_weight is None else np.asarray(sample_weight)[known]
            scores.append(accuracy_score(truth, called, sample_weight=weight))
        if "prognosis" in self.tasks_ and targets.times is not None:
            followed = targets.followed
            scores.append(concordance(targets.times.take(followed), out["risk"][followed]))
        if not scores:
            raise DataError(f"y has no label of {self.tasks_}.")
        return float(np.mean(scores))
