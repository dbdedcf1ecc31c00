"""How well classes are told apart from k labelled rows of each: the k-shot curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _num_samples

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.exceptions import DataError, ParameterError
from medfusion_sdk.metrics._auroc import macro_auroc
from medfusion_sdk.metrics._bootstrap import interval_table
from medfusion_sdk.metrics._resampling import Resamples
from medfusion_sdk.model_selection._folds import MultilabelStratifiedGroupKFold, label_table
from medfusion_sdk.model_selection._group_fit import fit_with_groups
from medfusion_sdk.model_selection._partition import partition

__all__ = ["few_shot_table"]


def few_shot_table(
    representations: Mapping[str, Any],
    X: Any,
    y: ArrayLike,
    *,
    y_fit: ArrayLike | None = None,
    probe: Any = None,
    shots: Sequence[int] = (5, 10, 15, 20, 50, 100),
    n_draws: int = 10,
    cv: Any = 5,
    groups: ArrayLike | None = None,
    reference: str | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | None = None,
) -> pd.DataFrame:
    """Compare representations by what a linear probe makes of k labelled rows per class.

    In each fold a representation is fitted on all training rows, with the targets `y_fit` (coarse
    labels, say) or without any; then a probe learns the classes of `y` from k training rows of
    each, drawn anew `n_draws` times, and scores the test rows.

    Parameters
    ----------
    representations : mapping of str to transformer
        What is compared. A DualAdapterClassifier transfers from `y_fit`, a DualAdapterEmbedder or
        a frozen encoder needs no labels.
    X : DataFrame or array of n_samples rows
        What they read.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Classes, or a matrix of 0 and 1 with one column per label.
    y_fit : array-like of n_samples rows, optional
        Targets for fitting the representations.
    probe : classifier, optional
        One per class or label. By default ``LogisticRegression(C=10, max_iter=1000)``; embeddings
        reach it standardised by the training rows and scaled to a mean squared length of one, so
        that its penalty means the same at each width.
    shots : sequence of int, default=(5, 10, 15, 20, 50, 100)
        Labelled rows k per class. A class that has fewer gives all. Labels are dealt with from the
        rarest on, and rows drawn for one count for the others that they have.
    n_draws : int, default=10
        Draws of the labelled rows, whose scores are averaged.
    cv : int, splitter or iterable, default=5
        As in scikit-learn; a number of folds keeps the groups together where there are any. Each
        row is tested once.
    groups : array-like of shape (n_samples,), optional
        Patients, for splitting, for the intervals, and for representations whose fit takes them.
        No fold may have one on both sides.
    reference : str, optional
        Representation that the others are compared with.
    n_resamples : int, default=1000
        Bootstrap resamples of patients.
    confidence_level : float, default=0.95
        Between 0 and 1.
    random_state : int or None, default=None
        Seed of draws and resamples.

    Returns
    -------
    DataFrame
        Indexed by ``shots`` and ``model``, columns as in
        :func:`~medfusion_sdk.metrics.score_table`: the macro AUROC within folds of test rows, mean
        over draws, with its interval over patients, and the difference to the reference.

    Raises
    ------
    DataError
        If a fold's training rows lack a class, or share a group with its test rows.
    ParameterError
        If `shots` or `n_draws` isn't positive, `reference` none of the representations, or `cv`
        doesn't test each row once.

    Notes
    -----
    Rows are compared within folds, whose probes needn't share a scale. Intervals resample patients
    and draws; they hold for the models as they were fitted, and another training set would move
    small `shots` by more.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from medfusion_sdk.model_selection import few_shot_table
    >>> X, y = load_iris(return_X_y=True)
    >>> table = few_shot_table({"PCA": PCA(2)}, X, y, shots=(2, 10), n_draws=3, random_state=0)
    >>> bool(table.loc[(2, "PCA"), "score"] < table.loc[(10, "PCA"), "score"])
    True
    """
    shots = [int(k) for k in shots]
    if n_draws < 1 or not shots or min(shots) < 1:
        raise ParameterError(f"shots={shots!r}, n_draws={n_draws}: both are positive numbers.")
    if reference is not None and reference not in representations:
        raise ParameterError(f"reference={reference!r} is none of {list(representations)}.")
    check_aligned(X=X, y=y, y_fit=y_fit, groups=groups)
    labels = label_table(y)
    positive = labels.to_numpy(dtype=bool)
    folds = _checked_folds(labels, X, y, groups, cv)
    probe = LogisticRegression(C=10, max_iter=1000) if probe is None else probe
    seed = np.random.SeedSequence(random_state).generate_state(1)[0]
    scores = {
        name: _out_of_fold(
            representation, X, positive, y_fit, groups, probe, shots, n_draws, folds, seed
        )
        for name, representation in representations.items()
    }
    fold = np.empty(len(positive), dtype=int)
    for number, (_, test) in enumerate(folds):
        fold[test] = number
    resamples = Resamples(_num_samples(X), groups, n_resamples, confidence_level, random_state)
    target = positive.astype(int)
    parts = {}
    for i, k in enumerate(shots):
        draws = {name: score[i] for name, score in scores.items()}
        estimates = {
            name: float(np.mean([macro_auroc(target, one, strata=fold) for one in score]))
            for name, score in draws.items()
        }
        values = {
            name: _mean_of_draws(
                [resamples.values(macro_auroc, target, one, strata=fold) for one in score], seed
            )
            for name, score in draws.items()
        }
        parts[k] = interval_table(resamples, estimates, values, reference)
    return pd.concat(parts, names=["shots"])


def _checked_folds(labels: pd.DataFrame, X: Any, y: Any, groups: Any, cv: Any) -> list[Any]:
    multilabel = type_of_target(y) == "multilabel-indicator"
    if isinstance(cv, Integral) and (groups is not None or multilabel):
        cv = MultilabelStratifiedGroupKFold(int(cv))
    folds = partition(cv, X, y, groups)
    for number, (train, _) in enumerate(folds):
        absent = labels.columns[~labels.iloc[train].any(axis=0)].tolist()
        if absent:
            raise DataError(f"fold {number}: no training row of the classes {absent}.")
    return folds


def _out_of_fold(
    representation: Any,
    X: Any,
    positive: np.ndarray,
    y_fit: Any,
    groups: Any,
    probe: Any,
    shots: Sequence[int],
    n_draws: int,
    folds: list[Any],
    seed: int,
) -> np.ndarray:
    """Scores of each test row, shape (shots, draws, rows, labels)."""
    scores = np.zeros((len(shots), n_draws, *positive.shape))
    for number, (train, test) in enumerate(folds):
        fit_target = None if y_fit is None else _safe_indexing(y_fit, train)
        own = None if groups is None else _safe_indexing(groups, train)
        fitted = fit_with_groups(clone(representation), _safe_indexing(X, train), fit_target, own)
        seen, unseen = _scaled(
            fitted.transform(_safe_indexing(X, train)), fitted.transform(_safe_indexing(X, test))
        )
        for i, k in enumerate(shots):
            for draw in range(n_draws):
                # The same rows for each representation.
                rng = np.random.default_rng([seed, number, k, draw])
                rows = _draw(positive[train], k, rng)
                learnt = OneVsRestClassifier(probe).fit(seen[rows], positive[train][rows])
                scores[i, draw, test] = learnt.predict_proba(unseen)
    return scores


def _mean_of_draws(values: list[np.ndarray], seed: int) -> np.ndarray:
    """Mean over draws that are drawn anew for each resample, the same for each model."""
    table = np.array(values)
    chosen = np.random.default_rng(seed).integers(len(table), size=table.shape)
    return table[chosen, np.arange(table.shape[1])].mean(axis=0)


def _scaled(seen: Any, unseen: Any) -> tuple[np.ndarray, np.ndarray]:
    """Standardise embeddings to a mean squared length of one; missing entries are the mean."""
    scaler = StandardScaler().fit(np.asarray(seen))
    width = np.asarray(seen).shape[1] ** 0.5
    one, other = (np.nan_to_num(scaler.transform(np.asarray(z))) / width for z in (seen, unseen))
    return one, other


def _draw(positive: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Draw k rows of each label, the rarest first."""
    drawn = np.zeros(len(positive), dtype=bool)
    for label in np.argsort(positive.sum(axis=0), kind="stable"):
        lacking = min(k, positive[:, label].sum()) - positive[drawn, label].sum()
        left = np.flatnonzero(positive[:, label] & ~drawn)
        drawn[rng.permutation(left)[: max(lacking, 0)]] = True
    return np.flatnonzero(drawn)
