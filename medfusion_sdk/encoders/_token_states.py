"""Frozen token states: what a text's tokens are after a language model's lower layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from medfusion_sdk.backbones.text_windows import window_lengths
from medfusion_sdk.encoders._batching import plan_batches
from medfusion_sdk.encoders._text_windows import compute_texts, parts, warn_of_cut_items
from medfusion_sdk.encoders.base import _Run
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.readers.cells import Column
from medfusion_sdk.readers.paths import refuse_paths

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
        Tokens that are read at a time.
    long : {"cut", "chunks"}, default="cut"
        As in :class:`TextEncoder`.
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
        long: str = "cut",
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
            long=long,
            dtype=dtype,
            revision=revision,
            allow_download=allow_download,
            on_error=on_error,
            device=device,
            cache=cache,
        )
        self.n_layers = n_layers

    def token_states(self, column: Column, *, tell: bool = True) -> list[list[np.ndarray] | None]:
        """Compute the states of a column's texts.

        Parameters
        ----------
        column : Column
            Texts; missing ones are None.
        tell : bool, default=True
            Whether to warn of texts that are cut.

        Returns
        -------
        list of list of ndarray of shape (tokens, width), or None
            The windows of each row's text, in the order of the rows; None where it is missing.

        Warns
        -----
        EncoderWarning
            With ``long="cut"``, if texts are longer than what is read of them.
        """
        self._check_expected_backbone()
        refuse_paths(column.cells, column.rows, column.name)
        run = _Run(self, column)
        run.collect_items()
        values = run.vectors()
        if tell and self.long == "cut":
            lengths = [None if value is None else value[-1, 0] for value in values]
            warn_of_cut_items(run, lengths, self._max_length(self._source()))
        states: list[list[np.ndarray] | None] = [None] * len(column)
        for rows, value in zip(run.positions, values, strict=True):
            for row in rows:
                states[row] = None if value is None else _split(value)
        self.errors_ = run.report()
        return states

    def _configuration(self) -> dict[str, Any]:
        source = self._source()
        return {
            "n_layers": self.n_layers,
            "max_length": self._max_length(source),
            "long": self.long,
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

        @torch.no_grad()
        def compute(batch: Sequence[np.ndarray]) -> np.ndarray:
            ids, mask = Ragged.of(
                [torch.from_numpy(ids.astype(np.int64)) for ids in batch]
            ).padded()
            return lower(ids.to(device), mask.to(device)).cpu().numpy()

        texts = [self._text(cell) for cell in cells]
        plan = partial(plan_batches, budget=_TOKENS_PER_BATCH)
        for part in parts(texts):
            windows, lengths = backbone.tokens.windows(
                [texts[i] for i in part], self._max_length(source), self.long
            )
            for found in compute_texts(windows, compute, plan, device):
                values = {
                    place: _kept(states, windows[place], lengths[place]) for place, states in found
                }
                for n_tokens in {len(value) for value in values.values()}:
                    equal = [place for place in values if len(values[place]) == n_tokens]
                    yield [part[i] for i in equal], np.stack([values[i] for i in equal])


def _kept(states: Sequence[np.ndarray], windows: Sequence[np.ndarray], n_tokens: int) -> np.ndarray:
    """Put a text's windows end to end, and behind them how long it is, and how many they are."""
    own = [found[: len(ids)] for found, ids in zip(states, windows, strict=True)]
    told = np.zeros_like(own[0][:1])
    told[0, :2] = n_tokens, len(windows)
    return np.concatenate([*own, told])


def _split(value: np.ndarray) -> list[np.ndarray]:
    """Windows of a kept text."""
    states, n_windows = value[:-1], int(value[-1, 1])
    return np.split(states, np.cumsum(window_lengths(len(states), n_windows))[:-1])
