"""What the parameters of Brain-Adapter may be."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

from medfusion_sdk._parameters import (
    FLAG,
    NONE,
    Allowed,
    Having,
    InstanceOf,
    ListOf,
    Number,
    OneOf,
    Whole,
)
from medfusion_sdk.encoders.image import ImageEncoder
from medfusion_sdk.encoders.volume import VOLUME_READING

__all__ = ["BRAIN_ADAPTER"]

_SIZE = ListOf(Whole(least=1), length=3)

BRAIN_ADAPTER: Mapping[str, Allowed] = {
    **VOLUME_READING,
    "vision_encoder": InstanceOf(str, PathLike, ImageEncoder),
    "text_encoder": InstanceOf(str, PathLike) | Having("fit", "transform"),
    "volume_shape": _SIZE | NONE,
    "volume_size": _SIZE | NONE,
    "target_size": _SIZE | NONE,
    "inputs": OneOf("both", "image", "text"),
    "train_mode": OneOf("tlp", "fpm", "full"),
    "adapter": OneOf("conv3d", "slice2d", "none"),
    "adapter_channels": Whole(least=1),
    "image_pool": OneOf("cls", "mean"),
    "text_pool": OneOf("auto", "mean", "cls", "last"),
    "proj_dim": Whole(least=1) | NONE,
    "standardize": FLAG,
    "contrastive": OneOf("clip", "decoupled"),
    "contrastive_weight": Number(least=0),
    "temperature": Number(above=0),
    "learnable_temperature": FLAG,
    "weight_decay": Number(least=0),
    "learning_rate": Number(above=0) | OneOf("auto"),
    "max_epochs": Whole(least=1) | OneOf("auto"),
    "gradient_checkpointing": FLAG,
    "allow_download": FLAG,
    "on_error": OneOf("raise", "missing"),
    "dtype": OneOf("auto", "float32", "float64", "bfloat16"),
}
