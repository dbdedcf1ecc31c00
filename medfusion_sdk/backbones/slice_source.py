"""A vision model that reads volumes slice by slice, described without torch and its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from medfusion_sdk.backbones.vision_source import VisionSource
from medfusion_sdk.exceptions import ParameterError

__all__ = ["SliceSource"]


@dataclass(frozen=True)
class SliceSource:
    """How a volume becomes one vector of a model for images.

    Attributes
    ----------
    vision : VisionSource
        The model.
    slices : int or None
        How many it reads; None where that is left to `target_size`.
    pooling : str
        How it makes one vector of a slice, as in ImageEncoder.
    slice_pooling : {"mean", "max"}
        How slices' vectors become one.
    """

    vision: VisionSource
    slices: int | None
    pooling: str
    slice_pooling: str

    #: Weights in the layout of a model for volumes; it has none.
    files: ClassVar[tuple[Path, ...]] = ()

    @property
    def name(self) -> str:
        """What the user called the model."""
        return self.vision.name

    @property
    def fingerprint(self) -> str:
        """Digest of weights, configuration and both kinds of pooling."""
        parts = [self.vision.fingerprint, self.pooling, self.slice_pooling]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=32).hexdigest()

    @property
    def width(self) -> int:
        """Entries of a volume's vector."""
        return self.vision.width

    def input_size(self, target_size: Any = None) -> tuple[int, int, int]:
        """Return the size of volume that it is to read.

        Parameters
        ----------
        target_size : sequence of int or None
            Slices, and their height and width; by default the number that was set, of the size
            that the model reads.

        Returns
        -------
        tuple of int
            Depth, height and width.

        Raises
        ------
        ParameterError
            If the size isn't settled, or isn't what the model reads.
        """
        own = self.vision.pixels.shape
        if target_size is None:
            if self.slices is None or own is None:
                raise ParameterError(
                    f"target_size=None: ImageEncoder({self.name!r}, slices=...) doesn't say how "
                    "many slices of which size are read. Set slices= to a number, or target_size= "
                    "to (slices, height, width)."
                )
            return self.slices, *own
        depth, height, width = (int(length) for length in target_size)
        if self.slices not in (None, depth) or own not in (None, (height, width)):
            raise ParameterError(
                f"target_size={tuple(target_size)}: {self.name!r} reads "
                f"{self.slices or 'any number of'} slices of {own or 'any size'}. Leave it None."
            )
        return depth, height, width
