"""Token ids -> embeddings with one frozen text model, in a precision that was checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from medfusion_sdk.backbones.devices import resolve_device
from medfusion_sdk.backbones.text import TextBackbone, borrow_text_backbone, pool_states
from medfusion_sdk.backbones.text_source import TextSource
from medfusion_sdk.backbones.text_windows import TextTokens, TokenIds
from medfusion_sdk.encoders._precision import Precision
from medfusion_sdk.exceptions import WeightsError

__all__ = ["TextEmbedder"]

# Tokens in a batch: what a core's caches hold, and what fills a GPU.
_CPU_TOKENS = 1024
_GPU_TOKENS = 32768

_TINY = 1e-12  # as torch's normalize


class TextEmbedder:
    """Embeds batches of token ids, and joins what belongs to one text.

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

    @property
    def one_length(self) -> bool:
        """Whether a batch has to be of texts of one length."""
        return self._source.padding_leaks

    @property
    def tokens(self) -> TextTokens:
        """The model's tokenizer."""
        return self._backbone.tokens

    def check(self, token_ids: Sequence[TokenIds]) -> None:
        """Make sure of an automatic lower precision; see :class:`Precision`.

        Parameters
        ----------
        token_ids : sequence of sequences of int
            Some texts.
        """

        def embed(dtype: torch.dtype) -> torch.Tensor:
            same = dtype is self._precision.dtype
            backbone = self._backbone if same else self._borrow(_Referee(), dtype)
            return _embed(backbone, token_ids, self._pooling)

        self._precision.check(embed)
        self._backbone = self._borrow(self._user, self._precision.dtype)

    def __call__(self, token_ids: Sequence[TokenIds]) -> np.ndarray:
        """Pool the token states of one batch.

        Parameters
        ----------
        token_ids : sequence of sequences of int
            Windows of texts.

        Returns
        -------
        ndarray of shape (batch, width), float32
            One row per window, not normalised.
        """
        vectors = _embed(self._backbone, token_ids, self._pooling)
        if vectors.shape[1] != self._source.width:
            raise WeightsError(
                f"{self._source.name!r} makes vectors of {vectors.shape[1]} entries, where its "
                f"config.json says {self._source.width}."
            )
        return vectors.cpu().numpy()

    def join(self, vectors: Sequence[np.ndarray], lengths: Sequence[int]) -> np.ndarray:
        """Make one vector of a text's windows.

        Parameters
        ----------
        vectors : sequence of ndarray of shape (width,)
            One per window, in the order of the text.
        lengths : sequence of int
            Tokens of each window.

        Returns
        -------
        ndarray of shape (width,), float32
            The mean over all tokens; over windows, where a window is read out at one token.
        """
        vector = vectors[0]
        if len(vectors) > 1:
            weights = np.asarray(lengths) if self._pooling == "mean" else None
            vector = np.average(np.asarray(vectors, np.float64), axis=0, weights=weights)
        if self._normalize:
            vector = vector / max(float(np.linalg.norm(vector)), _TINY)
        return vector.astype(np.float32)

    def _borrow(self, user: Any, dtype: torch.dtype) -> TextBackbone:
        return borrow_text_backbone(user, self._source, self.device, dtype)


class _Referee:
    """Holds the float32 copy while it is compared with."""


@torch.inference_mode()
def _embed(backbone: TextBackbone, token_ids: Sequence[TokenIds], pooling: str) -> torch.Tensor:
    states, mask = backbone(token_ids)
    return pool_states(states, mask, pooling)
