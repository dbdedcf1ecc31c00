"""A tiny seeded vision transformer for tests and first steps: it knows nothing of medicine.

Its weights are drawn, not learnt. Images that look alike come out alike, which is enough to try
things out and too little to report a result on.
"""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from medfusion_sdk.backbones.pixel_settings import PixelSettings
from medfusion_sdk.backbones.standin_text import draw_weights

__all__ = ["StandInImage", "build_standin_image", "describe_standin_image"]

_SEED = 0
_SIZE, _PATCH, _WIDTH, _DEPTH, _HEADS, _HIDDEN = 32, 8, 64, 2, 4, 128
_PIXELS = PixelSettings(
    shortest=None,
    resize=(_SIZE, _SIZE),
    resample=2,
    crop=None,
    factor=1 / 255,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)


def describe_standin_image() -> dict[str, Any]:
    """Return the fields of the stand-in's VisionSource.

    Returns
    -------
    dict
        Its fingerprint covers seed, sizes and recipe.

    Examples
    --------
    >>> describe_standin_image()["width"]
    64
    """
    sizes = [_SEED, _SIZE, _PATCH, _WIDTH, _DEPTH, _HEADS, _HIDDEN]
    recipe = json.dumps({"recipe": "image 2", "sizes": sizes})
    return {
        "name": "standin-image",
        "folder": None,
        "fingerprint": hashlib.blake2b(recipe.encode(), digest_size=32).hexdigest(),
        "width": _WIDTH,
        "patch": _PATCH,
        "pixels": _PIXELS,
        "pooling": "mean",
    }


def build_standin_image() -> StandInImage:
    """Build the stand-in network, the same on every machine.

    Returns
    -------
    StandInImage
        With weights drawn from a generator of its own.
    """
    # The constructor draws weights that are overwritten; global random state stays as it is.
    with torch.random.fork_rng(devices=[]):
        model = StandInImage()
    draw_weights(model, _SEED)
    return model


class StandInImage(nn.Module):
    """Patches, positions and two transformer layers; called as Hugging Face's models are."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, _WIDTH, _PATCH, _PATCH)
        self.positions = nn.Parameter(torch.empty((_SIZE // _PATCH) ** 2, _WIDTH))
        self.layers = nn.ModuleList(_Layer() for _ in range(_DEPTH))
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        """Compute the states of an image's patches.

        Parameters
        ----------
        pixel_values : Tensor of shape (n, 3, 32, 32)
            Prepared images.

        Returns
        -------
        SimpleNamespace
            ``last_hidden_state`` of shape (n, 16, 64).
        """
        x = self.patches(pixel_values).flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            x = layer(x)
        return SimpleNamespace(last_hidden_state=self.norm(x), pooler_output=None)


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.query = nn.Linear(_WIDTH, _WIDTH)
        self.key = nn.Linear(_WIDTH, _WIDTH)
        self.value = nn.Linear(_WIDTH, _WIDTH)
        self.out = nn.Linear(_WIDTH, _WIDTH)
        self.widen = nn.Linear(_WIDTH, _HIDDEN)
        self.narrow = nn.Linear(_HIDDEN, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        heads = [
            part(normed).unflatten(-1, (_HEADS, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        ]
        mixed = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.narrow(nn.functional.gelu(self.widen(self.norm2(x))))
