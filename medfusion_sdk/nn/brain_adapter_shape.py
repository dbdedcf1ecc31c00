"""What Brain-Adapter's network is built from, as plain values."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["IMAGE", "MODALITIES", "TEXT", "BrainAdapterShape"]

MODALITIES = ("image", "text")
IMAGE, TEXT = 0, 1


class BrainAdapterShape(NamedTuple):
    """What the network's build depends on.

    Attributes
    ----------
    modalities : tuple of str
        Of "image" and "text", those that are read.
    volume_size, target_size : tuple of int
        Depth, height and width of what enters the adapter, and the vision encoder.
    adapter : str
        "conv3d", "slice2d" or "none".
    adapter_channels : int
        Channels c of the conv3d adapter.
    image_width, text_width : int
        Entries of the encoders' vectors.
    proj_dim : int
        Entries d of the space that both are projected to.
    image_pool : str
        "cls" or "mean".
    train_mode : str
        "tlp", "fpm" or "full".
    absences : tuple of str
        Modalities whose absence has a vector of its own, learnt from rows that lack them.
    temperature : float
        That the contrastive loss starts from.
    learnable_temperature : bool
        Whether it is trained.
    """

    modalities: tuple[str, ...]
    volume_size: tuple[int, int, int]
    target_size: tuple[int, int, int]
    adapter: str
    adapter_channels: int
    image_width: int
    text_width: int
    proj_dim: int
    image_pool: str
    train_mode: str
    absences: tuple[str, ...]
    temperature: float
    learnable_temperature: bool
