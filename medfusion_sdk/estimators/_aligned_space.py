"""Vectors of several modalities in one space: each for itself, and the nearest of another."""

from __future__ import annotations

from typing import Any

import numpy as np

from medfusion_sdk.estimators._gallery import Gallery, Query
from medfusion_sdk.estimators._groups import checked_groups
from medfusion_sdk.estimators._network_estimator import NetworkEstimator
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.exceptions import ModalityError

__all__ = ["AlignedSpace"]


class AlignedSpace(NetworkEstimator):
    """Estimators whose network returns ``unit`` (n, M, d) and ``present`` (n, M)."""

    modalities_: tuple[str, ...]

    def transform_modalities(self, X: Any) -> dict[str, np.ndarray]:
        """Bring volumes and reports into the common space, each for itself.

        Parameters
        ----------
        X : DataFrame or array
            Table with the columns of the fit.

        Returns
        -------
        dict of str to ndarray of shape (n_samples, proj_dim)
            ``image`` and ``text``, as far as they are read: vectors of length one, NaN where a row
            lacks the modality.
        """
        out = self._predict(X)
        unit = np.where(out["present"][..., None], out["unit"], np.nan)
        return {name: unit[:, i] for i, name in enumerate(self.modalities_)}

    def similarity(
        self, X: Any, gallery: Any = None, *, query: str = "text", target: str = "image"
    ) -> np.ndarray:
        """Cosines of rows with all rows of a gallery, across modalities.

        Parameters
        ----------
        X : DataFrame or array
            Table with the columns of the fit.
        gallery : DataFrame or array, default=None
            Rows to compare with; None for those of X.
        query, target : {"image", "text"}, default="text", "image"
            Which vector of X is compared with which of the gallery.

        Returns
        -------
        ndarray of shape (n_samples, n_gallery)
            NaN where a row lacks `query`, or a row of the gallery `target`.
        """
        places = self._places(X, query)
        found = self._gallery(X if gallery is None else gallery, target, None)
        return found.cosines(places, target)

    def kneighbors(
        self,
        X: Any,
        gallery: Any,
        n_neighbors: int = 5,
        *,
        query: str = "text",
        target: str = "image",
        groups: Any = None,
        gallery_groups: Any = None,
        return_distance: bool = True,
    ) -> Any:
        """Find the rows of a gallery that are nearest in the common space, across modalities.

        Exact; of rows that are equally near, as those with equal reports are, the first comes
        first.

        Parameters
        ----------
        X, gallery : DataFrame or array
            Tables with the columns of the fit: what is searched with, and what is searched.
        n_neighbors : int, default=5
            Rows to find.
        query, target : {"image", "text"}, default="text", "image"
            Which vector of a row is searched with, and which is looked at.
        groups, gallery_groups : array-like, optional
            Persons of both tables' rows; nobody's own rows are found.
        return_distance : bool, default=True
            Whether to return distances too.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_neighbors)
            One less the cosine, from the smallest.
        indices : ndarray of shape (n_samples, n_neighbors)
            Positions in `gallery`.

        Raises
        ------
        DataError
            If a row lacks what is searched with, or has fewer rows to find than asked for.
        ModalityError
            If a modality isn't read.
        """
        places = self._places(X, query)
        asked = Query(places, row_labels(X), checked_groups(groups, len(places)))
        found = self._gallery(gallery, target, gallery_groups)
        distances, indices = found.nearest(asked, target, n_neighbors)
        return (distances, indices) if return_distance else indices

    def _places(self, X: Any, modality: str) -> np.ndarray:
        """Where rows lie by one modality."""
        if modality not in self.modalities_:
            raise ModalityError(f"{modality!r}: the model reads {list(self.modalities_)}.")
        return self.transform_modalities(X)[modality]

    def _gallery(self, X: Any, target: str, groups: Any) -> Gallery:
        places = self._places(X, target)
        return Gallery.of({target: places}, row_labels(X), checked_groups(groups, len(places)))
