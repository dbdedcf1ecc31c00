"""A vision transformer on volumes, with the parts and the names of M3D-CLIP's image tower.

A volume is cut into patches, each patch becomes a token by one linear map, a learnt vector for its
place is added, and a class token that has no place goes in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from medfusion_sdk.nn.vit3d_shape import ViT3DShape

__all__ = ["ViT3D", "attention_rollout", "interpolate_positions", "pool_tokens"]


class ViT3D(nn.Module):
    """The network.

    Parameters
    ----------
    shape : ViT3DShape
        Its sizes.

    Examples
    --------
    >>> import torch
    >>> network = ViT3D(ViT3DShape((8, 16, 16), (4, 8, 8), 12, 2, 3, 24))
    >>> network(torch.zeros(1, 1, 8, 16, 16)).shape  # 2 * 2 * 2 patches and the class token
    torch.Size([1, 9, 12])
    """

    def __init__(self, shape: ViT3DShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embedding = _PatchEmbedding(shape)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.n_layers))
        self.norm = nn.LayerNorm(shape.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))

    def forward(self, volumes: Tensor, *, gradient_checkpointing: bool = False) -> Tensor:
        """Compute the states of all tokens.

        Parameters
        ----------
        volumes : Tensor of shape (B, 1, D, H, W)
            Of `image_size`, or any size of whole patches: positions are interpolated then.
        gradient_checkpointing : bool, default=False
            Compute the blocks' inner states a second time in the backward pass instead of keeping
            them.

        Returns
        -------
        Tensor of shape (B, 1 + N, width)
            Normalised; the class token first.
        """
        states = self.embed(volumes)
        for block in self.blocks:
            if gradient_checkpointing and torch.is_grad_enabled():
                states = checkpoint(block, states, use_reentrant=False)
            else:
                states = block(states)
        return self.norm(states)

    def read_out(
        self, volumes: Tensor, pool: str, *, gradient_checkpointing: bool = False
    ) -> Tensor:
        """Compute one vector for each volume.

        Parameters
        ----------
        volumes : Tensor of shape (B, 1, D, H, W)
            As for :meth:`forward`.
        pool : {"cls", "mean"}
            As in :func:`pool_tokens`.
        gradient_checkpointing : bool, default=False
            As for :meth:`forward`.

        Returns
        -------
        Tensor of shape (B, width)
            One row per volume.
        """
        return pool_tokens(self(volumes, gradient_checkpointing=gradient_checkpointing), pool)

    def embed(self, volumes: Tensor) -> Tensor:
        """Turn volumes into what enters the first block.

        Parameters
        ----------
        volumes : Tensor of shape (B, 1, D, H, W)
            As for :meth:`forward`.

        Returns
        -------
        Tensor of shape (B, 1 + N, width)
            The class token, and the patches with their positions.
        """
        return torch.cat(
            [self.cls_token.expand(len(volumes), -1, -1), self.patch_embedding(volumes)], dim=1
        )


class _PatchEmbedding(nn.Module):
    def __init__(self, shape: ViT3DShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embeddings = nn.Sequential(
            _Patches(shape.patch_size), nn.Linear(prod(shape.patch_size), shape.width)
        )
        self.position_embeddings = nn.Parameter(torch.zeros(1, prod(shape.grid()), shape.width))

    def forward(self, volumes: Tensor) -> Tensor:
        positions = interpolate_positions(
            self.position_embeddings, self.shape.grid(), self.shape.grid(volumes.shape[2:])
        )
        return self.patch_embeddings(volumes) + positions


class _Patches(nn.Module):
    """Cut volumes into patches, depth before height before width, within a patch as well."""

    def __init__(self, size: tuple[int, int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, volumes: Tensor) -> Tensor:
        parted = volumes[:, 0]
        for axis, length in zip((1, 3, 5), self.size, strict=True):
            parted = parted.unflatten(axis, (-1, length))
        return parted.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


class _Block(nn.Module):
    """Attention and perceptron, each on normalised states and added to them."""

    def __init__(self, shape: ViT3DShape) -> None:
        super().__init__()
        self.mlp = _Perceptron(shape.width, shape.mlp_width)
        self.norm1 = nn.LayerNorm(shape.width)
        self.attn = _Attention(shape.width, shape.n_heads)
        self.norm2 = nn.LayerNorm(shape.width)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.attn(self.norm1(states))
        return states + self.mlp(self.norm2(states))


class _Perceptron(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.fn = nn.GELU()

    def forward(self, states: Tensor) -> Tensor:
        return self.linear2(self.fn(self.linear1(states)))


class _Attention(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        queries, keys, values = self.split(states)
        attended = scaled_dot_product_attention(queries, keys, values)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def split(self, states: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each (B, heads, tokens, width of a head)."""
        return self.qkv(states).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def interpolate_positions(positions: Tensor, grid: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """Bring learnt positions to another grid of patches, on straight lines between the old ones.

    Parameters
    ----------
    positions : Tensor of shape (1, N, width)
        One per patch.
    grid, wanted : sequence of int
        Patches along each axis, now and then.

    Returns
    -------
    Tensor of shape (1, N', width)
        The same tensor where the grid stays.

    Examples
    --------
    >>> import torch
    >>> two = torch.tensor([[[0.0], [4.0]]])
    >>> interpolate_positions(two, (2, 1, 1), (4, 1, 1)).flatten()
    tensor([0., 1., 3., 4.])
    """
    if tuple(grid) == tuple(wanted):
        return positions
    as_volume = positions.transpose(1, 2).unflatten(2, tuple(grid))
    return interpolate(as_volume, tuple(wanted), mode="trilinear").flatten(2).transpose(1, 2)


def pool_tokens(states: Tensor, pool: str) -> Tensor:
    """Make one vector of a volume's token states.

    Parameters
    ----------
    states : Tensor of shape (B, 1 + N, width)
        The class token first.
    pool : {"cls", "mean"}
        The class token's state, or the mean of the patches'.

    Returns
    -------
    Tensor of shape (B, width)
        One row per volume.
    """
    return states[:, 0] if pool == "cls" else states[:, 1:].mean(dim=1)


@torch.no_grad()
def attention_rollout(network: ViT3D, volumes: Tensor, pool: str = "cls") -> Tensor:
    """Follow attention from what is read out back to the patches (Abnar and Zuidema 2020).

    In each block a token is half its own state and half what it attends to, heads averaged; the
    product of these matrices says which patches a read-out came from.

    Parameters
    ----------
    network : ViT3D
        The network.
    volumes : Tensor of shape (B, 1, D, H, W)
        Volumes.
    pool : {"cls", "mean"}
        What is read out.

    Returns
    -------
    Tensor of shape (B, d, h, w)
        One share per patch; with the class token's own they sum to one.
    """
    states = network.embed(volumes)
    flow = torch.eye(states.shape[1], dtype=states.dtype, device=states.device)
    for block in network.blocks:
        assert isinstance(block, _Block)
        queries, keys, _ = block.attn.split(block.norm1(states))
        attention = states.new_zeros(len(states), states.shape[1], states.shape[1])
        # Head by head: all of a large volume's at once would take gigabytes.
        for head in range(queries.shape[1]):
            scores = queries[:, head] @ keys[:, head].mT * queries.shape[-1] ** -0.5
            attention += scores.softmax(dim=-1) / queries.shape[1]
        flow = 0.5 * (attention @ flow + flow)
        states = block(states)
    grid = network.shape.grid(volumes.shape[2:])
    return pool_tokens(flow, pool)[:, 1:].unflatten(1, grid)
