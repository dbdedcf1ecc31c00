"""What the parameters may be that the dual adapter's classifier and embedder share."""

from __future__ import annotations

from collections.abc import Mapping

from medfusion_sdk._parameters import FLAG, NONE, Allowed, Having, ListOf, Number, OneOf, Whole

__all__ = ["DUAL_ADAPTER"]

# medfusion_sdk.nn.fusion has the combinations too, but imports torch.
DUAL_ADAPTER: Mapping[str, Allowed] = {
    "signal_shape": ListOf(Whole(least=1), length=2) | NONE,
    "signal_encoder": OneOf("auto", "cnn") | Having("fit_transform", "transform"),
    "secondary_text_encoder": Having("fit", "transform") | NONE,
    "fs": Number(above=0) | NONE,
    "duration": Number(above=0) | NONE,
    "mode": OneOf("dual", "ts_primary", "text_primary"),
    "combine": OneOf("mean", "gate", "concat", "cross_attention", "symmetric"),
    "adapter_layers": Whole(least=1) | OneOf("auto"),
    "adapter_len": Whole(least=1),
    "patch_len": Whole(least=1),
    "stride": Whole(least=1) | NONE,
    "share_gates": FLAG,
    "gate_activation": OneOf("tanh", "identity"),
    "revin": FLAG,
    "secondary_revin": FLAG,
    "norm_secondary": FLAG,
    "readout": OneOf("auto", "last", "cls", "mean"),
    "max_text_tokens": Whole(least=1),
    "long_text": OneOf("cut", "chunks"),
    "aug_noise": Number(least=0),
    "temperature": Number(above=0),
    "contrastive_weight": Number(least=0),
    "contrastive_start": Number(least=0, most=1),
    "weight_decay": Number(least=0),
    "lr_gamma": Number(above=0, most=1) | NONE,
    "max_epochs": Whole(least=1) | OneOf("auto"),
    "gradient_checkpointing": FLAG,
    "allow_download": FLAG,
    "dtype": OneOf("auto", "float32", "float64", "bfloat16"),
}
