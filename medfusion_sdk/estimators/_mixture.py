"""How the scores of an expert and of a network become one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medfusion_sdk.estimators._ridge_expert import both_answers, spread_of
from medfusion_sdk.estimators._scaling import mean_and_spread

__all__ = ["Mixture"]

# Where the expert finds nothing, this much of the network's spread is left, which ranks the rows.
_LEAST_SPREAD = 0.05


@dataclass(frozen=True)
class Mixture:
    """A weighted sum of two models' scores, as far apart as is warranted.

    Attributes
    ----------
    share : ndarray of shape () or (n_outputs,)
        What the network's scores count beside the expert's.
    scale : ndarray of shape () or (n_outputs,)
        What the sum is multiplied with.
    origin : ndarray of shape () or (n_outputs,)
        What is added then.
    """

    share: np.ndarray
    scale: np.ndarray
    origin: np.ndarray

    @classmethod
    def even(
        cls,
        expert: np.ndarray,
        network: np.ndarray,
        weight: np.ndarray,
        told: np.ndarray,
        *,
        kind: str,
    ) -> Mixture:
        """Let both count alike, for an expert that isn't known to be the more reliable.

        Parameters
        ----------
        expert, network, weight, kind : object
            As of :meth:`fit`.
        told : ndarray of shape (n, n_outputs)
            The expert's scores as far apart as is warranted by what they tell of rows left out;
            the sum is brought to their mean and spread.

        Returns
        -------
        Mixture
            Ready to mix.
        """
        network = _centred(network, kind)
        warranted = np.maximum(
            _spread(told, weight, kind), _LEAST_SPREAD * _spread(network, weight, kind)
        )
        share = np.ones_like(warranted)
        return cls._matched(share, expert + network, told, warranted, weight, kind)

    @classmethod
    def fit(
        cls, expert: np.ndarray, network: np.ndarray, weight: np.ndarray, *, kind: str
    ) -> Mixture:
        """Weigh the network by how far its scores can be believed.

        The expert's weights were learnt from rows that it hadn't seen: its scores are as far apart
        as is warranted, with a spread s. What a network says of the rows that it knows is further
        apart, with a spread S, by noise: the more so the more columns there are. If s is the
        spread of what can be known, then the share (s / S) ** 2 of the network's variance is
        signal, and its scores times that share are the best guess at it; one is the most. The sum
        is brought to the mean and spread of the expert's.

        Parameters
        ----------
        expert : ndarray of shape (n, n_outputs)
            Its scores of training rows, each by models that haven't seen it.
        network : ndarray of shape (n, n_outputs)
            The network's of the same rows, which it has seen.
        weight : ndarray of shape (n,)
            Of the rows.
        kind : {"classes", "labels"}
            What the scores are of.

        Returns
        -------
        Mixture
            Ready to mix.
        """
        network = _centred(network, kind)
        seen = _spread(network, weight, kind)
        warranted = np.maximum(_spread(expert, weight, kind), _LEAST_SPREAD * seen)
        share = np.minimum(1.0, (warranted / np.where(seen > 0, seen, np.inf)) ** 2)
        return cls._matched(share, expert + share * network, expert, warranted, weight, kind)

    @classmethod
    def _matched(
        cls,
        share: np.ndarray,
        total: np.ndarray,
        like: np.ndarray,
        warranted: np.ndarray,
        weight: np.ndarray,
        kind: str,
    ) -> Mixture:
        """Bring a sum to the mean of some scores, and to the spread that is warranted."""
        found = _spread(total, weight, kind)
        scale = np.where(found > 0, warranted / np.where(found > 0, found, 1.0), 1.0)
        center = mean_and_spread(like, weight)[0] - scale * mean_and_spread(total, weight)[0]
        return cls(share, scale, center)

    def __call__(self, expert: np.ndarray, network: np.ndarray) -> np.ndarray:
        """Mix scores.

        Parameters
        ----------
        expert, network : ndarray of shape (n, n_outputs)
            Of the same rows.

        Returns
        -------
        ndarray of shape (n, n_outputs)
            As exact as they are.
        """
        mixed = self.scale * (expert + self.share * network) + self.origin
        return mixed.astype(network.dtype)


def _spread(scores: np.ndarray, weight: np.ndarray, kind: str) -> np.ndarray:
    return spread_of(scores if kind == "classes" else both_answers(scores), weight)


def _centred(network: np.ndarray, kind: str) -> np.ndarray:
    """Scores in full precision; of classes, of which they are told up to a constant, around 0."""
    scores = network.astype(np.float64)
    return scores - scores.mean(axis=1, keepdims=True) if kind == "classes" else scores
