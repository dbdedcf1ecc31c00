"""What the benchmarks of retrieval share: simple ways to search across two blocks, and ours.

A search learns from pairs and compares each row's one block with every row's other block, both
ways. What a simple one has to choose is chosen by Recall@5 on three grouped folds of the training
rows; TGMMRetriever has its defaults.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import normalize

from medfusion_sdk import TGMMRetriever
from medfusion_sdk.metrics import recall_at_k

__all__ = ["SIMPLE", "Part", "Search", "Searched", "cosines", "search_all", "tgmm"]


class Part(NamedTuple):
    """Rows of a fold: a table of two blocks, labels, whose rows they are."""

    blocks: pd.DataFrame
    labels: np.ndarray
    groups: np.ndarray

    @property
    def names(self) -> list[str]:
        """Names of the two blocks, in the order of the columns."""
        return list(dict.fromkeys(name.partition("__")[0] for name in self.blocks.columns))

    @property
    def first(self) -> np.ndarray:
        """The first block."""
        return self.blocks.filter(like=f"{self.names[0]}__").to_numpy(float)

    @property
    def second(self) -> np.ndarray:
        """The second block."""
        return self.blocks.filter(like=f"{self.names[1]}__").to_numpy(float)

    def take(self, rows: np.ndarray) -> Part:
        """Some of the rows."""
        return Part(self.blocks.iloc[rows], self.labels[rows], self.groups[rows])


# Similarities of a test fold's first blocks (rows) and second ones (columns), and the other way.
Searched = tuple[np.ndarray, np.ndarray]
Search = Callable[[Part, Part], Searched]


def cosines(a: np.ndarray, b: np.ndarray) -> Searched:
    """Similarities both ways."""
    found = normalize(a) @ normalize(b).T
    return found, found.T


def chance(_: Part, test: Part) -> Searched:
    """All alike, so that a random order decides."""
    same = np.zeros((len(test.blocks), len(test.blocks)))
    return same, same


def most_typical(train: Part, test: Part) -> Searched:
    """The same answer to every query: what is nearest to the training rows' mean."""

    def typical(fitted: np.ndarray, new: np.ndarray) -> np.ndarray:
        scores = normalize(new) @ normalize(fitted).mean(axis=0)
        return np.tile(scores, (len(new), 1))

    return typical(train.second, test.second), typical(train.first, test.first)


def nearest_rows(train: Part, test: Part, k: int) -> Searched:
    """Go by the k training rows nearest to the query: what they hold of the other block."""

    def through(own: np.ndarray, query: np.ndarray, other: np.ndarray, gallery: np.ndarray) -> Any:
        nearest = np.argsort(-(normalize(query) @ normalize(own).T), axis=1)[:, :k]
        return cosines(normalize(other)[nearest].mean(axis=1), gallery)[0]

    return (
        through(train.first, test.first, train.second, test.second),
        through(train.second, test.second, train.first, test.first),
    )


def ridge(train: Part, test: Part, alpha: float) -> Searched:
    """Predict the second block from the first, and compare."""
    centre = train.second.mean(axis=0)
    model = KernelRidge(alpha=alpha).fit(train.first, train.second - centre)
    return cosines(model.predict(test.first), test.second - centre)


def cca(train: Part, test: Part, n_components: int, n_principal: int | None = None) -> Searched:
    """scikit-learn's CCA, on principal components or on the blocks as they are."""
    one, other, new_one, new_other = train.first, train.second, test.first, test.second
    if n_principal is not None:
        sizes = [min(n_principal, *x.shape) for x in (one, other)]
        pca = [PCA(n, random_state=0).fit(x) for n, x in zip(sizes, (one, other), strict=True)]
        one, other, new_one, new_other = (
            pca[i % 2].transform(x) for i, x in enumerate((one, other, new_one, new_other))
        )
    with warnings.catch_warnings():
        # More steps change nothing that shows in the scores.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = CCA(n_components, max_iter=1000).fit(one, other)
    return cosines(*model.transform(new_one, new_other))


def tgmm(train: Part, test: Part, labelled: bool) -> Searched:
    """Ours, with its defaults."""
    retriever = TGMMRetriever(random_state=0, keep_gallery=False)
    retriever.fit(train.blocks, train.labels if labelled else None, groups=train.groups)
    there = partial(retriever.similarity, test.blocks, test.blocks)
    one, other = train.names
    return there(query=one, target=other), there(query=other, target=one)


def tuned(search: Callable[..., Searched], grid: list[dict[str, Any]]) -> Search:
    """Choose by Recall@5, mean of both ways, on folds of the training rows."""

    def chosen(train: Part, test: Part) -> Searched:
        folds = list(GroupKFold(3).split(train.blocks, groups=train.groups))
        scores = [
            np.mean(
                [
                    recall_at_k(np.eye(len(held)), np.round(found, 6), k=5)
                    for kept, held in folds
                    for found in search(train.take(kept), train.take(held), **options)
                ]
            )
            for options in grid
        ]
        return search(train, test, **grid[int(np.argmax(scores))])

    return chosen


SIMPLE: Mapping[str, Search] = {
    "chance": chance,
    "most typical first": most_typical,
    "nearest training rows": tuned(nearest_rows, [{"k": k} for k in (1, 3, 5, 10, 20)]),
    "ridge regression": tuned(ridge, [{"alpha": a} for a in (0.03, 0.1, 0.3, 1.0, 3.0)]),
    "CCA on the blocks": tuned(cca, [{"n_components": n} for n in (5, 10, 20)]),
    "CCA on principal components": tuned(
        cca,
        [{"n_components": n, "n_principal": p} for n, p in product((5, 10, 20), (20, 40, 60, 100))],
    ),
}


def search_all(
    searches: Mapping[str, Search],
    partitions: Iterable[Iterable[tuple[Part, Part, np.ndarray]]],
    n_rows: int,
) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    """Search every fold with every method.

    Parameters
    ----------
    searches : mapping of str to callable
        The methods.
    partitions : iterable
        Each gives its folds: training part, test part, and the positions of the latter's rows.
    n_rows : int
        Rows in all.

    Returns
    -------
    scores : dict of str to list of two ndarrays
        Similarities by direction, partition below partition; NaN off the fold.
    sizes : ndarray of int
        Rows of each fold.
    """
    parts: dict[str, list[list[np.ndarray]]] = {name: [[], []] for name in searches}
    sizes = []
    for i, folds in enumerate(partitions):
        for both in parts.values():
            for direction in both:
                direction.append(np.full((n_rows, n_rows), np.nan))
        for train, test, rows in folds:
            sizes.append(len(rows))
            for name, search in searches.items():
                for direction, found in zip(parts[name], search(train, test), strict=True):
                    # Cosines of equal rows differ in their last bits.
                    direction[-1][np.ix_(rows, rows)] = np.round(found, 6)
        print(f"partition {i + 1} done", flush=True)
    return {name: [np.vstack(x) for x in both] for name, both in parts.items()}, np.array(sizes)
