"""Token ids -> embeddings with one frozen text model, in a precision that was checked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from medfusion_sdk.backbones.devices import resolve_device
from medfusion_sdk.backbones.precision import DTYPES, fast_dtype
from medfusion_sdk.backbones.text import TextBackbone, borrow_text_backbone, pool_states
from medfusion_sdk.backbones.text_source import TextSource
from medfusion_sdk.exceptions import EncoderWarning

__all__ = ["TextEmbedder"]

# Tokens in a batch: what a core's caches hold, and what fills a GPU.
_CPU_TOKENS = 1024
_GPU_TOKENS = 32768

_LEAST_COSINE = 0.999
_CHECKED_TEXTS = 8
# What the check found, per process: (fingerprint, device) -> dtype.
_verdicts: dict[tuple[str, torch.device], torch.dtype] = {}


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
        self._unchecked = False
        if dtype == "auto":
            verdict = _verdicts.get((source.fingerprint, self.device))
            self._dtype = verdict or fast_dtype(self.device)
            self._unchecked = verdict is None and self._dtype is not torch.float32
        else:
            self._dtype = DTYPES[dtype]
        self._backbone = self._borrow(user, self._dtype)

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
        """Compare an automatic lower precision with float32, and leave it where they differ.

        Parameters
        ----------
        token_ids : sequence of sequences of int
            Some texts; once per process, model and device a few of them are embedded twice.

        Warns
        -----
        EncoderWarning
            If they differ.
        """
        if not self._unchecked:
            return
        self._unchecked = False
        few = token_ids[:_CHECKED_TEXTS]
        exact = _embed(self._borrow(_Referee(), torch.float32), few, self._pooling)
        fast = _embed(self._backbone, few, self._pooling)
        cosine = float(torch.nn.functional.cosine_similarity(exact, fast).min())
        if not cosine >= _LEAST_COSINE:  # also where it is NaN
            warnings.warn(
                f"{self._source.name!r} in {self._dtype} agrees with float32 only to a cosine of "
                f"{cosine:.4f} (at least {_LEAST_COSINE} is asked for); going on in float32.",
                EncoderWarning,
                stacklevel=2,
            )
            self._dtype = torch.float32
            self._backbone = self._borrow(self._user, torch.float32)
        _verdicts[self._source.fingerprint, self.device] = self._dtype

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
