"""Images -> embeddings with one frozen vision model, in a precision that was checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from medfusion_sdk.backbones.devices import resolve_device
from medfusion_sdk.backbones.vision import VisionBackbone, borrow_vision_backbone
from medfusion_sdk.backbones.vision_source import VisionSource
from medfusion_sdk.encoders._precision import Precision

__all__ = ["ImageEmbedder"]

# Patches in a batch: what a core's caches hold, and what fills a GPU.
_CPU_TOKENS, _GPU_TOKENS = 1024, 32768
_USUAL_TOKENS = 256  # of a network that states no patch size


class ImageEmbedder:
    """Embeds batches of eight-bit images.

    Parameters
    ----------
    user : object
        Who keeps the model alive.
    source : VisionSource
        Which model.
    pooling : {"auto", "cls", "mean", "pooler"}
        How its states become one vector.
    device, dtype : str
        As in ImageEncoder.
    """

    def __init__(
        self, user: Any, source: VisionSource, *, pooling: str, device: str, dtype: str
    ) -> None:
        self.device = resolve_device(device)
        self._user = user
        self._source = source
        self._pooling = pooling
        self._precision = Precision(
            dtype, name=source.name, fingerprint=source.fingerprint, device=self.device
        )
        self._backbone = self._borrow(user, self._precision.dtype)

    @property
    def images_at_once(self) -> int:
        """Number of images that make a batch of good size on this device."""
        shape, patch = self._source.pixels.shape, self._source.patch
        tokens = _USUAL_TOKENS
        if shape is not None and patch is not None:
            tokens = (shape[0] // patch) * (shape[1] // patch) + 1
        budget = _CPU_TOKENS if self.device.type == "cpu" else _GPU_TOKENS
        return max(1, budget // tokens)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Resize, cut and scale an image as the model's publishers do.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8
            From :func:`read_image`.

        Returns
        -------
        ndarray of shape (3, height, width), float32
            The network's input.
        """
        return self._source.pixels.prepare(image)

    @property
    def needs_check(self) -> bool:
        """Whether an automatic lower precision is still to be compared with float32."""
        return self._precision.unchecked

    def check(self, images: list[np.ndarray]) -> None:
        """Make sure of an automatic lower precision; see :class:`Precision`.

        Parameters
        ----------
        images : list of ndarray of shape (3, height, width)
            A few prepared images.
        """

        def embed(dtype: torch.dtype) -> torch.Tensor:
            same = dtype is self._precision.dtype
            backbone = self._backbone if same else self._borrow(_Referee(), dtype)
            return torch.cat([self._embed(backbone, image[np.newaxis]) for image in images])

        self._precision.check(embed)
        self._backbone = self._borrow(self._user, self._precision.dtype)

    def __call__(self, images: list[np.ndarray]) -> np.ndarray:
        """Embed one batch.

        Parameters
        ----------
        images : list of ndarray of shape (3, height, width), float32
            Prepared images of one size.

        Returns
        -------
        ndarray of shape (n, width), float32
            One row per image.
        """
        return self._embed(self._backbone, np.stack(images)).cpu().numpy()

    @torch.inference_mode()
    def _embed(self, backbone: VisionBackbone, pixels: np.ndarray) -> torch.Tensor:
        dtype = next(backbone.parameters()).dtype
        return backbone(torch.from_numpy(pixels).to(self.device, dtype), self._pooling)

    def _borrow(self, user: Any, dtype: torch.dtype) -> VisionBackbone:
        return borrow_vision_backbone(user, self._source, self.device, dtype)


class _Referee:
    """Holds the float32 copy while it is compared with."""
