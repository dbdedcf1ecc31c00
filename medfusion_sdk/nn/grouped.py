"""Sequence encoders of several modalities computed together, each with weights of its own.

Modalities are stacked in the first axis, their channels filled up with zeros to a common number,
and every product is one batched product over all of them. Recurrent networks run as a single one
of their joint width whose weights are block-diagonal: eight cost as much as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.layers import SharedDropout, masked_softmax

__all__ = ["SEQUENCE_ENCODERS", "GroupedGRU", "GroupedLinear", "GroupedTCN", "GroupedTransformer"]


class GroupedLinear(nn.Module):
    """One affine map per group.

    Parameters
    ----------
    fan_in : sequence of int
        Inputs of each group; those beyond, up to the widest, are zeros and have weight zero.
    n_out : int
        Outputs of each.
    gain : float, default=1.0
        Of the Xavier initialisation.
    """

    def __init__(self, fan_in: Sequence[int], n_out: int, gain: float = 1.0) -> None:
        super().__init__()
        weight = torch.zeros(len(fan_in), max(fan_in), n_out)
        for group, n_in in enumerate(fan_in):
            if n_in:
                nn.init.xavier_uniform_(weight[group, :n_in], gain)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(len(fan_in), 1, n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map.

        Parameters
        ----------
        x : Tensor of shape (G, ..., n_in)
            Inputs.

        Returns
        -------
        Tensor of shape (G, ..., n_out)
            Outputs.
        """
        flat = torch.baddbmm(self.bias, x.flatten(1, -2), self.weight)
        return flat.view(*x.shape[:-1], -1)


class GroupedGRU(nn.Module):
    """A gated recurrent unit per group, read out by its last state and the mean of its states.

    Parameters
    ----------
    fan_in : sequence of int
        Channels of each group.
    width : int
        Width of the state.
    dropout : float
        Unused: a single layer has nothing between layers to drop.
    """

    def __init__(self, fan_in: Sequence[int], width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inputs = GroupedLinear(fan_in, 3 * width)
        self.states = GroupedLinear([width] * len(fan_in), 3 * width)
        self.width = width

    @property
    def out_width(self) -> int:
        """Width of what it returns."""
        return 2 * self.width

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Encode.

        Parameters
        ----------
        x : Tensor of shape (G, T, B, C)
            Sequences.
        lengths : Tensor of shape (G, B), int64
            Steps of each; what comes after them is never read.

        Returns
        -------
        Tensor of shape (G, B, out_width)
            One vector per sequence, zero for one of no steps.
        """
        n_groups, _, n_rows, _ = x.shape
        joined = x.permute(1, 2, 0, 3).flatten(2)
        state = x.new_zeros(1, n_rows, n_groups * self.width)
        weights = [_side_by_side(part.weight, part.bias) for part in (self.inputs, self.states)]
        # Torch's own loop: cuDNN's warns that the weights, put together here, lie apart.
        with torch.backends.cudnn.flags(enabled=False) if x.is_cuda else nullcontext():
            states, _ = torch.gru(
                joined,
                state,
                [*(weight for weight, _ in weights), *(bias for _, bias in weights)],
                has_biases=True,
                num_layers=1,
                dropout=0.0,
                train=self.training,
                bidirectional=False,
                batch_first=False,
            )
        by_group = states.unflatten(-1, (n_groups, self.width)).permute(2, 0, 1, 3)
        return _read_out(by_group, lengths)


def _side_by_side(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (G, n_in, 3 d) and biases (G, 1, 3 d) as those of one GRU without crossing terms."""
    n_groups, n_in, n_out = weight.shape
    gates = weight.unflatten(-1, (3, -1)).permute(2, 0, 3, 1)  # (3, G, d, n_in)
    own = torch.eye(n_groups, dtype=weight.dtype, device=weight.device)
    blocks = gates[:, :, :, None, :] * own[:, None, :, None]  # (3, G, d, G, n_in)
    joined = blocks.reshape(n_groups * n_out, n_groups * n_in)
    return joined, bias.unflatten(-1, (3, -1)).permute(2, 0, 1, 3).flatten()


class GroupedTCN(nn.Module):
    """Causal dilated convolutions per group, each block with a way around it.

    Parameters
    ----------
    fan_in : sequence of int
        Channels of each group.
    width : int
        Channels within.
    dropout : float
        After each block, while training.
    n_blocks : int, default=4
        Kernels of 3 steps, dilated by 1, 2, 4, ...: four blocks see 31 steps.
    """

    def __init__(
        self, fan_in: Sequence[int], width: int, dropout: float = 0.0, n_blocks: int = 4
    ) -> None:
        super().__init__()
        n_groups = len(fan_in)
        self.inputs = GroupedLinear(fan_in, width)
        self.width = width
        self.convolutions = nn.ModuleList(
            nn.Conv1d(n_groups * width, n_groups * width, 3, dilation=2**level, groups=n_groups)
            for level in range(n_blocks)
        )
        for part in self.convolutions.parameters():
            if part.ndim == 3:
                nn.init.kaiming_uniform_(part, nonlinearity="relu")
            else:
                nn.init.zeros_(part)
        self.dropout = SharedDropout(dropout)

    @property
    def out_width(self) -> int:
        """Width of what it returns."""
        return 2 * self.width

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Encode.

        Parameters
        ----------
        x : Tensor of shape (G, T, B, C)
            Sequences.
        lengths : Tensor of shape (G, B), int64
            Steps of each; what comes after them is never read.

        Returns
        -------
        Tensor of shape (G, B, out_width)
            One vector per sequence, zero for one of no steps.
        """
        n_groups, n_steps, n_rows, _ = x.shape
        h = self.inputs(x).permute(2, 0, 3, 1).reshape(n_rows, -1, n_steps)
        for level, convolution in enumerate(self.convolutions):
            # Padded on the left alone: a step never sees a later one, nor what fills a row up.
            padded = nn.functional.pad(h, (2 * 2**level, 0))
            h = h + self.dropout(convolution(padded).relu())
        return _read_out(h.view(n_rows, n_groups, -1, n_steps).permute(1, 3, 0, 2), lengths)


class GroupedTransformer(nn.Module):
    """A layer of self-attention over time per group.

    Parameters
    ----------
    fan_in : sequence of int
        Channels of each group.
    width : int
        Width of a step's state; a multiple of 4, the number of heads.
    dropout : float
        After attention and feed-forward, while training.
    """

    n_heads = 4

    def __init__(self, fan_in: Sequence[int], width: int, dropout: float = 0.0) -> None:
        super().__init__()
        same = [width] * len(fan_in)
        self.width = width
        self.inputs = GroupedLinear(fan_in, width)
        self.qkv = GroupedLinear(same, 3 * width)
        self.out = GroupedLinear(same, width)
        self.up = GroupedLinear(same, 2 * width)
        self.down = GroupedLinear([2 * width] * len(fan_in), width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = SharedDropout(dropout)

    @property
    def out_width(self) -> int:
        """Width of what it returns."""
        return 2 * self.width

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Encode.

        Parameters
        ----------
        x : Tensor of shape (G, T, B, C)
            Sequences.
        lengths : Tensor of shape (G, B), int64
            Steps of each; what comes after them is never read.

        Returns
        -------
        Tensor of shape (G, B, out_width)
            One vector per sequence, zero for one of no steps.
        """
        n_steps = x.shape[1]
        places = _sinusoids(n_steps, self.width).to(x)
        h = (self.inputs(x) + places[:, None]).transpose(1, 2)  # (G, B, T, d)
        there = torch.arange(n_steps, device=x.device) < lengths[..., None]
        h = h + self.dropout(self._attend(self.norms[0](h), there))
        h = h + self.dropout(self.down(self.up(self.norms[1](h)).relu()))
        return _read_out(h.transpose(1, 2), lengths)

    def _attend(self, h: Tensor, there: Tensor) -> Tensor:
        parts = self.qkv(h).unflatten(-1, (3, self.n_heads, -1)).movedim(-3, 0)
        query, key, value = (part.transpose(-2, -3) for part in parts)  # (G, B, H, T, dh)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        read = masked_softmax(scores, there[:, :, None, None, :]) @ value
        return self.out(read.transpose(-2, -3).flatten(-2))


SEQUENCE_ENCODERS: dict[str, type[GroupedGRU | GroupedTCN | GroupedTransformer]] = {
    "gru": GroupedGRU,
    "tcn": GroupedTCN,
    "transformer": GroupedTransformer,
}


def _read_out(states: Tensor, lengths: Tensor) -> Tensor:
    """Last state and mean of the states (G, T, B, d) within the lengths; zero without steps."""
    n_steps = states.shape[1]
    steps = torch.arange(n_steps, device=states.device)[:, None, None]
    there = (steps < lengths)[..., None]
    mean = torch.where(there, states.transpose(0, 1), 0.0).sum(0) / lengths.clamp_min(1)[..., None]
    is_last = (steps == lengths - 1)[..., None]
    last = torch.where(is_last, states.transpose(0, 1), 0.0).sum(0)
    return torch.cat([last, mean], dim=-1)


def _sinusoids(n_steps: int, width: int) -> Tensor:
    """Vaswani's encodings of the position (n_steps, width)."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(n_steps)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]
