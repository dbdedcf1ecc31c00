"""Let a transformer that can't take missing cells serve as a modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk._parameters import Allowed, Having, check_parameters
from medfusion_sdk.encoders.named_columns import as_dense, output_names
from medfusion_sdk.exceptions import ModalityError

__all__ = ["SkipMissing"]


class SkipMissing(TransformerMixin, BaseEstimator):
    """Fit and apply a transformer on the rows that are there; the others become NaN rows.

    Text vectorisers raise on a missing note, and an imputed note would count as present. With
    this wrapper a missing cell stays a missing modality.

    Parameters
    ----------
    transformer : transformer
        Any scikit-learn transformer or pipeline with dense or sparse numeric output.

    Attributes
    ----------
    transformer_ : transformer
        The fitted copy.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> notes = pd.Series(["sinus rhythm", None], name="note")
    >>> SkipMissing(CountVectorizer()).fit_transform(notes)
    array([[ 1.,  1.],
           [nan, nan]])
    """

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    _allowed: ClassVar[Mapping[str, Allowed]] = {"transformer": Having("fit", "transform")}

    def fit(self, X: Any, y: Any = None) -> SkipMissing:
        """Fit the transformer on the rows that are present.

        Parameters
        ----------
        X : Series or DataFrame
            The modality's column or columns.
        y : array-like, optional
            Passed on, less the missing rows.

        Returns
        -------
        self
            The fitted wrapper.

        Raises
        ------
        ModalityError
            If every row is missing, or the output would be too large as a dense table.
        ParameterError
            If `transformer` isn't one.
        """
        check_parameters(self)
        present = _present(X)
        if not present.any():
            raise ModalityError(f"all {len(present)} rows of this modality are missing.")
        y = None if y is None else np.asarray(y)[present]
        self.transformer_ = clone(self.transformer)
        # One row tells the number of columns of a transformer that doesn't name them.
        values = self.transformer_.fit(_rows(X, present), y).transform(_rows(X, present)[:1])
        self._names = output_names(self.transformer_, as_dense(values, self.transformer))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Transform the rows that are present; the others are NaN.

        Parameters
        ----------
        X : Series or DataFrame
            The modality's column or columns.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Float block.
        """
        check_is_fitted(self, "transformer_")
        present = _present(X)
        if not present.any():
            return np.full((len(present), len(self._names)), np.nan)
        values = self.transformer_.transform(_rows(X, present))
        values = np.asarray(as_dense(values, self.transformer))
        block = np.full((len(present), values.shape[1]), np.nan, np.result_type(values, np.float32))
        block[present] = values
        return block

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names given by the wrapped transformer, or numbers where it gives none.

        Parameters
        ----------
        input_features : array-like of str, optional
            Ignored.

        Returns
        -------
        ndarray of str
            Feature names.
        """
        check_is_fitted(self, "transformer_")
        return np.asarray(self._names, dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        return tags


def _present(X: Any) -> np.ndarray:
    table = X if isinstance(X, pd.Series | pd.DataFrame) else np.asarray(X, dtype=object)
    present = np.asarray(pd.notna(table), dtype=bool)
    return present if present.ndim == 1 else np.any(present, axis=1)


def _rows(X: Any, present: np.ndarray) -> Any:
    if isinstance(X, pd.Series | pd.DataFrame):
        return X[present]
    return np.asarray(X)[present]
