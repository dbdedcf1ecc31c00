"""Whole groups dealt out to folds, each fold with its share of each class, label or event."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import DataError

__all__ = ["N_FOLDS", "deal_groups", "group_folds", "held_groups"]

N_FOLDS = 5


def group_folds(
    groups: np.ndarray,
    strata: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    *,
    n_folds: int = N_FOLDS,
    seed: int,
) -> np.ndarray:
    """Give each row a fold: whole groups, and in each fold a like weight of each class or label.

    The order of rows is of no matter where the groups' numbers don't follow it, and a row of
    weight two is two rows.

    Parameters
    ----------
    groups : ndarray of shape (n,) of int
        Group of each row; of a fit's table ``TrainingTable.groups``.
    strata : ndarray of shape (n,) of int, or (n, L), optional
        What folds are to have alike: a class for each row, -1 where it is unknown; or 0/1 labels.
    weight : ndarray of shape (n,), optional
        Of the rows; one each by default.
    n_folds : int, default=5
        How many; one for each group where there are fewer groups.
    seed : int
        Of the folds.

    Returns
    -------
    ndarray of shape (n,) of int
        From 0, and every fold has a group.
    """
    groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
    counts, size = _totals(groups, strata, weight)
    n_folds = min(n_folds, len(size))
    order = np.random.default_rng(seed).permutation(len(size))
    fold = np.empty(len(size), dtype=int)
    fold[order] = deal_groups(counts[order], size[order], np.full(n_folds, n_folds))
    return fold[groups]


def held_groups(
    groups: np.ndarray, strata: np.ndarray | None = None, *, fraction: float, seed: int
) -> np.ndarray:
    """Choose rows to hold out: whole groups, with their share of each class or label.

    Parameters
    ----------
    groups : ndarray of shape (n,) of int
        Group of each row.
    strata : ndarray of shape (n,) of int, or (n, L), optional
        As of :func:`group_folds`.
    fraction : float
        Share of the rows that is wanted, between 0 and 1.
    seed : int
        Which are chosen; what the rows hold is of no matter.

    Returns
    -------
    ndarray of int
        Positions, ascending; at least one, and not all.

    Raises
    ------
    DataError
        If there is one group alone.
    """
    groups = pd.factorize(groups)[0]
    counts, size = _totals(groups, strata, None)
    if len(size) < 2:
        raise DataError(
            "early stopping holds out some groups of rows, and here is one alone. Give each "
            "patient a value of their own, or set early_stopping=False."
        )
    order = np.random.default_rng(seed).permutation(len(size))
    shares = np.array([1 / (1 - fraction), 1 / fraction])
    held = np.empty(len(size), dtype=int)
    held[order] = deal_groups(counts[order], size[order], shares)
    if held.min() == held.max():
        held[order[-1]] = 1 - held[order[-1]]
    return np.flatnonzero(held[groups] == 1)


def deal_groups(
    counts: np.ndarray,
    size: np.ndarray,
    parts: np.ndarray,
    rng: np.random.RandomState | None = None,
) -> np.ndarray:
    """Give each group a fold: rarest label first, to the fold that lacks it most.

    Parameters
    ----------
    counts : ndarray of shape (n_groups, n_labels)
        Rows of each group with each label.
    size : ndarray of shape (n_groups,)
        Rows of each group.
    parts : ndarray of shape (n_folds,)
        One over each fold's share of the rows.
    rng : RandomState, optional
        Breaks ties; without it the first group and the first fold come first.

    Returns
    -------
    ndarray of shape (n_groups,) of int
        Fold of each group.
    """
    given, given_size = np.zeros((len(parts), counts.shape[1])), np.zeros(len(parts))
    order = np.arange(len(size)) if rng is None else rng.permutation(len(size))
    fold = np.full(len(size), -1)

    def give(groups: np.ndarray, amount: np.ndarray, so_far: np.ndarray) -> None:
        for group in groups:
            # What a fold has of its share, with half of the group: as in Sainte-Laguë's seats.
            full = (so_far + amount[group] / 2) * parts
            best = np.flatnonzero(full == full.min())
            full = (given_size[best] + size[group] / 2) * parts[best]
            best = best[full == full.min()]
            chosen = best[0] if rng is None else rng.choice(best)
            fold[group] = chosen
            given[chosen] += counts[group]
            given_size[chosen] += size[group]

    while (left := counts[fold < 0].sum(axis=0)).any():
        label = int(np.argmin(np.where(left > 0, left, np.inf)))
        holders = order[(fold[order] < 0) & (counts[order, label] > 0)]
        # The large ones first, while there is room to make up for them.
        holders = holders[np.argsort(-counts[holders, label], kind="stable")]
        give(holders, counts[:, label], given[:, label])
    unlabelled = order[fold[order] < 0]
    unlabelled = unlabelled[np.argsort(-size[unlabelled], kind="stable")]
    give(unlabelled, size, given_size)
    return fold


def _totals(
    groups: np.ndarray, strata: np.ndarray | None, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each group with each label, (n_groups, n_labels), and of each group."""
    if strata is None:
        strata = np.zeros((len(groups), 0))
    elif strata.ndim == 1:
        strata = strata[:, None] == np.unique(strata[strata >= 0])
    weight = np.ones(len(groups)) if weight is None else weight
    n_groups = int(groups.max()) + 1
    counts = [np.bincount(groups, weight * label, n_groups) for label in strata.T]
    columns = np.stack(counts, axis=1) if counts else np.zeros((n_groups, 0))
    return columns, np.bincount(groups, weight, n_groups)
