"""The small network's encoders: one for each modality, by its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.recurrent import SeriesLSTM, TokenLSTM
from medfusion_sdk.nn.residual_cnn import ResidualCNN

__all__ = ["ModalityEncoders", "Raw", "raw_name"]

Raw = Mapping[int, Any] | None


def raw_name(modality: int) -> str:
    """Name what a modality's encoder reads, in a batch.

    Parameters
    ----------
    modality : int
        Position of a modality that is no block.

    Returns
    -------
    str
        A key.
    """
    return f"raw {modality}"


class ModalityEncoders(nn.ModuleList):
    """One encoder per modality, each to vectors of one width.

    Parameters
    ----------
    kinds : sequence of {"block", "series", "text", "image", "volume"}
        Of each modality.
    dims : sequence of int
        What each reads: width of a block, channels of a series, an image or a volume, numbers that
        a token may have.
    width : int
        Width k of the vectors.
    """

    def __init__(self, kinds: Sequence[str], dims: Sequence[int], width: int) -> None:
        super().__init__(_make(kind, d, width) for kind, d in zip(kinds, dims, strict=True))
        self.width = width
        self.blocks = [m for m, kind in enumerate(kinds) if kind == "block"]
        self.raw = [m for m, kind in enumerate(kinds) if kind != "block"]
        self.set_block_widths([dims[m] for m in self.blocks])

    def set_block_widths(self, widths: Sequence[int]) -> None:
        """Say how x is parted.

        Parameters
        ----------
        widths : sequence of int
            Columns of each block; other modalities have none.
        """
        own = dict(zip(self.blocks, widths, strict=True))
        self._parts = [own.get(m, 0) for m in range(len(self))]

    def forward(self, x: Tensor, present: Tensor, raw: Raw) -> Tensor:
        """Encode each modality on its own.

        Parameters
        ----------
        x : Tensor of shape (B, width)
            Blocks side by side.
        present : Tensor of shape (B, M), bool
            Presence mask.
        raw : mapping of int to Ragged or Tensor, or None
            What the encoder of each other modality reads; rows that lack it hold anything.

        Returns
        -------
        Tensor of shape (B, M, k)
            Vectors; those of absent blocks carry no meaning, those of other absentees are zero.
        """
        parts = x.split(self._parts, dim=1)
        hidden = [
            self._of_cells(m, x, present[:, m], raw)
            if m in self.raw
            else torch.relu(self[m](parts[m]))
            for m in range(len(self))
        ]
        return torch.stack(hidden, dim=1)

    def _of_cells(self, m: int, x: Tensor, present: Tensor, raw: Raw) -> Tensor:
        """Encode the rows that have a modality; the others cost nothing and move no weight."""
        if raw is None or m not in raw:
            raise ValueError(f"modality {m} is read from raw cells; hand them over as raw[{m}].")
        rows = present.nonzero()[:, 0]
        hidden = x.new_zeros(len(x), self.width)
        if not len(rows):
            return hidden
        return hidden.index_copy(0, rows, self[m](raw[m].index_select(0, rows)))


def _make(kind: str, n_inputs: int, width: int) -> nn.Module:
    if kind == "block":
        return nn.Linear(n_inputs, width)
    if kind == "series":
        return SeriesLSTM(n_inputs, width)
    if kind == "text":
        return TokenLSTM(n_inputs, width)
    return ResidualCNN(n_inputs, {"image": 2, "volume": 3}[kind], width)
