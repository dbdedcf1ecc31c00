"""Fitted trees of scikit-learn as plain arrays, which store and predict without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Forest"]

# Rows that go down all trees at a time.
_CHUNK = 512


@dataclass(frozen=True)
class Forest:
    """Trees as arrays, node after node; independent of the version of scikit-learn.

    Attributes
    ----------
    roots : ndarray of shape (n_trees,)
        First node of each tree.
    left, right : ndarray of shape (n_nodes,)
        Children; a leaf is its own.
    feature : ndarray of shape (n_nodes,)
        Column that a node asks for.
    threshold : ndarray of shape (n_nodes,)
        Values up to this go left.
    missing_left : ndarray of shape (n_nodes,), bool
        Where NaN goes.
    value : ndarray of shape (n_nodes, n_outputs)
        Of the leaves.
    offset : ndarray of shape (n_outputs,)
        Added to the sum over the trees.
    depth : int
        Longest way down.
    """

    roots: np.ndarray
    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    value: np.ndarray
    offset: np.ndarray
    depth: int

    def sums(self, x: np.ndarray) -> np.ndarray:
        """Sum of the leaves that each row reaches, and the offset.

        Parameters
        ----------
        x : ndarray of shape (n, n_columns)
            Rows, NaN where missing.

        Returns
        -------
        ndarray of shape (n, n_outputs)
            What the model predicts, before any link.
        """
        found = np.empty((len(x), self.value.shape[1]))
        for start in range(0, len(x), _CHUNK):
            rows = slice(start, start + _CHUNK)
            found[rows] = self._sums(x[rows])
        return found

    def _sums(self, x: np.ndarray) -> np.ndarray:
        at = np.broadcast_to(self.roots, (len(x), len(self.roots))).copy()
        rows = np.arange(len(x))[:, None]
        for _ in range(self.depth):
            asked = x[rows, self.feature[at]]
            low = asked <= self.threshold[at]
            goes_left = np.where(np.isnan(asked), self.missing_left[at], low)
            at = np.where(goes_left, self.left[at], self.right[at])
        return self.value[at].sum(axis=1, dtype=np.float64) + self.offset

    @classmethod
    def of_boosting(cls, model: Any) -> Forest:
        """Copy the trees of scikit-learn's histogram gradient boosting.

        Parameters
        ----------
        model : HistGradientBoostingClassifier or HistGradientBoostingRegressor
            Fitted.

        Returns
        -------
        Forest
            Its sums are the model's raw predictions.
        """
        # The one place that knows scikit-learn's private layout; a test compares the sums with
        # the public predictions.
        n_outputs = len(model._predictors[0])
        parts = []
        for stage in model._predictors:
            for column, tree in enumerate(stage):
                nodes, leaf = tree.nodes, tree.nodes["is_leaf"].astype(bool)
                value = np.zeros((len(nodes), n_outputs))
                value[leaf, column] = nodes["value"][leaf]
                parts.append(
                    (
                        np.where(leaf, -1, nodes["left"].astype(np.int64)),
                        np.where(leaf, -1, nodes["right"].astype(np.int64)),
                        nodes["feature_idx"],
                        nodes["num_threshold"],
                        nodes["missing_go_to_left"].astype(bool),
                        value,
                        int(nodes["depth"].max()),
                    )
                )
        return cls._join(parts, np.asarray(model._baseline_prediction, dtype=float).reshape(-1))

    @classmethod
    def of_extra_trees(cls, model: Any) -> Forest:
        """Copy scikit-learn's extremely randomised trees.

        Parameters
        ----------
        model : ExtraTreesClassifier or ExtraTreesRegressor
            Fitted.

        Returns
        -------
        Forest
            Its sums are the model's probabilities or means.
        """
        trees = [member.tree_ for member in model.estimators_]
        parts = [
            (
                tree.children_left,
                tree.children_right,
                tree.feature,
                tree.threshold,
                tree.missing_go_to_left.astype(bool),
                tree.value[:, 0] / len(trees),
                int(tree.max_depth),
            )
            for tree in trees
        ]
        return cls._join(parts, np.zeros(parts[0][5].shape[1]))

    @classmethod
    def _join(cls, parts: list[tuple[Any, ...]], offset: np.ndarray) -> Forest:
        left, right, feature, threshold, missing_left, value, depth = zip(*parts, strict=True)
        sizes = np.array([len(part) for part in left])
        roots = np.cumsum(sizes) - sizes
        own = np.arange(sizes.sum())
        first = np.repeat(roots, sizes)
        children = [np.concatenate(side) for side in (left, right)]
        leaf = children[0] < 0
        down = [np.where(leaf, own, child + first) for child in children]
        return cls(
            roots.astype(np.int32),
            down[0].astype(np.int32),
            down[1].astype(np.int32),
            np.where(leaf, 0, np.concatenate(feature)).astype(np.int32),
            np.concatenate(threshold).astype(np.float64),
            np.concatenate(missing_left),
            np.concatenate(value).astype(np.float32),
            offset,
            max(depth),
        )
