"""Calibration: how far class scores can be believed, learnt from rows left out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._content import content_codes
from medfusion_sdk.estimators._group_folds import group_folds
from medfusion_sdk.estimators._groups import LEAST_CONTENTS
from medfusion_sdk.estimators._rows import ReadRows
from medfusion_sdk.estimators._unseen import minimise
from medfusion_sdk.exceptions import MedFusionWarning, ModalityError

if TYPE_CHECKING:
    from torch import Tensor

    from medfusion_sdk.estimators._network_estimator import TrainingTable

__all__ = ["Calibration", "believed", "learn_calibration"]

# Of the bundled cohorts, two folds scattered more, five cost more and did no better.
_N_FOLDS = 3
# So many unseen groups of the rarest class, or answer to a label, tell a slope within a tenth:
# what is left over needn't be left out.
_ENOUGH = 200


@dataclass(frozen=True)
class Calibration:
    """What class scores are divided by, and what is added to the quotient.

    Attributes
    ----------
    temperature : ndarray of shape () or (n_labels,)
        Above one where the network is too sure of itself. One for all classes, or for all labels
        that are learnt about, and 1 for the others.
    shift : ndarray of shape (n_outputs,)
        In logits: of classes, around zero; or of labels.
    """

    temperature: np.ndarray
    shift: np.ndarray

    @classmethod
    def fit(
        cls, scores: np.ndarray, codes: np.ndarray, weight: np.ndarray, known: np.ndarray
    ) -> Self:
        """Learn from scores of rows that they were made without.

        The temperature T and the shifts b minimise the log loss of ``scores / T + b`` plus
        ``(ln T) ** 2 / 2``: a priori T lies within a factor of e, which keeps it finite where the
        scores tell nothing, or everything. Temperature scaling (Guo et al. 2017) with shifts
        (Alexandari et al. 2020); for two classes Platt's (1999). Labels share a temperature: on
        PTB-XL those of single labels differed by chance.

        Parameters
        ----------
        scores : ndarray of shape (n, S, n_outputs)
            Scores of S networks, whose probabilities are averaged.
        codes : ndarray of shape (n,) of int, or (n, n_labels)
            Classes or 0/1 labels.
        weight : ndarray of shape (n,)
            Of the rows.
        known : ndarray of shape (n_labels,), bool
            Labels to learn about; the scores of others stay as they are.

        Returns
        -------
        Calibration
            Ready to use.
        """
        if codes.ndim == 1:
            return cls(*_fit(scores, codes, weight))
        temperature, shift = np.ones(codes.shape[1]), np.zeros(codes.shape[1])
        temperature[known], shift[known] = _fit(scores[:, :, known], codes[:, known], weight)
        return cls(temperature, shift)

    def scale(self, scores: np.ndarray) -> np.ndarray:
        """Divide what sums to scores.

        Parameters
        ----------
        scores : ndarray of shape (..., n_outputs)
            In logits.

        Returns
        -------
        ndarray of the same shape
            As exact as it was.
        """
        return (scores / self.temperature).astype(scores.dtype)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Calibrate scores.

        Parameters
        ----------
        scores : ndarray of shape (..., n_outputs)
            Of a network.

        Returns
        -------
        ndarray of the same shape
            As exact as they were.
        """
        return (scores / self.temperature + self.shift).astype(scores.dtype)


def believed(scores: Tensor, calibration: Calibration | None) -> Tensor:
    """Calibrate scores (..., n_outputs) on the tape, where there is a calibration."""
    if calibration is None:
        return scores
    factor = scores.new_tensor(1 / calibration.temperature)
    return scores * factor + scores.new_tensor(calibration.shift)


def learn_calibration(estimator: Any, table: TrainingTable) -> Calibration | None:
    """Learn the calibration of a fitted classifier.

    Rows held out for early stopping serve where there are enough of them. Otherwise the rows are
    dealt to three folds, whole groups, and the estimator is fitted anew without each; the first
    folds alone where those are enough.

    Parameters
    ----------
    estimator : NetworkClassifier
        Fitted on the table; left as it is.
    table : TrainingTable
        All rows.

    Returns
    -------
    Calibration or None
        None where fewer than two classes, or no label's both answers, are in each fold, or where
        fewer than twenty rows differ.
    """
    if content_codes(table.X).max() + 1 < LEAST_CONTENTS:
        return None
    codes, held = table.targets.codes, table.held
    groups = _in_order(table)
    fold = group_folds(groups, codes, table.weight, n_folds=_N_FOLDS, seed=estimator._seed)
    counted = np.array([len(np.unique(fold[rows])) == _N_FOLDS for rows in _answers(codes)])
    known = wanted = counted
    if codes.ndim == 2:
        known = np.array([no and yes for no, yes in counted.reshape(-1, 2)])
        wanted = np.repeat(known, 2)
    if known.sum() < (1 if codes.ndim == 2 else 2):
        return None
    if held is not None and _enough(table, held, wanted):
        parts = [(held, _scores(estimator, table.take(held)))]
    else:
        parts = []
        for part in _cross_fits(estimator, table, fold):
            parts.append(part)
            if _enough(table, np.concatenate([rows for rows, _ in parts]), wanted):
                break
    if not parts:
        return None
    rows = np.concatenate([own for own, _ in parts])
    scores = np.concatenate([own for _, own in parts]).astype(np.float64)
    return Calibration.fit(scores, codes[rows], table.weight[rows], known)


def _in_order(table: TrainingTable) -> np.ndarray:
    """Number groups (n,) so that neither rows nor columns in another order are dealt anew.

    A group of a block table is placed by its least sum of standardised columns, which no column's
    unit or zero point changes either.
    """
    X = table.X.frame if isinstance(table.X, ReadRows) else table.X
    if isinstance(X, pd.DataFrame):
        if not all(pd.api.types.is_numeric_dtype(dtype) for dtype in X.dtypes):
            return table.groups
        X = X.to_numpy(np.float64, na_value=np.nan)
    _, first, number = np.unique(content_codes(X), return_index=True, return_inverse=True)
    distinct = X[first].astype(np.float64)
    known = ~np.isnan(distinct)
    counts = np.maximum(known.sum(axis=0), 1)
    distinct = np.where(known, distinct, 0.0)
    distinct = np.where(known, distinct - distinct.sum(axis=0) / counts, 0.0)
    spread = np.sqrt((distinct**2).sum(axis=0) / counts)
    place = (distinct / np.where(spread > 0, spread, np.inf)).sum(axis=1)[number.reshape(-1)]
    least = np.full(table.groups.max() + 1, np.inf)
    np.minimum.at(least, table.groups, place)
    # A gap between numbers is a group without a row here.
    rank = np.empty(len(least), dtype=int)
    rank[np.argsort(least, kind="stable")] = np.arange(len(least))
    return rank[table.groups]


def _cross_fits(
    estimator: Any, table: TrainingTable, fold: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of each fold's rows, and scores by an estimator that was fitted without them."""
    for number in range(fold.max() + 1):
        out = np.flatnonzero(fold == number)
        rest = table.take(np.flatnonzero(fold != number))
        own = copy(estimator)
        own._stand_in = True
        own.warm_start, own.verbose = False, 0
        try:
            # What there is to say of these rows was said when they were fitted together.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MedFusionWarning)
                own._fit_table(replace(rest, held=own._held_out(rest.groups, rest.targets.strata)))
                found = _scores(own, table.take(out))
        except ModalityError:  # of which all rows are in this fold
            continue
        yield out, found


def _scores(estimator: Any, table: TrainingTable) -> np.ndarray:
    """Scores (n, S, n_outputs) of rows."""
    out = estimator._outputs(table.X, table.rows)
    return out["scores"] if "scores" in out else out["logits"][:, None]


def _answers(codes: np.ndarray) -> list[np.ndarray]:
    """Masks (n,) of each class, or of no and yes to each label."""
    if codes.ndim == 1:
        return [codes == number for number in range(codes.max() + 1)]
    return [label == answer for label in codes.T for answer in (0, 1)]


def _enough(table: TrainingTable, rows: np.ndarray, wanted: np.ndarray) -> bool:
    """Tell whether some rows have groups enough of each answer that is wanted."""
    seen = np.zeros(len(table.weight), dtype=bool)
    seen[rows] = True
    return all(
        len(np.unique(table.groups[seen & answer])) >= _ENOUGH
        for answer, counts in zip(_answers(table.targets.codes), wanted, strict=True)
        if counts
    )


def _fit(
    scores: np.ndarray, codes: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Temperature () and shifts (C,) of scores (n, S, C) of classes (n,), or of labels (n, C)."""
    import torch

    inputs, target, mass = (torch.from_numpy(part) for part in (scores, codes, weight))

    def likelihood(logits: Tensor) -> Tensor:
        """Logarithm of each row's, up to a constant."""
        if codes.ndim == 1:
            averaged = logits.log_softmax(dim=2).logsumexp(dim=1)
            return averaged.gather(1, target[:, None])[:, 0]
        right = torch.where(target[:, None] > 0.5, logits, -logits)
        return torch.nn.functional.logsigmoid(right).logsumexp(dim=1).sum(dim=1)

    def penalised(trial: Tensor) -> Tensor:
        logits = inputs * (-trial[0]).exp() + trial[1:]
        return trial[0].square() / 2 - mass @ likelihood(logits)

    found = minimise(penalised, np.zeros(1 + scores.shape[2]), tol=1e-14)
    shift = found[1:] - (found[1:].mean() if codes.ndim == 1 else 0.0)
    return np.exp(found[0]), shift
