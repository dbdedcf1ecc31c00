"""What splitters share that deal whole groups out to folds, rarest label first."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from medfusion_sdk._alignment import check_aligned
from medfusion_sdk.estimators._group_folds import deal_groups
from medfusion_sdk.exceptions import DataError, MedFusionWarning, ParameterError


class DealtKFold(BaseCrossValidator):
    """Base of the splitters; a subclass reads y and groups."""

    # scikit-learn reads this when metadata routing is on: groups belong to split by default.
    __metadata_request__split: ClassVar[dict[str, bool]] = {"groups": True}

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object, default=None
            Not used; scikit-learn's signature.

        Returns
        -------
        int
            ``n_splits``.
        """
        return self.n_splits

    @abstractmethod
    def _read(self, y: Any, groups: Any) -> tuple[pd.DataFrame, np.ndarray]:
        """Return 0/1 columns to be spread evenly, and the number of each row's group."""

    def _iter_test_indices(
        self, X: Any = None, y: Any = None, groups: Any = None
    ) -> Iterator[np.ndarray]:
        check_aligned(X=X, y=y, groups=groups)
        labels, group = self._checked(y, groups)
        counts = np.zeros((group.max() + 1, labels.shape[1]), dtype=np.int64)
        np.add.at(counts, group, labels)
        rng = None
        if self.shuffle:
            # check_random_state(None) is the global generator.
            seed = np.random.RandomState() if self.random_state is None else self.random_state
            rng = check_random_state(seed)
        parts = np.full(self.n_splits, self.n_splits)
        fold = deal_groups(counts, np.bincount(group), parts, rng)[group]
        for number in range(self.n_splits):
            yield np.flatnonzero(fold == number)

    def _checked(self, y: Any, groups: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the label matrix and the number of each row's group."""
        if not isinstance(self.n_splits, (int, np.integer)) or self.n_splits < 2:
            raise ParameterError(f"n_splits={self.n_splits!r}; an integer of 2 or more is needed.")
        if self.random_state is not None and not self.shuffle:
            raise ParameterError("random_state has no effect without shuffle=True.")
        labels, group = self._read(y, groups)
        if group.max() + 1 < self.n_splits:
            raise DataError(f"n_splits={self.n_splits} exceeds the {group.max() + 1} groups.")
        n_groups = labels.groupby(group).any().sum()
        rare = n_groups[(n_groups > 0) & (n_groups < self.n_splits)]
        if len(rare):
            found = ", ".join(f"{name} ({count})" for name, count in rare.items())
            warnings.warn(
                f"In fewer groups than n_splits={self.n_splits}, so some folds lack them: {found}.",
                MedFusionWarning,
                stacklevel=6,
            )
        return labels.to_numpy(dtype=np.int64), group
