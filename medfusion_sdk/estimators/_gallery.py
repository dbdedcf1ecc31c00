"""Rows that can be found again: where each of their modalities lies in the common space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._neighbours import nearest_rows, unit_rows
from medfusion_sdk.exceptions import DataError
from medfusion_sdk.tables import shown_rows

__all__ = ["Gallery", "Query", "own_recall"]

_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Query:
    """Rows to search with.

    Attributes
    ----------
    places : ndarray of shape (Q, d)
        Where they lie; rows of NaN lack what is searched with.
    rows : Index
        Their labels, for messages.
    groups : ndarray of shape (Q,) or None
        Patients whose own rows aren't to be found.
    positions : ndarray of shape (Q,) or None
        Without groups: positions in the gallery that aren't to be found; -1 for none.
    """

    places: np.ndarray
    rows: pd.Index
    groups: np.ndarray | None = None
    positions: np.ndarray | None = None


@dataclass(frozen=True)
class Gallery:
    """Rows that can be found.

    Attributes
    ----------
    places : dict of str to ndarray of shape (n, d), float32
        Unit rows by what they are placed by; zeros where a row lacks it.
    present : dict of str to ndarray of shape (n,), bool
        Which rows have it.
    rows : Index
        What the table called its rows.
    groups : ndarray of shape (n,) or None
        Patient of each row.
    """

    places: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    rows: pd.Index
    groups: np.ndarray | None

    @classmethod
    def of(
        cls, places: Mapping[str, np.ndarray], rows: pd.Index, groups: np.ndarray | None
    ) -> Gallery:
        """Keep rows.

        Parameters
        ----------
        places : mapping of str to ndarray of shape (n, d)
            Where the rows lie by each modality; NaN where they lack it.
        rows : Index
            Their labels.
        groups : ndarray of shape (n,) or None
            Their patients.

        Returns
        -------
        Gallery
            With places as :func:`~medfusion_sdk.estimators._neighbours.unit_rows`.
        """
        present = {name: ~np.isnan(place).any(axis=1) for name, place in places.items()}
        units = {name: unit_rows(np.nan_to_num(place)) for name, place in places.items()}
        return cls(units, present, rows, groups)

    def nearest(self, query: Query, target: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k rows whose target modality is nearest.

        Parameters
        ----------
        query : Query
            What to search with.
        target : str
            What to look at; rows that lack it aren't found.
        k : int
            How many.

        Returns
        -------
        distances : ndarray of shape (Q, k)
            One less the cosine, from the smallest.
        indices : ndarray of shape (Q, k)
            Positions of the rows.

        Raises
        ------
        DataError
            If a query has nothing to search with, or fewer than k rows are there for it.
        """
        lacking = np.flatnonzero(np.isnan(query.places).any(axis=1))
        if len(lacking):
            raise DataError(
                f"{len(lacking)} row(s) lack what is searched with: "
                f"{shown_rows(query.rows, lacking)}. Leave them out, or search by a modality that "
                "they have."
            )
        own, groups = self._own(query)
        similarity, indices = nearest_rows(
            unit_rows(query.places),
            self.places[target],
            k,
            candidate=self.present[target],
            query_groups=own,
            gallery_groups=groups,
        )
        short = np.flatnonzero(indices[:, -1] < 0)
        if len(short):
            n_found = int((indices[short[0]] >= 0).sum())
            raise DataError(
                f"n_neighbors={k}, but row {shown_rows(query.rows, short[:1])} has {n_found} rows "
                f"to find: {int(self.present[target].sum())} of the gallery's {len(self.rows)} "
                "have what is looked for, and its own are left out where asked. Ask for fewer."
            )
        return np.clip(1.0 - similarity, 0.0, 2.0), indices

    def cosines(self, places: np.ndarray, target: str) -> np.ndarray:
        """Cosines of some places with every row.

        Parameters
        ----------
        places : ndarray of shape (Q, d)
            NaN for a row that has none.
        target : str
            What to look at.

        Returns
        -------
        ndarray of shape (Q, n)
            NaN where either row lacks it.
        """
        there = ~np.isnan(places).any(axis=1)
        units = unit_rows(np.nan_to_num(places)).astype(np.float64)
        cosines = units @ self.places[target].T.astype(np.float64)
        cosines[~there] = np.nan
        cosines[:, ~self.present[target]] = np.nan
        return cosines

    def placed(self, name: str) -> np.ndarray:
        """Where the rows lie.

        Parameters
        ----------
        name : str
            By what.

        Returns
        -------
        ndarray of shape (n, d)
            NaN where a row lacks it.
        """
        return np.where(self.present[name][:, None], self.places[name], np.float32("nan"))

    def positions(self, labels: pd.Index) -> np.ndarray:
        """Find rows by their labels.

        Parameters
        ----------
        labels : Index
            Labels of any rows.

        Returns
        -------
        ndarray of int
            Positions here; -1 for a label that isn't here.

        Raises
        ------
        DataError
            If two rows here have one label.
        """
        if not self.rows.is_unique:
            raise DataError(
                "exclude_self finds rows by their index labels, and the gallery has some of them "
                "twice. Make them unique, or pass groups."
            )
        return self.rows.get_indexer(labels)

    def _own(self, query: Query) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Numbers that a query and the rows share that it isn't to find."""
        if query.groups is None:
            own = query.positions
            return own, None if own is None else np.arange(len(self.rows))
        if self.groups is None:
            raise DataError("groups were given, but the gallery has none: pass groups to fit.")
        together = np.concatenate([self.groups.astype(object), query.groups.astype(object)])
        codes = pd.factorize(together)[0]
        return codes[len(self.groups) :], codes[: len(self.groups)]


def own_recall(query: np.ndarray, target: np.ndarray, k: int) -> float:
    """Share of rows that find themselves among the k nearest, by one modality in another.

    Rows that are as near as the right one are in random order: a row counts with its chance.

    Parameters
    ----------
    query, target : ndarray of shape (n, d)
        Places of the same rows; NaN where a row lacks the modality.
    k : int
        How many are looked at.

    Returns
    -------
    float
        Mean over the rows that have both; NaN where none has.
    """
    there = ~np.isnan(target).any(axis=1)
    asked = np.flatnonzero(there & ~np.isnan(query).any(axis=1))
    if not len(asked):
        return float("nan")
    gallery = unit_rows(target[there]).astype(np.float64)
    own = np.cumsum(there)[asked] - 1
    hits = []
    for start in range(0, len(asked), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        cosine = unit_rows(query[asked[part]]).astype(np.float64) @ gallery.T
        right = np.take_along_axis(cosine, own[part, None], axis=1)
        nearer, as_near = (cosine > right).sum(axis=1), (cosine == right).sum(axis=1)
        hits.append(np.clip((k - nearer) / as_near, 0.0, 1.0))
    return float(np.concatenate(hits).mean())
