"""A linear-Gaussian model of several modalities, and the best that any classifier can do in it.

Every label (or class axis) has one latent that all modalities observe and one of each modality's
own::

    s   = shared * code + N(0, 1)                       the same s in every modality
    p_m = private_m * code + N(0, 1)                    for modality m alone
    o_m = (loading_m * s, p_m) + noise_m * N(0, 1)      what modality m tells of them

Given the code, everything is normal with a covariance that doesn't depend on it. So the best
classifier is linear, and what it reaches follows from the separation of the classes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.integrate import quad
from scipy.linalg import helmert
from scipy.special import expit, softmax
from scipy.stats import norm

# An exact observation is the limit of small noise; this small, no probability changes.
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class LatentModel:
    """Strength of the signal in each modality; arrays have one entry per modality."""

    shared: float
    loading: np.ndarray
    private: np.ndarray
    noise: np.ndarray
    n_classes: int
    multilabel: bool
    prevalence: float

    @property
    def n_axes(self) -> int:
        """Latents of a kind: one per label, or one fewer than classes."""
        return self.n_classes if self.multilabel else self.n_classes - 1

    @property
    def vertices(self) -> np.ndarray:
        """Code of each class, (n_classes, n_axes): all at distance one from each other."""
        return -helmert(self.n_classes).T / np.sqrt(2)

    @property
    def _variance(self) -> np.ndarray:
        return np.maximum(self.noise**2, _LEAST_VARIANCE)

    @property
    def _log_odds(self) -> float:
        return float(np.log(self.prevalence / (1 - self.prevalence)))

    def codes(self, y: np.ndarray) -> np.ndarray:
        """Place targets on the latent axes, (rows, n_axes)."""
        return y - 0.5 if self.multilabel else self.vertices[y]

    def observe(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw what each modality tells: (rows, modalities, 2 * n_axes), shared axes first."""
        n_rows, n_axes = codes.shape
        n_modalities = len(self.loading)
        common = self.shared * codes + rng.standard_normal((n_rows, n_axes))
        own = rng.standard_normal((n_rows, n_modalities, n_axes))
        own += self.private[:, None] * codes[:, None, :]
        told = np.concatenate([self.loading[:, None] * common[:, None, :], own], axis=2)
        return told + self.noise[:, None] * rng.standard_normal(told.shape)

    def spread(self) -> np.ndarray:
        """Return the standard deviation of what is told, (modalities, 2 * n_axes)."""
        scatter = self.prevalence * (1 - self.prevalence)
        if self.n_classes > 2 and not self.multilabel:
            scatter = 1 / (2 * self.n_classes)
        common = self.loading**2 * (1 + self.shared**2 * scatter) + self.noise**2
        own = 1 + self.private**2 * scatter + self.noise**2
        return np.sqrt(np.repeat(np.column_stack([common, own]), self.n_axes, axis=1))

    def separation(self, present: np.ndarray) -> np.ndarray:
        """Mahalanobis distance of two classes, given which modalities are present (..., M)."""
        precision = (present * self.loading**2 / self._variance).sum(axis=-1)
        common = self.shared**2 * precision / (1 + precision)
        own = (present * self.private**2 / (1 + self._variance)).sum(axis=-1)
        return np.sqrt(common + own)

    def posterior(self, told: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Return the exact class probabilities of each row, in ``predict_proba``'s layout."""
        precision = (present * self.loading**2 / self._variance).sum(axis=1)
        share = self.shared * self.loading / self._variance * present / (1 + precision)[:, None]
        own = self.private / (1 + self._variance) * present
        evidence = np.einsum("nm,nma->na", share, told[:, :, : self.n_axes])
        evidence += np.einsum("nm,nma->na", own, told[:, :, self.n_axes :])
        if self.multilabel:
            return expit(evidence + self._log_odds)
        logits = evidence @ self.vertices.T
        if self.n_classes == 2:
            logits[:, 1] += self._log_odds
        return softmax(logits, axis=1)

    def optimum(self, names: list[str], present: np.ndarray) -> pd.DataFrame:
        """Tabulate the optimum of each subset of modalities, and of what the rows have."""
        subsets = [
            list(subset)
            for size in range(1, len(names) + 1)
            for subset in combinations(range(len(names)), size)
        ]
        rows = {}
        for subset in subsets:
            pattern = np.isin(np.arange(len(names)), subset)[None, :]
            rows["+".join(names[i] for i in subset)] = self._reached(pattern, np.ones(1))
        patterns, counts = np.unique(present, axis=0, return_counts=True)
        rows["available"] = self._reached(patterns, counts / counts.sum())
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("modalities")

    def _reached(self, patterns: np.ndarray, frequency: np.ndarray) -> dict[str, float]:
        """Optimum where rows have patterns of present modalities with these frequencies."""
        distance = self.separation(patterns)
        accuracy = frequency @ [self._accuracy(float(d)) for d in distance]
        if self.n_classes > 2 and not self.multilabel:
            return {"accuracy": float(accuracy)}
        # Log-odds are N(-d^2/2, d^2) and N(d^2/2, d^2) in the two classes, and rows of all
        # patterns are ranked together: a positive of one against a negative of another.
        pooled = norm.cdf(np.hypot.outer(distance, distance) / 2)
        return {"auroc": float(frequency @ pooled @ frequency), "accuracy": float(accuracy)}

    def _accuracy(self, distance: float) -> float:
        """Accuracy of the best decision; of all labels at once where there are several."""
        if self.n_classes > 2 and not self.multilabel:
            # Equidistant normals: the own one is the largest of n_classes independent ones.
            power = self.n_classes - 1
            shift = distance / np.sqrt(2)
            return quad(lambda t: norm.pdf(t - shift) * norm.cdf(t) ** power, -np.inf, np.inf)[0]
        if distance == 0:
            single = max(self.prevalence, 1 - self.prevalence)
        else:
            offset = self._log_odds / distance
            single = self.prevalence * norm.cdf(distance / 2 + offset)
            single += (1 - self.prevalence) * norm.cdf(distance / 2 - offset)
        return float(single) ** (self.n_classes if self.multilabel else 1)
