"""What the parameters may be that TGMM's estimators share."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

from medfusion_sdk._parameters import (
    NONE,
    Allowed,
    InstanceOf,
    ListOf,
    MappingTo,
    Number,
    OneOf,
    Whole,
)

__all__ = ["TGMM"]

# medfusion_sdk.nn.tgmm and tgmm_network have these names too, but import torch.
TGMM: Mapping[str, Allowed] = {
    "token_shapes": MappingTo(ListOf(Whole(least=1), length=2)) | NONE,
    "d_model": Whole(least=1),
    "n_heads": Whole(least=1),
    "fusion": OneOf("mffm", "attention_only", "gate_only", "mean", "concat"),
    "gate": OneOf("softmax", "sigmoid"),
    "guidance": OneOf("both", "fixed", "learned", "none"),
    "guidance_at": OneOf("readout", "fusion"),
    "n_learned_tokens": Whole(least=1),
    "prompts": InstanceOf(str) | MappingTo(InstanceOf(str)) | NONE,
    "prompt_encoder": InstanceOf(str, PathLike),
    "clip": Number(above=0) | NONE,
}
