"""Frozen volume networks: volumes -> token states, one shared copy per process."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medfusion_sdk.backbones.checkpoints import fill, read_checkpoint
from medfusion_sdk.backbones.pool import BackboneKey, FrozenModule, shared_backbones
from medfusion_sdk.backbones.standin_vit3d import build_standin
from medfusion_sdk.backbones.volume_source import VolumeSource, fingerprint_volume_files
from medfusion_sdk.backbones.weights import require_unchanged
from medfusion_sdk.nn.vit3d import ViT3D

__all__ = [
    "VolumeBackbone",
    "VolumeEmbedder",
    "borrow_volume_backbone",
    "borrow_volume_embedder",
    "load_vit3d",
]


class VolumeBackbone(FrozenModule):
    """A frozen vision transformer that others share.

    Gradients flow through it to what comes before. As part of another module it isn't moved, cast
    or copied with that one: what moves it is the pool.

    Parameters
    ----------
    network : ViT3D
        On its device, in its precision.
    """

    def __init__(self, network: ViT3D) -> None:
        super().__init__()
        self.network = network
        self.freeze()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.network.cls_token.device

    @property
    def dtype(self) -> torch.dtype:
        """What they are kept in."""
        return self.network.cls_token.dtype

    def read_out(
        self, volumes: Tensor, pool: str, *, gradient_checkpointing: bool = False
    ) -> Tensor:
        """Compute one vector for each volume, in the network's own precision.

        Parameters
        ----------
        volumes : Tensor of shape (B, 1, D, H, W)
            From 0 to 1.
        pool : {"cls", "mean"}
            As in :func:`~medfusion_sdk.nn.vit3d.pool_tokens`.
        gradient_checkpointing : bool, default=False
            As in :class:`~medfusion_sdk.nn.vit3d.ViT3D`.

        Returns
        -------
        Tensor of shape (B, width)
            In the type of `volumes`.
        """
        read = self.network.read_out(
            volumes.to(self.dtype), pool, gradient_checkpointing=gradient_checkpointing
        )
        return read.to(volumes.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> VolumeBackbone:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> VolumeBackbone:
        return self


class VolumeEmbedder(FrozenModule):
    """From volumes to one vector each.

    Parameters
    ----------
    backbone : VolumeBackbone
        The network.
    """

    def __init__(self, backbone: VolumeBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, volumes: Tensor, pool: str) -> Tensor:
        """Embed volumes.

        Parameters
        ----------
        volumes : Tensor of shape (B, D, H, W)
            From 0 to 1.
        pool : {"cls", "mean"}
            As in :func:`~medfusion_sdk.nn.vit3d.pool_tokens`.

        Returns
        -------
        Tensor of shape (B, width)
            In the type of `volumes`.
        """
        return self.backbone.read_out(volumes[:, None], pool)


def borrow_volume_embedder(
    user: Any, source: VolumeSource, device: torch.device, dtype: torch.dtype
) -> VolumeEmbedder:
    """Return an embedder on this process's copy of a volume network.

    Parameters
    ----------
    user : object
        Who keeps it alive.
    source : VolumeSource
        Which network.
    device : torch.device
        Where to.
    dtype : torch.dtype
        In which precision.

    Returns
    -------
    VolumeEmbedder
        As long as it is there, so is the copy.
    """
    return VolumeEmbedder(borrow_volume_backbone(user, source, device, dtype))


def borrow_volume_backbone(
    user: Any, source: VolumeSource, device: torch.device, dtype: torch.dtype
) -> VolumeBackbone:
    """Return this process's copy of a volume network, loading it at first use.

    Parameters
    ----------
    user : object
        Who keeps it alive.
    source : VolumeSource
        Which network.
    device : torch.device
        Where to.
    dtype : torch.dtype
        In which precision.

    Returns
    -------
    VolumeBackbone
        Shared by all users of the same weights, device and dtype.

    Raises
    ------
    WeightsError
        If the files don't hold exactly the network's tensors.
    """
    key = BackboneKey(source.fingerprint, device, dtype)
    return shared_backbones.borrow(
        user, key, lambda: VolumeBackbone(load_vit3d(source).to(device, dtype))
    )


def load_vit3d(source: VolumeSource) -> ViT3D:
    """Load a network of its own, which may be trained.

    Parameters
    ----------
    source : VolumeSource
        Which network.

    Returns
    -------
    ViT3D
        In float32, in main memory.

    Raises
    ------
    WeightsError
        As for :func:`borrow_volume_backbone`.
    """
    if not source.files:
        return build_standin()
    with torch.device("meta"):
        network = ViT3D(source.shape)
    parts = [read_checkpoint(file, prefix=source.prefix) for file in source.files]
    fill(network, {n: tensor for part in parts for n, tensor in part.items()}, source.files[0])
    require_unchanged(source.files[0], source.fingerprint, fingerprint_volume_files(source.files))
    return network
