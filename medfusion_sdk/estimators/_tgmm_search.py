"""Finding rows by TGMM: where they lie, who is near, and how well rows find themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from medfusion_sdk._parameters import FLAG, Allowed, Whole
from medfusion_sdk.estimators._content import equal_rows
from medfusion_sdk.estimators._gallery import Gallery, Query, own_recall
from medfusion_sdk.estimators._groups import checked_groups
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.estimators._tgmm_explanations import TaskOutput, drop_one, tgmm_explanation
from medfusion_sdk.estimators._tgmm_retrieval import TGMMRetrieval
from medfusion_sdk.exceptions import DataError, ModalityError, ParameterError
from medfusion_sdk.tables import presence_mask

__all__ = ["TGMMSearch"]

# What a row has, all together, under a name that no modality can have.
_EVERYTHING = "__all__"
_AT_LEAST_ONE = Whole(least=1)


class TGMMSearch(TGMMRetrieval):
    """Base of the estimators that rows can be found with."""

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **TGMMRetrieval._allowed,
        "n_neighbors": _AT_LEAST_ONE,
        "keep_gallery": FLAG,
    }

    n_neighbors: int
    keep_gallery: bool
    gallery_: Gallery

    def transform(self, X: Any, modality: str | Sequence[str] | None = None) -> np.ndarray:
        """Place rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.
        modality : str, sequence of str or None, default=None
            What to look at, the rest hidden; None for all that a row has.

        Returns
        -------
        ndarray of shape (n_samples, embed_size)
            Vectors of length one; NaN where a row lacks what was to be looked at.
        """
        return self._places(self._checked(X), row_labels(X), self._names(modality))

    def index(self, X: Any, *, groups: Any = None) -> Self:
        """Remember other rows to be found, in place of those so far; nothing is learnt.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.
        groups : array-like of shape (n_samples,), optional
            Patient of each row.

        Returns
        -------
        self
            With another ``gallery_``.
        """
        values = self._checked(X)
        self._keep(values, row_labels(X), checked_groups(groups, len(values)))
        return self

    def kneighbors(
        self,
        X: Any = None,
        n_neighbors: int | None = None,
        *,
        query: str | Sequence[str] | None = None,
        target: str | None = None,
        exclude_self: bool | None = None,
        groups: Any = None,
        return_distance: bool = True,
    ) -> Any:
        """Find the nearest rows of the gallery.

        Exact, by matrix products in blocks, in memory that doesn't grow with the gallery. Of rows
        that are equally near, as those with equal reports are, the first comes first.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features), default=None
            Rows to search with; None for those of the gallery.
        n_neighbors : int or None, default=None
            How many; None for the parameter of the constructor.
        query : str, sequence of str or None, default=None
            Modalities to search with; None for all that a row has.
        target : str or None, default=None
            Modality of the gallery's rows to look at, which they must have; None for all that
            they have.
        exclude_self : bool or None, default=None
            Whether a row isn't to find the row of the gallery with its index label. None is True
            without X, else False.
        groups : array-like of shape (n_samples,), optional
            Patients of the rows; none of their rows are to be found, whatever `exclude_self`.
        return_distance : bool, default=True
            Whether to return distances too.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_neighbors)
            One less the cosine, from the smallest.
        indices : ndarray of shape (n_samples, n_neighbors)
            Positions in the gallery; labels are ``gallery_.rows[indices]``.

        Raises
        ------
        DataError
            If a row lacks what is searched with, or has fewer rows to find than asked for.
        ModalityError
            For a modality that isn't one of the fit's.
        """
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if not _AT_LEAST_ONE.allows(k):
            raise ParameterError(f"n_neighbors must be {_AT_LEAST_ONE}, got {k!r}.")
        found = self._query(X, query, exclude_self, groups)
        distances, indices = self._kept_gallery().nearest(found, self._kept(target), k)
        return (distances, indices) if return_distance else indices

    def similarity(
        self,
        X: Any,
        gallery: Any = None,
        *,
        query: str | Sequence[str] | None = None,
        target: str | None = None,
    ) -> np.ndarray:
        """Cosines of rows with all rows of a gallery: what a score of the search needs.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Rows to search with.
        gallery : DataFrame or array of shape (n_gallery, n_features), default=None
            Rows to find; None for the gallery that is kept.
        query, target : str or None, default=None
            As in :meth:`kneighbors`.

        Returns
        -------
        ndarray of shape (n_samples, n_gallery)
            Cosines; NaN where a row lacks what is searched with, or a row of the gallery what is
            looked at. Rows of the same content have the same cosines to the last bit.
        """
        places = self.transform(X, query)
        if gallery is None:
            found = self._kept_gallery()
        else:
            values = self._checked(gallery)
            wanted = {self._kept(target): self._names(target)}
            found = self._make_gallery(values, row_labels(gallery), None, wanted)
        return found.cosines(places, self._kept(target))

    def score(self, X: Any, y: Any = None) -> float:
        """Recall@k of rows that are searched by one modality and found by another.

        Each row of X that has both looks for itself among all rows of X that have the second, k
        being `n_neighbors`. A row that others are as near as counts with the chance of a random
        order, so equal reports in a table keep the score from being 1.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit; its number of rows decides how hard the task is.
        y : object, optional
            Ignored.

        Returns
        -------
        float
            Mean over all ordered pairs of modalities for which a row has both. With one modality
            rows look for themselves by the same.
        """
        values, rows = self._checked(X), row_labels(X)
        places = {name: self._places(values, rows, [name]) for name in self.modalities_}
        pairs = list(permutations(places, 2)) or [(self.modalities_[0],) * 2]
        recalls = [own_recall(places[a], places[b], self.n_neighbors) for a, b in pairs]
        if np.isnan(recalls).all():
            raise DataError("no row has two modalities: there is nothing to find by another.")
        return float(np.nanmean(recalls))

    def explain(self, X: Any) -> pd.DataFrame:
        """Tell how each row's modalities were weighed, and how near each comes to the whole.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            Table with the columns of the fit.

        Returns
        -------
        DataFrame
            As :meth:`TGMMClassifier.explain` has it. The answer is ``similarity``: the cosine of
            the row's place by one modality alone (``label``) with its place by all that it has;
            NaN for one that it lacks, and its change is NaN for a row's only modality.
            Modalities that disagree are worth a look.
        """
        values, rows = self._checked(X), row_labels(X)
        alone = [self._places(values, rows, [name]) for name in self.modalities_]
        near = np.stack(alone, axis=1)
        out = self._outputs(values, rows)
        answers = self._nearness(near, out)
        changes = drop_one(
            values,
            self._scaling.blocks,
            out["present"],
            answers,
            {"retrieval": np.full(len(self.modalities_), np.nan)},  # without anything: no place
            lambda hidden, kept: self._nearness(near[kept], self._outputs(hidden, rows[kept])),
        )
        return tgmm_explanation(rows, self.modalities_, out, answers, changes, self._prompt_tokens)

    # -- steps --------------------------------------------------------------------------------

    def _answers(self, out: Mapping[str, np.ndarray]) -> dict[str, TaskOutput]:
        # A place is no answer by itself; `explain` compares it with others of its row.
        return {}

    def _nearness(self, alone: np.ndarray, out: Mapping[str, np.ndarray]) -> dict[str, TaskOutput]:
        cosines = np.einsum("nmd,nd->nm", alone, out["place"])
        return {"retrieval": TaskOutput("similarity", cosines, self.modalities_)}

    @property
    def _n_features_out(self) -> int:
        return int(self.architecture_["heads"]["retrieval"]["embed_size"])

    def _places(self, values: np.ndarray, rows: pd.Index, names: list[str]) -> np.ndarray:
        """Where rows lie by some modalities, (n, d_r); NaN where a row has none of them."""
        presence_mask(values, self._scaling.blocks, rows)
        columns = np.concatenate([self._scaling.blocks[name] for name in names])
        has = np.flatnonzero(~np.isnan(values[:, columns]).all(axis=1))
        # Equal content is placed once, and so lies in the same place to the last bit.
        number = equal_rows(values[np.ix_(has, columns)])
        first = has[np.unique(number, return_index=True)[1]]
        hidden = np.full((len(first), values.shape[1]), np.nan)
        hidden[:, columns] = values[np.ix_(first, columns)]
        shape = (len(values), self._n_features_out)
        places = np.full(shape, np.nan, dtype=self.architecture_["dtype"])
        if len(first):
            places[has] = self._outputs(hidden, rows[first])["place"][number]
        return places

    def _keep(self, values: np.ndarray, rows: pd.Index, groups: np.ndarray | None) -> None:
        wanted = {name: [name] for name in self.modalities_} | {_EVERYTHING: self.modalities_}
        self.gallery_ = self._make_gallery(values, rows, groups, wanted)

    def _make_gallery(
        self,
        values: np.ndarray,
        rows: pd.Index,
        groups: np.ndarray | None,
        wanted: Mapping[str, list[str]],
    ) -> Gallery:
        places = {name: self._places(values, rows, names) for name, names in wanted.items()}
        return Gallery.of(places, rows, groups)

    def _kept_gallery(self) -> Gallery:
        check_is_fitted(self, "state_")
        if not hasattr(self, "gallery_"):
            raise DataError(
                "there is no gallery to search: fit with keep_gallery=True, or give it rows by "
                "index()."
            )
        return self.gallery_

    def _query(self, X: Any, query: Any, exclude_self: bool | None, groups: Any) -> Query:
        gallery = self._kept_gallery()
        if X is None:
            rows = gallery.rows
            places = gallery.placed(self._kept(query))
        else:
            rows = row_labels(X)
            places = self.transform(X, query)
        positions = None
        if exclude_self or (exclude_self is None and X is None):
            positions = np.arange(len(rows)) if X is None else gallery.positions(rows)
        return Query(places, rows, checked_groups(groups, len(rows)), positions)

    def _kept(self, modality: Any) -> str:
        """What the gallery's places by one modality, or by all, are called."""
        names = self._names(modality)
        if names == self.modalities_:
            return _EVERYTHING if len(names) > 1 else names[0]
        if len(names) > 1:
            raise ModalityError(
                f"{modality!r}: the gallery knows single modalities and all together (None)."
            )
        return names[0]

    def _names(self, modality: str | Sequence[str] | None) -> list[str]:
        """Modalities that a parameter names; all for None."""
        if modality is None:
            return self.modalities_
        names = [modality] if isinstance(modality, str) else list(modality)
        unknown = [name for name in names if name not in self.modalities_]
        if unknown or not names:
            raise ModalityError(f"{modality!r}: the modalities are {self.modalities_}.")
        return sorted(set(names))
