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
    def even(cls) -> Mixture:
        """Mean of the two.

        Returns
        -------
        Mixture
            For an expert that isn't known to be more reliable than the network.
        """
        return cls(np.array(1.0), np.array(0.5), np.array(0.0))

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

        def spread(scores: np.ndarray) -> np.ndarray:
            return spread_of(scores if kind == "classes" else both_answers(scores), weight)

        network = network.astype(np.float64)
        if kind == "classes":  # of which a network's scores are told up to a constant
            network = network - network.mean(axis=1, keepdims=True)
        seen = spread(network)
        warranted = np.maximum(spread(expert), _LEAST_SPREAD * seen)
        share = np.minimum(1.0, (warranted / np.where(seen > 0, seen, np.inf)) ** 2)
        total = expert + share * network
        found = spread(total)
        scale = np.where(found > 0, warranted / np.where(found > 0, found, 1.0), 1.0)
        center = mean_and_spread(expert, weight)[0] - scale * mean_and_spread(total, weight)[0]
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
