"""ST-MEM: a vision transformer over patches in time of each lead of an ECG.

Na, Park, Tae, Joo: "Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship
of Electrocardiogram", ICLR 2024. Written from the paper and the layout of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medfusion_sdk.backbones.checkpoints import (
    fill,
    find_checkpoint,
    read_checkpoint,
    tensor_shapes,
)
from medfusion_sdk.backbones.pool import BackboneKey, FrozenModule, shared_backbones
from medfusion_sdk.backbones.st_mem_signals import CROP, N_CROPS, PATCH, STANDARD_LEADS
from medfusion_sdk.backbones.weights import require_unchanged
from medfusion_sdk.exceptions import WeightsError
from medfusion_sdk.readers.file_memo import file_sha256

__all__ = ["StMem", "StMemSource", "borrow_st_mem", "find_st_mem", "signals_at_once"]

_ORIGIN = (
    "Its authors link the file (encoder.pth) from github.com/bakqui/ST-MEM, under terms that "
    "forbid passing it on."
)
# The entry that holds the state dict, and the head of a fine-tuned one.
_ENTRY, _HEAD = "model", ("head.weight", "head.bias")
# The published networks differ in width and number of heads, never in a head's width.
_HEAD_WIDTH = 64
# Tokens in a batch: what a core's caches hold, and what fills a GPU.
_CPU_TOKENS, _GPU_TOKENS = 1024, 32768


@dataclass(frozen=True)
class StMemSource:
    """A checkpoint that was found, and the size of its network.

    Attributes
    ----------
    path : Path
        Where it lies.
    fingerprint : str
        Digest of the file.
    width, depth, heads, hidden : int
        768, 12, 12 and 3072 in the published ViT-B/75.
    """

    path: Path
    fingerprint: str
    width: int
    depth: int
    heads: int
    hidden: int


def find_st_mem(weights: str | PathLike[str] | None) -> StMemSource:
    """Find a checkpoint and read its sizes, not its numbers.

    Parameters
    ----------
    weights : str, path or None
        A file in the layout of the published encoder.

    Returns
    -------
    StMemSource
        With a fingerprint, so that a cache can be asked before anything is loaded.

    Raises
    ------
    WeightsNotFoundError
        If there is no such file.
    WeightsError
        If it holds something else.
    """
    path = find_checkpoint(weights, backbone="st-mem", origin=_ORIGIN)
    shapes = tensor_shapes(path, _ENTRY)
    try:
        width = shapes["pos_embedding"][2]
        heads = shapes["block0.attn.fn.to_qkv.weight"][0] // (3 * _HEAD_WIDTH)
        hidden = shapes["block0.ff.fn.net.0.weight"][0]
    except (KeyError, IndexError) as error:
        raise WeightsError(
            f"{path} isn't an encoder of ST-MEM: no usable tensor {error} among {len(shapes)}. "
            f"{_ORIGIN}"
        ) from error
    depth = len({name.split(".")[0] for name in shapes if name.startswith("block")})
    return StMemSource(path, file_sha256(path), width, depth, heads, hidden)


def borrow_st_mem(user: Any, source: StMemSource, device: torch.device) -> StMem:
    """Return this process's copy of a network, loading it at first use.

    Parameters
    ----------
    user : object
        Who keeps it alive.
    source : StMemSource
        Which checkpoint.
    device : torch.device
        Where to.

    Returns
    -------
    StMem
        In float32, shared by all users of the same file and device.

    Raises
    ------
    WeightsError
        If a tensor is missing, left over or of another shape; a classifier's head may be there.
    """
    key = BackboneKey(source.fingerprint, device, torch.float32)
    return shared_backbones.borrow(user, key, lambda: _load(source).to(device))


def _load(source: StMemSource) -> StMem:
    with torch.device("meta"):  # no random weights first
        network = StMem(source.width, source.depth, source.heads, source.hidden)
    fill(network, read_checkpoint(source.path, _ENTRY), source.path, unused=_HEAD)
    require_unchanged(source.path, source.fingerprint, file_sha256(source.path))
    network.freeze()
    return network


def signals_at_once(n_leads: int, device: torch.device) -> int:
    """Choose how many recordings to embed at once.

    Parameters
    ----------
    n_leads : int
        Their leads.
    device : torch.device
        Where it is computed.

    Returns
    -------
    int
        At least 1.
    """
    budget = _CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS
    return max(1, budget // (N_CROPS * n_leads * (CROP // PATCH + 2)))


class StMem(FrozenModule):
    """The encoder, with the published names of its parameters.

    Parameters
    ----------
    width : int
        Of a token.
    depth : int
        Transformer blocks.
    heads : int
        Attention heads of width 64.
    hidden : int
        Width inside a block's feed-forward part.
    """

    def __init__(self, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.to_patch_embedding = nn.Sequential(
            nn.Unflatten(-1, (-1, PATCH)),
            nn.LayerNorm(PATCH),
            nn.Linear(PATCH, width),
            nn.LayerNorm(width),
        )
        self.pos_embedding = nn.Parameter(torch.empty(1, CROP // PATCH + 2, width))
        self.sep_embedding = nn.Parameter(torch.empty(width))
        self.lead_embeddings = nn.ParameterList(torch.empty(width) for _ in STANDARD_LEADS)
        # Under the published names, which no list of modules has.
        for i in range(depth):
            self.add_module(f"block{i}", _Block(width, heads, hidden))
        self._depth = depth
        self.norm = nn.LayerNorm(width)

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer's blocks, in order."""
        return [self.get_submodule(f"block{i}") for i in range(self._depth)]

    def tokens(self, crops: Tensor, leads: Sequence[int]) -> Tensor:
        """Compute the last block's state of every patch.

        Parameters
        ----------
        crops : Tensor of shape (n, n_leads, 2250)
            Standardised pieces of 9 s at 250 Hz.
        leads : sequence of int
            Which of the twelve standard leads they are.

        Returns
        -------
        Tensor of shape (n, n_leads, 30, width)
            Separators left out.
        """
        x = self.to_patch_embedding(crops)
        separator = self.sep_embedding.expand(*x.shape[:2], 1, -1)
        x = torch.cat([separator, x, separator], dim=2) + self.pos_embedding
        # The published network has all twelve or none; one lead's tokens need its own alone.
        x = x + torch.stack([self.lead_embeddings[lead] for lead in leads]).unsqueeze(1)
        shape = x.shape
        x = x.flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        return x.view(shape)[:, :, 1:-1]

    def forward(self, crops: Tensor, leads: Sequence[int]) -> Tensor:
        """Embed crops.

        Parameters
        ----------
        crops : Tensor of shape (n, n_leads, 2250)
            As for :meth:`tokens`.
        leads : sequence of int
            As for :meth:`tokens`.

        Returns
        -------
        Tensor of shape (n, width)
            Mean over leads and patches, normed.
        """
        return self.norm(self.tokens(crops, leads).mean(dim=(1, 2)))


class _PreNorm(nn.Module):
    """What is added to a token: a function of its normed state."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        inner = heads * _HEAD_WIDTH
        self.to_qkv = nn.Linear(width, 3 * inner)
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        # (n, tokens, 3 * heads * 64) -> three of (n, heads, tokens, 64)
        qkv = self.to_qkv(x).unflatten(-1, (3, -1, _HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*qkv)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # The third place is the dropout's, which a frozen network has no use for.
        self.net = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn = _PreNorm(width, _Attention(width, heads))
        self.ff = _PreNorm(width, _FeedForward(width, hidden))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.ff(x)
