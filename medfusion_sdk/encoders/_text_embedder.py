"""Token ids -> embeddings with one frozen text model, in a precision that was checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from medfusion_sdk.backbones.devices import resolve_device
from medfusion_sdk.backbones.text import TextBackbone, borrow_text_backbone, pool_states
from medfusion_sdk.backbones.text_source import TextSource
from medfusion_sdk.encoders._precision import Precision

__all__ = ["TextEmbedder"]

# Tokens in a batch: what a core's caches hold, and what fills a GPU.
_CPU_TOKENS = 1024
_GPU_TOKENS = 32768

_CHECKED_TEXTS = 8


class TextEmbedder:
    """Embeds batches of token ids.

    Parameters
    ----------
    user : object
        Who keeps the model alive.
    source : TextSource
        Which model.
    pooling : {"mean", "cls", "last"}
        How token states become one vector.
    normalize : bool
        Whether to scale embeddings to length one.
    device : str
        As in TextEncoder.
    dtype : str
        As in TextEncoder.
    """

    def __init__(
        self,
        user: Any,
        source: TextSource,
        *,
        pooling: str,
        normalize: bool,
        device: str,
        dtype: str,
    ) -> None:
        self.device = resolve_device(device)
        self._user = user
        self._source = source
        self._pooling = pooling
        self._normalize = normalize
        self._precision = Precision(
            dtype, name=source.name, fingerprint=source.fingerprint, device=self.device
        )
        self._backbone = self._borrow(user, self._precision.dtype)

    @property
    def token_budget(self) -> int:
        """Number of tokens that make a batch of good size on this device."""
        return _CPU_TOKENS if self.device.type == "cpu" else _GPU_TOKENS

    def tokenize(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Turn texts into token ids.

        Parameters
        ----------
        texts : sequence of str
            Any texts.
        max_length : int
            Most tokens per text.

        Returns
        -------
        list of list of int
            At least one token each.
        """
        return self._backbone.tokenize(texts, max_length)

    def check(self, token_ids: Sequence[Sequence[int]]) -> None:
        """Make sure of an automatic lower precision; see :class:`Precision`.

        Parameters
        ----------
        token_ids : sequence of sequences of int
            Some texts.
        """
        few = token_ids[:_CHECKED_TEXTS]

        def embed(dtype: torch.dtype) -> torch.Tensor:
            same = dtype is self._precision.dtype
            backbone = self._backbone if same else self._borrow(_Referee(), dtype)
            return _embed(backbone, few, self._pooling)

        self._precision.check(embed)
        self._backbone = self._borrow(self._user, self._precision.dtype)

    def __call__(self, token_ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Embed one batch.

        Parameters
        ----------
        token_ids : sequence of sequences of int
            From :meth:`tokenize`.

        Returns
        -------
        ndarray of shape (batch, width), float32
            One row per text.
        """
        vectors = _embed(self._backbone, token_ids, self._pooling)
        if self._normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return vectors.cpu().numpy()

    def _borrow(self, user: Any, dtype: torch.dtype) -> TextBackbone:
        return borrow_text_backbone(user, self._source, self.device, dtype)


class _Referee:
    """Holds the float32 copy while it is compared with."""


@torch.inference_mode()
def _embed(
    backbone: TextBackbone, token_ids: Sequence[Sequence[int]], pooling: str
) -> torch.Tensor:
    states, mask = backbone(token_ids)
    return pool_states(states, mask, pooling)
