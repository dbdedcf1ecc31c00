"""Sizes of a vision transformer on volumes, as plain values: importable without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["ViT3DShape"]


class ViT3DShape(NamedTuple):
    """Sizes of the network.

    Attributes
    ----------
    image_size, patch_size : tuple of int
        Depth, height and width in voxels; the one a multiple of the other.
    width : int
        Entries of a token's state.
    n_layers, n_heads : int
        Blocks, and attention heads of each.
    mlp_width : int
        Hidden units of each block's perceptron.
    """

    image_size: tuple[int, int, int]
    patch_size: tuple[int, int, int]
    width: int
    n_layers: int
    n_heads: int
    mlp_width: int

    def grid(self, size: Sequence[int] | None = None) -> tuple[int, ...]:
        """Count patches along each axis.

        Parameters
        ----------
        size : sequence of int, optional
            Of the volume; `image_size` by default.

        Returns
        -------
        tuple of int
            Their product is the number of tokens without the class token.
        """
        size = self.image_size if size is None else size
        return tuple(length // patch for length, patch in zip(size, self.patch_size, strict=True))
