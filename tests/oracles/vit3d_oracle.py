"""Write tests/data/vit3d_oracle.npz: a small image tower as M3D builds it, and what it computes.

Run from the repository's root in an environment with torch, einops and monai==1.3.0, the release
that M3D was published with::

    python tests/oracles/vit3d_oracle.py

M3D's image tower is made of MONAI's own blocks, here put together from its public description:
perceptron patches, a class token in front, a last layer norm. Names and shapes of the tensors, and
the states of all tokens, are stored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.networks.blocks.patchembedding import PatchEmbeddingBlock
from monai.networks.blocks.transformerblock import TransformerBlock

TARGET = Path(__file__).resolve().parents[1] / "data" / "vit3d_oracle.npz"
SIZE, PATCH, WIDTH, LAYERS, HEADS, MLP = (8, 12, 12), (4, 4, 6), 12, 2, 3, 20


class Tower(torch.nn.Module):
    """The image tower."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embedding = PatchEmbeddingBlock(
            1, SIZE, PATCH, WIDTH, HEADS, proj_type="perceptron", spatial_dims=3
        )
        self.blocks = torch.nn.ModuleList(
            TransformerBlock(WIDTH, MLP, HEADS, qkv_bias=False) for _ in range(LAYERS)
        )
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, WIDTH))

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """States of all tokens."""
        states = self.patch_embedding(volumes)
        states = torch.cat([self.cls_token.expand(len(volumes), -1, -1), states], dim=1)
        for block in self.blocks:
            states = block(states)
        return self.norm(states)


def main() -> None:
    """Draw weights and volumes, compute, store."""
    generator = torch.Generator().manual_seed(0)
    tower = Tower().eval()
    with torch.no_grad():
        for weight in tower.parameters():
            weight.copy_(0.4 * torch.randn(weight.shape, generator=generator))
        volumes = torch.rand(2, 1, *SIZE, generator=generator)
        states = tower(volumes)
    arrays = {f"vision_encoder.{name}": value.numpy() for name, value in tower.state_dict().items()}
    np.savez_compressed(TARGET, volumes=volumes.numpy(), states=states.numpy(), **arrays)


if __name__ == "__main__":
    main()
