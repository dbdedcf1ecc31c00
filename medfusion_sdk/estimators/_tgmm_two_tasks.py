"""One fit for a diagnosis and a prognosis, each learnt from the rows with its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import Tags, check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk._parameters import NONE, Allowed, InstanceOf, ListOf, MappingTo, Number, OneOf
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.estimators._survivor import SurvivalCurves
from medfusion_sdk.estimators._targets import row_weights, warn_of_lost_classes
from medfusion_sdk.estimators._tgmm_diagnosis import TGMMDiagnosis
from medfusion_sdk.estimators._tgmm_explanations import TaskOutput
from medfusion_sdk.estimators._tgmm_prognosis import TGMMPrognosis
from medfusion_sdk.estimators._tgmm_targets import TaskTargets
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.survival import BaselineHazard
from medfusion_sdk.training import with_callbacks

__all__ = ["TGMMTwoTasks"]

_TASKS = ("diagnosis", "prognosis")


class TGMMTwoTasks(SurvivalCurves, TGMMDiagnosis, TGMMPrognosis):
    """Base of the estimator of both tasks."""

    tasks: str | Sequence[str]
    event: str
    time: str
    tasks_: list[str]
    classes_: np.ndarray
    diagnosis_: Any

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **TGMMDiagnosis._allowed,
        **TGMMPrognosis._allowed,
        "tasks": OneOf("auto") | ListOf(OneOf(*_TASKS)),
        "event": InstanceOf(str),
        "time": InstanceOf(str),
        "task_weights": MappingTo(Number(least=0), keys=_TASKS) | NONE,
    }

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit on a table.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Block table with columns ``modality__feature``: an all-NaN block is a missing
            modality, other NaN are imputed and flagged, and a bare array is one modality.
        y : DataFrame of n_samples rows, or array-like of shape (n_samples,)
            A column of diagnoses, columns of event and time, or all three; NaN where something
            is unknown. One dimension is a diagnosis alone.
        sample_weight : array-like of shape (n_samples,), optional
            Rows of weight zero are as good as removed.
        groups : array-like of shape (n_samples,), optional
            Patient of each row, of any hashable type. Whatever is learnt by leaving rows out keeps
            a patient's rows together. By default rows that hold the same belong together, and
            windows or prefixes of one stay, by their index.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        DataError
            If y's columns aren't those of the tasks, a task has no label, a row has an event
            without a time, or groups don't fit the rows.
        ModalityError
            If a row has no modality, or a modality no row.
        ParameterError
            For a parameter that has a value it can't have.
        TrainingError
            If the loss stops being finite.
        """
        check_aligned(X=X, y=y, sample_weight=sample_weight, groups=groups)
        self._check_parameters()
        if y is None:
            raise DataError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        raw_X, X = X, self._check_rows(X)
        check_consistent_length(X, y)
        weight = row_weights(X, np.zeros(len(X)), sample_weight, None)
        counted = weight > 0
        whole = TaskTargets.of(y, self.event, self.time)
        if whole.classes is not None:
            known = whole.codes >= 0
            warn_of_lost_classes(whole.classes[whole.codes[known]], counted[known])
        y = y[counted] if hasattr(y, "iloc") else np.asarray(y)[counted]
        targets = TaskTargets.of(y, self.event, self.time)
        self.tasks_ = self._choose_tasks(targets)
        self._module = None if not self.warm_start else getattr(self, "_module", None)
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        given = None if sample_weight is None else weight[counted]
        rows = row_labels(raw_X)
        together = self._row_groups(X, groups, rows, counted)
        held = self._held_out(together, targets.strata)
        parts = X[counted], targets, weight[counted], rows[counted], together, given, held
        self._fit_table(TrainingTable(*parts))
        return self

    def _choose_tasks(self, targets: TaskTargets) -> list[str]:
        wanted = targets.tasks if isinstance(self.tasks, str) else list(self.tasks)
        without = [task for task in wanted if task not in targets.tasks]
        if without or not wanted:
            raise DataError(
                f"tasks={self.tasks!r}, but the columns {list(targets.original)} of y are labels "
                f"of {targets.tasks}."
            )
        return [task for task in _TASKS if task in wanted]

    def _fit_table(self, table: TrainingTable) -> None:
        table = self._read_table(table)
        targets = table.targets
        heads: dict[str, dict[str, Any]] = {}
        labels: dict[str, np.ndarray] = {}
        self.expert_ = self.ridge_expert_ = self.cox_expert_ = self._mixture = scores = None
        if "diagnosis" in self.tasks_:
            self.classes_, self.diagnosis_ = targets.classes, targets.name
            scores = self._fit_expert(table, targets.codes, "classes", targets.codes >= 0)
            heads["diagnosis"] = {"n_outputs": len(self.classes_)}
            labels["target"] = targets.codes
        if "prognosis" in self.tasks_:
            heads["prognosis"] = self._prognosis_head
            labels |= self._prognosis_labels(targets.times, targets.followed)
        self._learn(table, heads, labels)
        self._weigh_network(table, scores, "classes")
        if "prognosis" in self.tasks_:
            risk = self._fit_cox_expert(table, targets.times, targets.followed)
            rows = table.kept[targets.followed[table.kept]]
            times = targets.times.take(rows)
            self.baseline_ = BaselineHazard.fit(risk[rows], times, table.weight[rows])
        self._conclude(table)

    def _risk(self, X: Any) -> np.ndarray:
        self._require("prognosis")
        return super()._risk(X)

    def _require(self, task: str) -> None:
        check_is_fitted(self, "state_")
        if task not in self.tasks_:
            raise DataError(f"no {task} was learnt: this model was fitted for {self.tasks_}.")

    def _answers(self, out: Mapping[str, np.ndarray]) -> dict[str, TaskOutput]:
        answers = {}
        if "diagnosis" in self.tasks_:
            labels = list(self.classes_)
            answers["diagnosis"] = TaskOutput.of("probability", "proba", out, labels)
        if "prognosis" in self.tasks_:
            answers["prognosis"] = TaskOutput.of("log_risk", "risk", out, ["log_risk"])
        return answers

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
