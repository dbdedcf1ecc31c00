"""What the parameters may be that AMFN's classifier and regressor share."""

from __future__ import annotations

from collections.abc import Mapping

from medfusion_sdk._parameters import FLAG, Allowed, MappingTo, Number, OneOf, Whole

__all__ = ["AMFN"]

_ENCODER = OneOf("auto", "gru", "tcn", "transformer", "mlp")
_SCALING = OneOf("auto", "feature", "block", "none")

# medfusion_sdk.nn.amfn has adjacencies and alignments too, but imports torch.
AMFN: Mapping[str, Allowed] = {
    "encoder": _ENCODER | MappingTo(_ENCODER | OneOf("cnn")),
    "d_model": Whole(least=1),
    "encoder_width": Whole(least=4),
    "summaries": FLAG,
    "n_heads": Whole(least=1),
    "n_gcn_layers": Whole(least=0),
    "adjacency": OneOf("relu", "shifted", "softmax", "uniform", "identity"),
    "gcn_residual": FLAG,
    "norm": OneOf("batch", "layer", None),
    "use_gate": FLAG,
    "use_attention": FLAG,
    "use_gcn": FLAG,
    "alignment": OneOf("cosine", "mse", "infonce", None),
    "lambda_align": Number(least=0),
    "lambda_rec": Number(least=0),
    "readout": OneOf("fusion", "concat", "both"),
    "image_head": OneOf("pooled", "multiscale"),
    "expert": FLAG | OneOf("auto"),
    "ensemble_size": Whole(least=1),
    "dropout": Number(least=0, below=1),
    "modality_dropout": Number(least=0, below=1),
    "mc_samples": Whole(least=0),
    "scaling": _SCALING | MappingTo(_SCALING),
    "weight_decay": Number(least=0),
    "max_epochs": Whole(least=1) | OneOf("auto"),
}
