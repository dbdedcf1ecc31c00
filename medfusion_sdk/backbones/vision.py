"""Frozen Hugging Face vision models: prepared pixels -> one vector per image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medfusion_sdk.backbones.hugging_face import load_base_model
from medfusion_sdk.backbones.pool import BackboneKey, FrozenModule, shared_backbones
from medfusion_sdk.backbones.standin_image import build_standin_image
from medfusion_sdk.backbones.vision_source import VisionSource, find_vision_source
from medfusion_sdk.backbones.weights import require_unchanged
from medfusion_sdk.exceptions import ParameterError

__all__ = ["VisionBackbone", "borrow_vision_backbone"]


class VisionBackbone(FrozenModule):
    """A frozen vision model.

    Parameters
    ----------
    model : Module
        A Hugging Face base model, or the vision tower of one.
    source : VisionSource
        What is known of it.
    """

    def __init__(self, model: nn.Module, source: VisionSource) -> None:
        super().__init__()
        self.model = model
        self.source = source
        self.freeze()

    def forward(self, pixels: Tensor, pooling: str) -> Tensor:
        """Embed images.

        Parameters
        ----------
        pixels : Tensor of shape (n, 3, height, width)
            Prepared images, on the weights' device.
        pooling : {"auto", "cls", "mean", "pooler"}
            The class token's state, the mean over the patches' states, or what the model's own
            pooler makes; "auto" is the class token where the model has one, else the mean.

        Returns
        -------
        Tensor of shape (n, width), float32
            One vector per image.

        Raises
        ------
        ParameterError
            If the model has no class token, or no pooler.
        """
        output = self.model(pixel_values=pixels)
        if pooling == "pooler":
            if getattr(output, "pooler_output", None) is None:
                raise ParameterError(f"{self.source.name!r} has no pooler: choose pooling='mean'.")
            return output.pooler_output.flatten(1).float()
        states = output.last_hidden_state.float()
        if states.ndim == 4:  # a feature map
            states = states.flatten(2).transpose(1, 2)
        before = self._before_patches(pixels, states)
        if pooling == "cls" and not before:
            raise ParameterError(f"{self.source.name!r} has no class token: choose pooling='mean'.")
        if pooling == "mean" or not before:
            return states[:, before:].mean(dim=1)
        return states[:, 0]

    def _before_patches(self, pixels: Tensor, states: Tensor) -> int:
        """Count the tokens that stand for no patch: class token, registers."""
        patch = self.source.patch
        if patch is None:
            return 0
        n_patches = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
        # Fewer states than patches: a network that merges patches, without a class token.
        return max(0, states.shape[1] - n_patches)


def borrow_vision_backbone(
    user: Any, source: VisionSource, device: torch.device, dtype: torch.dtype
) -> VisionBackbone:
    """Return this process's copy of a vision model, loading it at first use.

    Parameters
    ----------
    user : object
        Who keeps it alive.
    source : VisionSource
        Which model.
    device : torch.device
        Where to.
    dtype : torch.dtype
        In which precision.

    Returns
    -------
    VisionBackbone
        Shared by all users of the same weights, device and dtype.

    Raises
    ------
    WeightsError
        If the files don't hold what the model's configuration asks for.
    """
    key = BackboneKey(source.fingerprint, device, dtype)
    return shared_backbones.borrow(user, key, lambda: _load(source).to(device, dtype))


def _load(source: VisionSource) -> VisionBackbone:
    if source.folder is None:
        return VisionBackbone(build_standin_image(), source)
    model: Any = load_base_model(source.folder, "a vision model")
    now = find_vision_source(source.folder).fingerprint
    require_unchanged(source.folder, source.fingerprint, now)
    # Of a model of images and texts, the images' half.
    return VisionBackbone(getattr(model, "vision_model", model), source)
