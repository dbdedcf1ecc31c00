"""Prepared pixels -> embeddings with one frozen network, in a precision that was checked.

For images, and for whatever else is made of them: videos, volumes by their slices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from medfusion_sdk.backbones.devices import resolve_device
from medfusion_sdk.encoders._precision import Precision

__all__ = ["PixelEmbedder"]


class _Source(Protocol):
    """What is known of a network before it is loaded."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


Source = TypeVar("Source", bound=_Source)


class PixelEmbedder:
    """Embeds batches of prepared pixels.

    Parameters
    ----------
    user : object
        Who keeps the network alive.
    source : VisionSource or VideoSource
        Which network.
    borrow : callable
        ``borrow(user, source, device, dtype)`` gives the network.
    vector : str
        Which vector it is to make; its second argument.
    device, dtype : str
        As in ImageEncoder.
    """

    def __init__(
        self,
        user: Any,
        source: Source,
        borrow: Callable[[Any, Source, torch.device, torch.dtype], torch.nn.Module],
        *,
        vector: str,
        device: str,
        dtype: str,
    ) -> None:
        self.device = resolve_device(device)
        self._user = user
        self._vector = vector
        self._precision = Precision(
            dtype, name=source.name, fingerprint=source.fingerprint, device=self.device
        )
        self._borrow = lambda user, dtype: borrow(user, source, self.device, dtype)
        self._backbone = self._borrow(user, self._precision.dtype)

    @property
    def needs_check(self) -> bool:
        """Whether an automatic lower precision is still to be compared with float32."""
        return self._precision.unchecked

    def check(self, items: list[np.ndarray]) -> None:
        """Make sure of an automatic lower precision; see :class:`Precision`.

        Parameters
        ----------
        items : list of ndarray
            A few prepared items.
        """

        def embed(dtype: torch.dtype) -> torch.Tensor:
            same = dtype is self._precision.dtype
            backbone = self._backbone if same else self._borrow(_Referee(), dtype)
            return torch.cat([self._embed(backbone, item[np.newaxis]) for item in items])

        self._precision.check(embed)
        self._backbone = self._borrow(self._user, self._precision.dtype)

    def __call__(self, items: list[np.ndarray]) -> np.ndarray:
        """Embed one batch.

        Parameters
        ----------
        items : list of ndarray, float32
            Prepared items of one shape.

        Returns
        -------
        ndarray of shape (n, width), float32
            One row per item.
        """
        return self._embed(self._backbone, np.stack(items)).cpu().numpy()

    @torch.inference_mode()
    def _embed(self, backbone: torch.nn.Module, pixels: np.ndarray) -> torch.Tensor:
        dtype = next(backbone.parameters()).dtype
        return backbone(torch.from_numpy(pixels).to(self.device, dtype), self._vector).float()


class _Referee:
    """Holds the float32 copy while it is compared with."""
