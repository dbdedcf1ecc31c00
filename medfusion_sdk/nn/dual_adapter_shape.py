"""What the dual adapter's network is built from: its shape, and parts of a language model."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

__all__ = ["DualAdapterShape", "LanguageModelParts"]


class LanguageModelParts(Protocol):  # numpydoc ignore=PR01
    """What the network asks of a language model; see ``backbones.language_model``."""

    n_layers: int
    n_heads: int
    width: int
    causal: bool

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""

    @property
    def dtype(self) -> torch.dtype:
        """What they are kept in."""

    def segment(self, start: int, stop: int, *, embeds: bool = False) -> nn.Module:
        """Take blocks, as a module of (states, mask, adapters).

        Parameters
        ----------
        start, stop : int
            Blocks ``start`` to ``stop - 1``.
        embeds : bool, default=False
            Whether the embedding layer comes first.

        Returns
        -------
        Module
            Frozen.
        """

    def keys_values(self, layer: int, tokens: Tensor, common: Tensor) -> tuple[Tensor, Tensor]:
        """Project adaptation tokens ``tokens + common`` by a block's own matrices.

        Parameters
        ----------
        layer : int
            Which block.
        tokens : Tensor of shape (K, d)
            What all rows share.
        common : Tensor of shape (B, d)
            What a row adds.

        Returns
        -------
        keys : Tensor of shape (B, H, K, head width)
            For every head.
        values : Tensor of shape (B, H, K, head width)
            The same.
        """


class DualAdapterShape(NamedTuple):
    """What the network's build depends on, as plain values.

    Attributes
    ----------
    n_channels : int
        Channels V of the series.
    embedding_width : int
        Width of a frozen series embedding that takes the place of patches and CNN; 0 for these.
    text_width : int
        Width of the frozen text vector that the temporal-primary path is given.
    mode : str
        "dual", "ts_primary" or "text_primary": which paths there are.
    adapter_layers, adapter_len : int
        Adapted top layers L_a, and adaptation tokens K in each.
    patch_len, stride : int
        In samples.
    combine : str
        How the paths' vectors become one.
    share_gates : bool
        One set of gates for both paths.
    gate_activation : str
        "tanh" or "identity".
    revin, secondary_revin : bool
        Whether the patches, and what the CNN reads, are normalised within each series.
    norm_secondary : bool
        Whether the text vector is layer-normalised.
    readout : str
        "last", "cls" or "mean".
    """

    n_channels: int
    embedding_width: int
    text_width: int
    mode: str
    adapter_layers: int
    adapter_len: int
    patch_len: int
    stride: int
    combine: str
    share_gates: bool
    gate_activation: str
    revin: bool
    secondary_revin: bool
    norm_secondary: bool
    readout: str
