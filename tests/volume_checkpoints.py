"""Small random checkpoints in M3D-CLIP's layout, written as the published one is."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from medfusion_sdk.nn.vit3d_shape import ViT3DShape
from tests.text_checkpoints import _write_wordpieces, edit_json

# Both towers have one width, of a head of 64 as BERT has.
SHAPE = ViT3DShape((8, 16, 16), (4, 8, 8), width=64, n_layers=2, n_heads=4, mlp_width=80)


def vision_tensors(shape: ViT3DShape = SHAPE, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of the image tower, by the names that it was published with."""
    width, (patch, image) = shape.width, (shape.patch_size, shape.image_size)
    n_patches = 1
    for length, part in zip(image, patch, strict=True):
        n_patches *= length // part
    sizes = {
        "cls_token": (1, 1, width),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "patch_embedding.position_embeddings": (1, n_patches, width),
        "patch_embedding.patch_embeddings.1.weight": (width, patch[0] * patch[1] * patch[2]),
        "patch_embedding.patch_embeddings.1.bias": (width,),
    }
    for layer in range(shape.n_layers):
        block = {
            "mlp.linear1.weight": (shape.mlp_width, width),
            "mlp.linear1.bias": (shape.mlp_width,),
            "mlp.linear2.weight": (width, shape.mlp_width),
            "mlp.linear2.bias": (width,),
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.out_proj.weight": (width, width),
            "attn.out_proj.bias": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
        }
        sizes |= {f"blocks.{layer}.{name}": size for name, size in block.items()}
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(size, generator=generator) for name, size in sizes.items()}


def write_m3d_clip(folder: Path, shape: ViT3DShape = SHAPE, **changed: torch.Tensor) -> Path:
    """Write a folder with both towers, projections, configuration and tokenizer; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(1)
    width = shape.width
    tensors = {f"vision_encoder.{name}": value for name, value in vision_tensors(shape).items()}
    for name, value in language_tower(width).state_dict().items():
        drawn = 0.3 * torch.randn(value.shape, generator=generator)
        tensors[f"language_encoder.{name}"] = drawn
    for name in ("mm_vision_proj", "mm_language_proj"):
        tensors[f"{name}.weight"] = torch.randn(width, width, generator=generator)
        tensors[f"{name}.bias"] = torch.randn(width, generator=generator)
    tensors["logit_scale"] = torch.tensor(2.66)
    save_file(tensors | changed, folder / "model.safetensors", metadata={"format": "pt"})
    edit_json(
        folder / "config.json",
        model_type="m3d_clip",
        auto_map={"AutoModel": "modeling_m3d_clip.M3DCLIP"},
        img_size=list(shape.image_size),
        patch_size=list(shape.patch_size),
        hidden_size=width,
        num_heads=shape.n_heads,
    )
    _write_wordpieces(folder)
    return folder


def language_tower(width: int = SHAPE.width) -> torch.nn.Module:
    """A BERT of two layers, with the pooler that the published one has."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=64,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=max(1, width // 64),
        intermediate_size=48,
        max_position_embeddings=66,
    )
    with torch.random.fork_rng(devices=[]):
        return BertModel(config).eval()
