"""What TGMM's estimators of a diagnosis share: the experts beside the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pandas as pd

from medfusion_sdk._parameters import FLAG, Allowed, OneOf
from medfusion_sdk.estimators._expert import Expert, fit_beside, trees_suffice
from medfusion_sdk.estimators._mixture import Mixture
from medfusion_sdk.estimators._network_estimator import TrainingTable
from medfusion_sdk.estimators._networks import probabilities_of
from medfusion_sdk.estimators._raw_columns import RawRows
from medfusion_sdk.estimators._ridge_expert import (
    RidgeExpert,
    fit_ridge_expert,
    ridge_suffices,
    weigh,
)
from medfusion_sdk.estimators._rows import values_of
from medfusion_sdk.estimators._scaling import find_embeddings
from medfusion_sdk.estimators._tgmm import TGMMBase

__all__ = ["TGMMDiagnosis"]

# Trees read embeddings up to this width: in wider ones single columns say little, and cost much.
_TREE_WIDTH = 128


class TGMMDiagnosis(TGMMBase):
    """Base of the estimators with a diagnosis among their tasks.

    A subclass's fit calls :meth:`_fit_expert` before the network learns, and
    :meth:`_weigh_network` after.
    """

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **TGMMBase._allowed,
        "expert": FLAG | OneOf("auto"),
    }

    expert: bool | str
    expert_: Expert | None
    ridge_expert_: RidgeExpert | None
    _mixture: Mixture | None
    _tree_columns: np.ndarray

    def _fit_expert(
        self, table: TrainingTable, codes: np.ndarray, kind: str, known: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Fit the experts on the rows with a known diagnosis.

        Returns the scores of the table's rows by the ridge expert, or by trees where there is no
        such expert, each by models that haven't seen it, NaN where nothing was learnt from it;
        None where there is no expert.
        """
        self.expert_ = self.ridge_expert_ = self._mixture = None
        rows = table.kept if known is None else table.kept[known[table.kept]]
        y, n_classes = codes[rows], len(table.targets.classes)
        every = kind == "labels" or len(np.unique(y)) == n_classes
        if self.expert is False or n_classes < 2 or not len(rows):
            return None
        trees = None
        embeddings = self._sort_columns(values_of(table.X)[rows], table.weight[rows])
        if every and trees_suffice(y, kind, table.groups[rows]):
            trees = self._fit_trees(table, codes, rows, kind)
            if trees is not None and not embeddings:
                scores = np.full_like(trees, np.nan)
                scores[rows] = trees[rows]
                return scores
        if self.expert == "auto" and not (every and ridge_suffices(y, table.groups[rows])):
            return None
        x, present = self._scaling.apply(values_of(table.X), table.rows)
        self.ridge_expert_, own = fit_ridge_expert(
            x[rows],
            present[rows],
            self._scaling.dims,
            y,
            table.weight[rows],
            table.groups[rows],
            n_classes=n_classes,
            trees=None if trees is None else trees[rows],
            seed=self._seed,
        )
        scores = np.full((len(x), own.shape[1]), np.nan)
        scores[rows] = own
        return scores

    def _fit_trees(
        self, table: TrainingTable, codes: np.ndarray, rows: np.ndarray, kind: str
    ) -> np.ndarray | None:
        """Fit the trees; returns their scores of all rows, by trees that haven't seen them."""
        self.expert_, scores = fit_beside(
            self._plain(table.X),
            codes,
            table.weight,
            table.groups,
            rows,
            wanted=True,
            kind=kind,
            seed=self._seed,
        )
        return scores

    def _sort_columns(self, values: np.ndarray, weight: np.ndarray) -> list[str]:
        """Choose the columns that trees read; returns the modalities that are embeddings."""
        blocks = self._scaling.blocks
        embeddings = find_embeddings(values, weight, blocks)
        read = [
            columns
            for name, columns in blocks.items()
            if name not in embeddings or len(columns) <= _TREE_WIDTH
        ]
        self._tree_columns = np.concatenate([np.zeros(0, dtype=int), *read])
        return embeddings

    def _weigh_network(self, table: TrainingTable, scores: np.ndarray | None, kind: str) -> None:
        """Put the trained network beside the expert, by the scores of :meth:`_fit_expert`."""
        if scores is None:
            return
        rows = ~np.isnan(scores).any(axis=1)
        network = self._outputs(table.X, table.rows)["logits"]
        parts = scores[rows], network[rows], table.weight[rows]
        if self.ridge_expert_ is not None:
            self._mixture = Mixture.fit(*parts, kind=kind)
            return
        trees, _, weight = parts
        _, factor, intercept = weigh(trees[:, None], table.targets.codes[rows], weight)
        self._mixture = Mixture.even(*parts, trees * factor[0] + intercept, kind=kind)

    def _plain(self, X: np.ndarray | RawRows) -> np.ndarray:
        """Columns as they are: for trees."""
        return values_of(X)[:, self._tree_columns]

    def _expert_scores(self, X: np.ndarray | RawRows, rows: pd.Index) -> np.ndarray:
        trees = None if self.expert_ is None else self.expert_.scores(self._plain(X))
        if self.ridge_expert_ is None:
            assert trees is not None
            return trees
        return self.ridge_expert_.scores(self._scaling.apply(values_of(X), rows)[0], trees)

    def _outputs(self, X: np.ndarray | RawRows, rows: pd.Index) -> dict[str, np.ndarray]:
        out = super()._outputs(X, rows)
        if self._mixture is None or "logits" not in out:
            return out
        expert = self._expert_scores(X, rows).astype(out["logits"].dtype)
        logits = self._mixture(expert, out["logits"])
        multilabel = bool(self.architecture_["heads"]["diagnosis"].get("multilabel"))
        scores = {"proba": logits, "proba_expert": expert, "proba_network": out["logits"]}
        answers = {name: probabilities_of(own, multilabel) for name, own in scores.items()}
        return out | {"logits": logits} | answers
