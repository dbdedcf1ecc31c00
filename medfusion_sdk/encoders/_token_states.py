"""Frozen token states: what a text's tokens are after a language model's lower layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from medfusion_sdk.encoders._batching import compute_batches, plan_batches
from medfusion_sdk.encoders.base import _Run
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.readers.cells import Column

__all__ = ["TokenStateEncoder"]

_TOKENS_PER_BATCH = 1024


class TokenStateEncoder(TextEncoder):
    """Turn texts into the token states that enter a layer of a frozen language model.

    They depend on nothing that is trained, so they are computed once and kept as embeddings are.

    Parameters
    ----------
    backbone : str or path, default="minilm"
        As in :class:`TextEncoder`.
    n_layers : int, default=0
        Layers that the texts have gone through.
    max_length : int or None, default=None
        Tokens per text at most; the head of a longer one is kept.
    dtype : {"float32", "float64"}, default="float32"
        What they are computed and kept in.
    revision, allow_download, on_error, device, cache
        As in :class:`TextEncoder`.
    """

    def __init__(
        self,
        backbone: Any = "minilm",
        *,
        n_layers: int = 0,
        max_length: int | None = None,
        dtype: str = "float32",
        revision: str | None = None,
        allow_download: bool = False,
        on_error: str = "raise",
        device: str = "auto",
        cache: Any = None,
    ) -> None:
        super().__init__(
            backbone,
            max_length=max_length,
            dtype=dtype,
            revision=revision,
            allow_download=allow_download,
            on_error=on_error,
            device=device,
            cache=cache,
        )
        self.n_layers = n_layers

    def token_states(self, column: Column) -> list[np.ndarray | None]:
        """Compute the states of a column's texts.

        Parameters
        ----------
        column : Column
            Texts; missing ones are None.

        Returns
        -------
        list of ndarray of shape (tokens, width), or None
            One per row, in the order of the rows; None where the text is missing.
        """
        self._check_expected_backbone()
        run = _Run(self, column)
        run.collect_items()
        states: list[np.ndarray | None] = [None] * len(column)
        for rows, found in zip(run.positions, run.vectors(), strict=True):
            for row in rows:
                states[row] = found
        self.errors_ = run.report()
        return states

    def _configuration(self) -> dict[str, Any]:
        source = self._source()
        return {
            "n_layers": self.n_layers,
            "max_length": self._max_length(source),
            "dtype": self.dtype,
        }

    def _encode(
        self, cells: Sequence[Any], run: _Run
    ) -> Iterable[tuple[Sequence[int], np.ndarray]]:
        import torch

        from medfusion_sdk.backbones.devices import resolve_device
        from medfusion_sdk.backbones.language_model import LanguageModel
        from medfusion_sdk.backbones.text import borrow_text_backbone
        from medfusion_sdk.nn.ragged import Ragged

        source, device = self._source(), resolve_device(self.device)
        backbone = borrow_text_backbone(self, source, device, getattr(torch, self.dtype))
        lower = LanguageModel(backbone).segment(0, self.n_layers, embeds=True)
        tokens = backbone.tokenize([self._text(cell) for cell in cells], self._max_length(source))
        sizes = [len(ids) for ids in tokens]

        @torch.no_grad()
        def compute(batch: list[int]) -> np.ndarray:
            ids, mask = Ragged.of([torch.tensor(tokens[i]) for i in batch]).padded()
            return lower(ids.to(device), mask.to(device)).cpu().numpy()

        batches = plan_batches(sizes, budget=_TOKENS_PER_BATCH)
        for batch, states in compute_batches(batches, compute, sizes=sizes, device=device):
            lengths = np.array([sizes[i] for i in batch])
            for length in np.unique(lengths):
                equal = np.flatnonzero(lengths == length)
                yield [batch[i] for i in equal], states[equal, :length]
