"""Small random vision models in the layouts in which real ones are published."""

from __future__ import annotations

import json
from pathlib import Path

import torch

# What each family's publishers write into preprocessor_config.json, at a smaller size.
_NORM = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "do_normalize": True}
_SCALE = {"do_rescale": True, "rescale_factor": 1 / 255}
SETTINGS = {
    "vit": {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "resample": 2,
        "size": {"height": 32, "width": 32}, **_NORM, **_SCALE,
    },
    "dinov2": {
        "image_processor_type": "BitImageProcessor", "do_resize": True, "resample": 3,
        "size": {"shortest_edge": 40}, "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32}, "do_convert_rgb": True, **_NORM, **_SCALE,
    },
    "clip": {  # as in 2021: a number, and no word on rescaling
        "feature_extractor_type": "CLIPFeatureExtractor", "do_resize": True, "resample": 3,
        "size": 32, "do_center_crop": True, "crop_size": 32, **_NORM,
    },
    "convnext": {
        "image_processor_type": "ConvNextImageProcessor", "do_resize": True, "resample": 3,
        "size": {"shortest_edge": 32}, "crop_pct": 0.875, **_NORM, **_SCALE,
    },
}  # fmt: skip
SETTINGS |= {"dinov2_with_registers": SETTINGS["dinov2"], "swin": SETTINGS["vit"]}


def write_vision(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """Write a model of `kind` with weights drawn from `seed`; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = _model(kind)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SETTINGS[kind]))
    return folder


def _model(kind: str) -> torch.nn.Module:
    import transformers as hf

    sizes = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 32,
        "patch_size": 8,
    }
    with torch.random.fork_rng(devices=[]):
        if kind == "vit":
            return hf.ViTModel(hf.ViTConfig(**sizes))
        if kind == "dinov2":
            return hf.Dinov2Model(hf.Dinov2Config(**sizes))
        if kind == "dinov2_with_registers":
            config = hf.Dinov2WithRegistersConfig(num_register_tokens=3, **sizes)
            return hf.Dinov2WithRegistersModel(config)
        if kind == "clip":
            text = {
                "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 16, "vocab_size": 20, "max_position_embeddings": 8,
            }  # fmt: skip
            return hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=sizes))
        if kind == "swin":
            return hf.SwinModel(
                hf.SwinConfig(
                    image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2],
                    window_size=4,
                )
            )  # fmt: skip
        return hf.ConvNextModel(
            hf.ConvNextConfig(num_stages=2, hidden_sizes=[6, 12], depths=[1, 1])
        )
