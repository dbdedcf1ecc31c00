"""The ColumnTransformer that makes a block table, and sees to it that its columns keep names."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer

from medfusion_sdk.exceptions import ModalityError, ModalityWarning

__all__ = ["ModalityTransformer"]


class ModalityTransformer(ColumnTransformer):
    """A ColumnTransformer of modalities, which can be fitted on a table that lost its names.

    :func:`~medfusion_sdk.make_modality_transformer` makes it; it does what its base does, but for
    arrays. Meta-estimators such as ``BaggingClassifier`` turn a DataFrame into an array before
    their members see it. Where columns are given by name, an array with as many columns as there
    are names is read in the order in which the modalities name them, with a warning.
    """

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit all transformers and apply them.

        Parameters
        ----------
        X : DataFrame or ndarray
            Cohort table, or its cells in the order in which the modalities name the columns.
        y : array-like, optional
            Passed on.
        **params : object
            Passed on.

        Returns
        -------
        DataFrame
            Block table.

        Raises
        ------
        ModalityError
            For an array with another number of columns, and for output without names.

        Warns
        -----
        ModalityWarning
            If columns are given by name and `X` is an array.
        """
        names = self._given_names() if isinstance(X, np.ndarray) else None
        self.named_by_position_ = names is not None
        if names is not None:
            _check_width(X, names)
            warnings.warn(
                "this table lost its names, as inside a BaggingClassifier. Its columns are taken "
                f"in the order in which the modalities name them: {names}. If that is another "
                "order than the table's, give the table's columns in this order.",
                ModalityWarning,
                stacklevel=2,
            )
            X = _named(X, names)
        blocks = super().fit_transform(X, y, **params)
        prefixes = tuple(f"{name}__" for name, _, _ in [*self.transformers, ("remainder", 0, 0)])
        named = all(str(name).startswith(prefixes) for name in getattr(blocks, "columns", ()))
        if self.verbose_feature_names_out is True and not named:
            raise ModalityError(
                f"one of the modalities {[name for name, _, _ in self.transformers]} returned an "
                "array without names, and so all lost theirs. Let its transform return a "
                "DataFrame, or give it get_feature_names_out."
            )
        return blocks

    def transform(self, X: Any, **params: Any) -> Any:
        """Apply all transformers.

        Parameters
        ----------
        X : DataFrame or ndarray
            As in training.
        **params : object
            Passed on.

        Returns
        -------
        DataFrame
            Block table.

        Raises
        ------
        ModalityError
            For an array where training had names.
        """
        if isinstance(X, np.ndarray) and hasattr(self, "feature_names_in_"):
            names = list(self.feature_names_in_)
            if not self.named_by_position_ and self._given_names() is not None:
                raise ModalityError(
                    f"training had a table with the columns {names[:8]}, and this is an array: "
                    "which column is which isn't known. Give a DataFrame."
                )
            _check_width(X, names)
            X = _named(X, names)
        return super().transform(X, **params)

    def _given_names(self) -> list[str] | None:
        """Names of all columns, in their order; None where one is given in another way."""
        names: dict[str, None] = {}
        for _, _, columns in self.transformers:
            listed = [columns] if isinstance(columns, str) else columns
            if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
                return None
            names.update(dict.fromkeys(listed))
        return list(names)


def _check_width(X: np.ndarray, names: list[str]) -> None:
    if X.ndim != 2 or X.shape[1] != len(names):
        raise ModalityError(
            f"the table lost its names and has shape {X.shape}; the modalities read the columns "
            f"{names}. Give these columns alone, in this order: X[{names}]."
        )


def _named(X: np.ndarray, names: list[str]) -> pd.DataFrame:
    # An array of mixed cells holds numbers as objects.
    return pd.DataFrame(X, columns=names).infer_objects()
