"""A tiny seeded volume network for tests and first steps: real code path, no pretrained knowledge.

Its weights are drawn, not learnt, so what it tells of a volume is little more than where it is
bright: enough to try things out and too little to report a result on.
"""

from __future__ import annotations

import hashlib
import json
from math import prod

import torch

from medfusion_sdk.backbones.standin_text import draw_weights
from medfusion_sdk.nn.vit3d import ViT3D
from medfusion_sdk.nn.vit3d_shape import ViT3DShape

__all__ = ["SHAPE", "build_standin", "standin_fingerprint"]

_SEED = 0
SHAPE = ViT3DShape((16, 32, 32), (4, 8, 8), width=48, n_layers=2, n_heads=4, mlp_width=96)


def standin_fingerprint() -> str:
    """Digest of the stand-in's seed, sizes and recipe.

    Returns
    -------
    str
        Hexadecimal.
    """
    recipe = json.dumps({"recipe": "vit3d 1", "seed": _SEED, **SHAPE._asdict()}, sort_keys=True)
    return hashlib.blake2b(recipe.encode(), digest_size=32).hexdigest()


def build_standin() -> ViT3D:
    """Build the stand-in network, the same on every machine.

    Returns
    -------
    ViT3D
        Two blocks with weights drawn from a generator of their own.
    """
    # Layers draw weights that are overwritten below; global random state stays as it is.
    with torch.random.fork_rng(devices=[]):
        network = ViT3D(SHAPE)
    draw_weights(network, _SEED)
    with torch.no_grad():
        # Places that differ as much as what stands there.
        network.patch_embedding.position_embeddings.mul_(prod(SHAPE.grid()) ** 0.5)
    return network
