"""Encoders of which a part can learn: what their networks read, and these with a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medfusion_sdk.backbones.pool import FrozenModule
from medfusion_sdk.backbones.st_mem import StMem, borrow_st_mem, find_st_mem
from medfusion_sdk.backbones.st_mem_signals import prepare
from medfusion_sdk.backbones.text import TextBackbone, borrow_text_backbone, pool_states
from medfusion_sdk.backbones.vision import VisionBackbone, borrow_vision_backbone
from medfusion_sdk.backbones.vision_slices import slice_vectors
from medfusion_sdk.encoders.base import BaseEncoder
from medfusion_sdk.encoders.image import ImageEncoder
from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.nn.ragged import Ragged, mean_of_parts

__all__ = ["Inputs", "frozen_network", "network_inputs"]

Inputs = Tensor | Ragged


def frozen_network(encoder: BaseEncoder, device: torch.device) -> nn.Module:
    """Return the network of an encoder: from what it reads to the encoder's vectors.

    Parameters
    ----------
    encoder : TextEncoder, ImageEncoder, or SignalEncoder of ST-MEM
        Which; keeps the shared part alive.
    device : torch.device
        Where to.

    Returns
    -------
    Module
        In float32; maps :func:`network_inputs` to (n, n_features).

    Raises
    ------
    ParameterError
        For an ImageEncoder that reads volumes of any number of slices, and for a text model to
        which padding isn't nothing.
    """
    if isinstance(encoder, TextEncoder):
        source = encoder._source()
        if source.padding_leaks:
            raise ParameterError(
                f"the model of {encoder!r} can't learn: what a text is to it depends on the "
                "lengths of the texts beside it in a batch."
            )
        text = borrow_text_backbone(encoder, source, device, torch.float32)
        return _TextVectors(text, encoder._pooling(source), encoder._normalize(source))
    if isinstance(encoder, ImageEncoder):
        vision = borrow_vision_backbone(encoder, encoder._source(), device, torch.float32)
        if encoder.slices == "all":
            raise ParameterError(
                "slices='all': volumes that learn along have one number of slices; name it."
            )
        return _ImageVectors(vision, encoder._pooling(), encoder.slice_pooling)
    assert isinstance(encoder, SignalEncoder)
    network = borrow_st_mem(encoder, find_st_mem(encoder.weights), device)
    return _SignalVectors(network, encoder._network().leads)  # type: ignore[attr-defined]


def network_inputs(encoder: BaseEncoder, cells: Sequence[Any], device: torch.device) -> Inputs:
    """Read cells as an encoder's network wants them.

    Parameters
    ----------
    encoder : TextEncoder, ImageEncoder, or SignalEncoder of ST-MEM
        Which.
    cells : sequence
        Good cells; None for rows without one.
    device : torch.device
        Where the network lies, whose tokenizer is asked.

    Returns
    -------
    Tensor or Ragged
        One row per cell; nothing of meaning for None.
    """
    if isinstance(encoder, TextEncoder):
        return _token_ids(encoder, cells, device)
    read = {i: _read(encoder, cell) for i, cell in enumerate(cells) if cell is not None}
    shape = next((item.shape for item in read.values()), (1,))
    inputs = np.zeros((len(cells), *shape), dtype=np.float32)
    for i, item in read.items():
        inputs[i] = item
    return torch.from_numpy(inputs)


def _token_ids(encoder: TextEncoder, cells: Sequence[Any], device: torch.device) -> Ragged:
    source = encoder._source()
    texts = [encoder._text(cell) for cell in cells if cell is not None]
    backbone = borrow_text_backbone(encoder, source, device, torch.float32)
    windows, _ = backbone.tokens.windows(texts, encoder._max_length(source), encoder.long)
    found = iter(windows)
    none = np.zeros(0, dtype=np.int64)
    # Each row begins with its number of windows.
    ids = [none if cell is None else _numbered(next(found)) for cell in cells]
    return Ragged.of([torch.from_numpy(tokens) for tokens in ids])


def _numbered(windows: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([[len(windows)], *windows]).astype(np.int64)


def _read(encoder: BaseEncoder, cell: Any) -> np.ndarray:
    if isinstance(encoder, ImageEncoder):
        return encoder._pixels(cell, encoder._source())
    assert isinstance(encoder, SignalEncoder)
    view = encoder._network().view()
    return prepare(view.look(view.read(cell))[0][np.newaxis])[0]


class _TextVectors(FrozenModule):
    def __init__(self, backbone: TextBackbone, pooling: str, normalize: bool) -> None:
        super().__init__()
        self.backbone, self.pooling, self.normalize = backbone, pooling, normalize

    def forward(self, token_ids: Ragged) -> Tensor:
        n_windows, windows = _windows(token_ids)
        ids, mask = windows.padded()
        vectors = pool_states(self.backbone.states(ids, mask), mask, self.pooling)
        if len(windows) > len(token_ids):
            weights = (
                windows.lengths if self.pooling == "mean" else torch.ones_like(windows.lengths)
            )
            vectors = mean_of_parts(vectors, weights, n_windows)
        return nn.functional.normalize(vectors, dim=1) if self.normalize else vectors


def _windows(rows: Ragged) -> tuple[Tensor, Ragged]:
    """Take the number of windows from the front of each row; all rows have one at least."""
    n_windows = rows.values[rows.starts]
    kept = torch.ones_like(rows.values, dtype=torch.bool)
    kept[rows.starts] = False
    return n_windows, Ragged(rows.values[kept], rows.lengths - 1).split(n_windows)


class _ImageVectors(FrozenModule):
    def __init__(self, backbone: VisionBackbone, pooling: str, slice_pooling: str) -> None:
        super().__init__()
        self.backbone, self.pooling, self.slice_pooling = backbone, pooling, slice_pooling

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.ndim == 4:
            return self.backbone(pixels, self.pooling)
        return slice_vectors(self.backbone, pixels, self.pooling, self.slice_pooling)


class _SignalVectors(FrozenModule):
    def __init__(self, network: StMem, leads: Sequence[int]) -> None:
        super().__init__()
        self.network, self.leads = network, list(leads)

    def forward(self, crops: Tensor) -> Tensor:
        vectors = self.network(crops.flatten(0, 1), self.leads)
        return vectors.unflatten(0, crops.shape[:2]).mean(dim=1)
