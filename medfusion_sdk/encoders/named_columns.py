"""Let a transformer whose output has no names, or is sparse, serve as a modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk._parameters import Allowed, Having, check_parameters
from medfusion_sdk.exceptions import ModalityError

__all__ = ["NamedColumns", "as_dense", "output_names"]

# A modality wider than this is a slip, as of a vectoriser that hashes to a million columns.
_MOST_COLUMNS = 1 << 16
# Bytes of one modality's dense values.
_MOST_BYTES = 1 << 31


class NamedColumns(TransformerMixin, BaseEstimator):
    """Give what a transformer returns as named, dense columns.

    Column names are what tells the modalities of a block table apart. A transformer that returns
    arrays, as a ``FunctionTransformer`` may, or sparse matrices, as ``OneHotEncoder`` does by
    default, would lose them; :func:`~medfusion_sdk.make_modality_transformer` wraps it in this.

    Parameters
    ----------
    transformer : transformer
        Any scikit-learn transformer or pipeline with numeric output.

    Attributes
    ----------
    transformer_ : transformer
        The fitted copy.

    See Also
    --------
    SkipMissing : Moreover leaves missing rows out.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> from medfusion_sdk.encoders.named_columns import NamedColumns
    >>> NamedColumns(OneHotEncoder()).fit_transform(pd.DataFrame({"ward": ["icu", "er"]}))
       ward_er  ward_icu
    0      0.0       1.0
    1      1.0       0.0
    """

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    _allowed: ClassVar[Mapping[str, Allowed]] = {"transformer": Having("fit", "transform")}

    def fit(self, X: Any, y: Any = None) -> NamedColumns:
        """Fit the transformer.

        Parameters
        ----------
        X : Series or DataFrame
            The modality's column or columns.
        y : array-like, optional
            Passed on.

        Returns
        -------
        self
            The fitted wrapper.
        """
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> pd.DataFrame:
        """Fit the transformer and apply it.

        Parameters
        ----------
        X : Series or DataFrame
            The modality's column or columns.
        y : array-like, optional
            Passed on.

        Returns
        -------
        DataFrame of shape (n_samples, n_features)
            With the names that the transformer gives, or numbers for names.

        Raises
        ------
        ParameterError
            If `transformer` isn't one.
        ModalityError
            If the output isn't two-dimensional, or would be too large as a dense table.
        """
        check_parameters(self)
        self.transformer_ = clone(self.transformer)
        values = as_dense(self.transformer_.fit_transform(X, y), self.transformer)
        self._names = output_names(self.transformer_, values)
        return self._framed(values, X)

    def transform(self, X: Any) -> pd.DataFrame:
        """Apply the transformer.

        Parameters
        ----------
        X : Series or DataFrame
            The modality's column or columns.

        Returns
        -------
        DataFrame of shape (n_samples, n_features)
            The same columns as in training.

        Raises
        ------
        ModalityError
            If the transformer returns other columns than in training.
        """
        check_is_fitted(self, "transformer_")
        values = as_dense(self.transformer_.transform(X), self.transformer)
        names = list(values.columns) if isinstance(values, pd.DataFrame) else self._names
        if values.shape[1] != len(self._names) or list(map(str, names)) != self._names:
            raise ModalityError(
                f"{self.transformer!r} returned {values.shape[1]} columns, in training "
                f"{len(self._names)}: {self._names[:5]}."
            )
        return self._framed(values, X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns.

        Parameters
        ----------
        input_features : object, optional
            Ignored.

        Returns
        -------
        ndarray of str
            Feature names.
        """
        check_is_fitted(self, "transformer_")
        return np.asarray(self._names, dtype=object)

    def set_output(self, *, transform: str | None = None) -> NamedColumns:
        """Do nothing: the output is a DataFrame.

        Parameters
        ----------
        transform : str, optional
            Ignored.

        Returns
        -------
        self
            The wrapper itself.
        """
        return self

    def _framed(self, values: Any, X: Any) -> pd.DataFrame:
        if isinstance(values, pd.DataFrame):
            return values.set_axis(self._names, axis=1)
        index = X.index if isinstance(X, pd.Series | pd.DataFrame) else None
        return pd.DataFrame(values, index=index, columns=self._names)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.transformer).input_tags
        return tags


def as_dense(values: Any, transformer: Any) -> Any:
    """Make a transformer's output dense, if it is of moderate size.

    Parameters
    ----------
    values : array, sparse matrix or DataFrame of shape (n, n_features)
        What it returned.
    transformer : transformer
        For the message.

    Returns
    -------
    ndarray or DataFrame of shape (n, n_features)
        The same values.

    Raises
    ------
    ModalityError
        For other shapes, and for sizes that a table shouldn't have.
    """
    shape = np.shape(values)
    if len(shape) != 2:
        raise ModalityError(
            f"{transformer!r} returned an array of shape {shape}; a modality is a table of shape "
            "(n_samples, n_features)."
        )
    if shape[1] > _MOST_COLUMNS or 8 * shape[0] * shape[1] > _MOST_BYTES:
        raise ModalityError(
            f"{transformer!r} returned {shape[0]} rows of {shape[1]} columns: as a dense table "
            f"that is {8e-9 * shape[0] * shape[1]:.2g} GB. Give it fewer columns (max_features=, "
            "n_features=, max_categories=), or put TruncatedSVD behind it in a pipeline."
        )
    return values.toarray() if hasattr(values, "toarray") else values


def output_names(transformer: Any, values: Any) -> list[str]:
    """Name the columns of a fitted transformer's output.

    Parameters
    ----------
    transformer : transformer
        Fitted.
    values : ndarray or DataFrame of shape (n, n_features)
        What it returned.

    Returns
    -------
    list of str
        A DataFrame's own, those that the transformer gives, or else their numbers.
    """
    if isinstance(values, pd.DataFrame):
        return [str(name) for name in values.columns]
    try:
        names = [str(name) for name in transformer.get_feature_names_out()]
    except (AttributeError, ValueError, TypeError):
        names = []
    return names if len(names) == values.shape[1] else [f"{i:04d}" for i in range(values.shape[1])]
