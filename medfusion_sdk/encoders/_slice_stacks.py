"""Volumes as stacks of images: each slice through an image network, one vector per volume."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

__all__ = ["SLICE_POOLINGS", "SliceStacks"]

SLICE_POOLINGS = ("mean", "max")


class SliceStacks:
    """Embeds batches of stacks.

    Parameters
    ----------
    embed : callable
        Some prepared images to (n, width).
    size : int
        Images at once.
    pooling : {"mean", "max"}
        What becomes of a stack's vectors.
    """

    def __init__(
        self, embed: Callable[[list[np.ndarray]], np.ndarray], *, size: int, pooling: str
    ) -> None:
        self._embed = embed
        self._size = size
        pools: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "max": np.max}
        self._pool = pools[pooling]

    def __call__(self, stacks: list[np.ndarray]) -> np.ndarray:
        """Embed some volumes.

        Parameters
        ----------
        stacks : list of ndarray of shape (n_slices, 3, height, width)
            Prepared slices of each; their numbers may differ.

        Returns
        -------
        ndarray of shape (n, width), float32
            One row per volume.
        """
        images = [image for stack in stacks for image in stack]
        vectors = np.concatenate(
            [
                self._embed(images[start : start + self._size])
                for start in range(0, len(images), self._size)
            ]
        )
        edges = np.cumsum([0, *map(len, stacks)])
        return np.stack([self._pool(vectors[a:b], axis=0) for a, b in pairwise(edges)])
