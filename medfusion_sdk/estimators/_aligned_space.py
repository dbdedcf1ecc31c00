"""Vectors of several modalities in one space: each for itself, and the nearest of another."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from medfusion_sdk.estimators._network_estimator import NetworkEstimator
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
            lacks the modality. Their products are cosines: ``found["image"] @ found["text"].T`` is
            the similarity of every volume with every report.
        """
        out = self._predict(X)
        unit = np.where(out["present"][..., None], out["unit"], np.nan)
        return {name: unit[:, i] for i, name in enumerate(self.modalities_)}

    def kneighbors(
        self,
        X: Any,
        gallery: Any,
        n_neighbors: int = 5,
        *,
        query: str = "text",
        target: str = "image",
        return_distance: bool = True,
    ) -> tuple[np.ndarray, np.ndarray] | np.ndarray:
        """Find the rows of a gallery that are nearest in the common space, across modalities.

        Parameters
        ----------
        X, gallery : DataFrame or array
            Tables with the columns of the fit: what is asked with, and what is searched.
        n_neighbors : int, default=5
            Rows to find.
        query, target : {"image", "text"}, default="text", "image"
            Which vector of a row is asked with, and which is searched.
        return_distance : bool, default=True
            Whether distances are returned.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_neighbors)
            One less the cosine, the nearest first; NaN for a row that lacks `query`. Left out with
            ``return_distance=False``.
        indices : ndarray of shape (n_samples, n_neighbors)
            Positions in `gallery`; -1 for a row that lacks `query`.

        Raises
        ------
        ModalityError
            If a modality isn't read, or fewer rows of the gallery have it than are to be found.
        """
        if not {query, target} <= set(self.modalities_):
            raise ModalityError(
                f"query={query!r}, target={target!r}: the model reads {self.modalities_}."
            )
        asked = self.transform_modalities(X)[query]
        searched = self.transform_modalities(gallery)[target]
        there = np.flatnonzero(~np.isnan(searched).any(axis=1))
        if not 1 <= n_neighbors <= len(there):
            raise ModalityError(
                f"n_neighbors={n_neighbors}: {len(there)} rows of the gallery have the {target}."
            )
        rows = np.flatnonzero(~np.isnan(asked).any(axis=1))
        distances = np.full((len(asked), n_neighbors), np.nan)
        indices = np.full((len(asked), n_neighbors), -1)
        if rows.size:
            search = NearestNeighbors(metric="cosine", algorithm="brute").fit(searched[there])
            distances[rows], found = search.kneighbors(asked[rows], n_neighbors)
            indices[rows] = there[found]
        return (distances, indices) if return_distance else indices
