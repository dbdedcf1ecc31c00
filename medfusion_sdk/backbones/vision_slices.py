"""A frozen vision model on volumes: every slice an image, one vector for all of them ("2.5-D")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medfusion_sdk.backbones.pool import FrozenModule
from medfusion_sdk.backbones.slice_source import SliceSource
from medfusion_sdk.backbones.vision import VisionBackbone, borrow_vision_backbone

__all__ = ["SliceBackbone", "borrow_slice_backbone", "slice_vectors"]


class SliceBackbone(FrozenModule):
    """A frozen vision model that others share, as a network for volumes.

    Gradients flow through it to what comes before. As part of another module it isn't moved, cast
    or copied with that one.

    Parameters
    ----------
    backbone : VisionBackbone
        On its device, in its precision.
    source : SliceSource
        How it is used.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: VisionBackbone, source: SliceSource) -> None:
        super().__init__()
        self.backbone = backbone
        self.source = source
        weight = next(backbone.parameters())
        pixels = source.vision.pixels
        # From eight bits, as images come, to volumes from 0 to 1.
        white = 255 * pixels.factor
        for name, values in (("mean", pixels.mean), ("std", pixels.std)):
            scaled = torch.tensor(values).to(weight)[:, None, None] / white
            self.register_buffer(name, scaled, persistent=False)
        self.freeze()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """What they are kept in."""
        return self.mean.dtype

    def read_out(
        self, volumes: Tensor, pool: str, *, gradient_checkpointing: bool = False
    ) -> Tensor:
        """Compute one vector for each volume.

        Parameters
        ----------
        volumes : Tensor of shape (B, 1, D, H, W)
            From 0 to 1; slices of the size that the model reads.
        pool : str
            Ignored: how an image becomes one vector is the source's matter.
        gradient_checkpointing : bool, default=False
            Compute the model's inner states a second time in the backward pass instead of keeping
            them.

        Returns
        -------
        Tensor of shape (B, width)
            In the type of `volumes`.
        """
        slices = volumes[:, 0, :, None].to(self.dtype).expand(-1, -1, 3, -1, -1)
        pixels = (slices - self.mean) / self.std
        how = self.source.pooling, self.source.slice_pooling
        if gradient_checkpointing and torch.is_grad_enabled():
            vectors = checkpoint(slice_vectors, self.backbone, pixels, *how, use_reentrant=False)
        else:
            vectors = slice_vectors(self.backbone, pixels, *how)
        return vectors.to(volumes.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> SliceBackbone:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SliceBackbone:
        return self


def slice_vectors(backbone: nn.Module, pixels: Tensor, pooling: str, slice_pooling: str) -> Tensor:
    """Embed stacks of images.

    Parameters
    ----------
    backbone : Module
        From images and the name of a pooling to vectors.
    pixels : Tensor of shape (B, n, 3, H, W)
        Prepared images.
    pooling : str
        How each becomes a vector.
    slice_pooling : {"mean", "max"}
        How a stack's vectors become one.

    Returns
    -------
    Tensor of shape (B, width)
        One row per stack.
    """
    vectors = backbone(pixels.flatten(0, 1), pooling).unflatten(0, pixels.shape[:2])
    return vectors.mean(dim=1) if slice_pooling == "mean" else vectors.amax(dim=1)


def borrow_slice_backbone(
    user: Any, source: SliceSource, device: torch.device, dtype: torch.dtype
) -> SliceBackbone:
    """Return a network for volumes on this process's copy of a vision model.

    Parameters
    ----------
    user : object
        Who keeps the copy alive.
    source : SliceSource
        Which model, and how it is used.
    device : torch.device
        Where to.
    dtype : torch.dtype
        In which precision.

    Returns
    -------
    SliceBackbone
        As long as it is there, so is the copy.

    Raises
    ------
    WeightsError
        If the files don't hold what the model's configuration asks for.
    """
    return SliceBackbone(borrow_vision_backbone(user, source.vision, device, dtype), source)
