"""Small random ST-MEM encoders in the layout of the published file, and what they compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.special import erf, softmax

WIDTH, DEPTH, HEADS, HEAD_WIDTH, HIDDEN, PATCH, PATCHES = 24, 2, 2, 64, 40, 75, 30


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published state dict, at another size."""
    inner = HEADS * HEAD_WIDTH
    found = {
        "pos_embedding": (1, PATCHES + 2, WIDTH),
        "sep_embedding": (WIDTH,),
        "to_patch_embedding.1.weight": (PATCH,),
        "to_patch_embedding.1.bias": (PATCH,),
        "to_patch_embedding.2.weight": (WIDTH, PATCH),
        "to_patch_embedding.2.bias": (WIDTH,),
        "to_patch_embedding.3.weight": (WIDTH,),
        "to_patch_embedding.3.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    found |= {f"lead_embeddings.{lead}": (WIDTH,) for lead in range(12)}
    for i in range(DEPTH):
        found |= {
            f"block{i}.attn.norm.weight": (WIDTH,),
            f"block{i}.attn.norm.bias": (WIDTH,),
            f"block{i}.attn.fn.to_qkv.weight": (3 * inner, WIDTH),
            f"block{i}.attn.fn.to_qkv.bias": (3 * inner,),
            f"block{i}.attn.fn.to_out.0.weight": (WIDTH, inner),
            f"block{i}.attn.fn.to_out.0.bias": (WIDTH,),
            f"block{i}.ff.norm.weight": (WIDTH,),
            f"block{i}.ff.norm.bias": (WIDTH,),
            f"block{i}.ff.fn.net.0.weight": (HIDDEN, WIDTH),
            f"block{i}.ff.fn.net.0.bias": (HIDDEN,),
            f"block{i}.ff.fn.net.3.weight": (WIDTH, HIDDEN),
            f"block{i}.ff.fn.net.3.bias": (WIDTH,),
        }
    return found


def draw_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Draw a state dict."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * 0.3).astype(np.float32)
        for name, shape in shapes().items()
    }


def write_st_mem(path: Path, weights: dict[str, np.ndarray] | None = None, **beside) -> Path:
    """Write a checkpoint as the authors' training script does."""
    weights = draw_weights() if weights is None else weights
    model = {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}
    torch.save({"model": model, "epoch": 799, "config": {"seed": 0}, **beside}, path)
    return path


def reference_embedding(
    weights: dict[str, np.ndarray], crop: np.ndarray, leads: list[int]
) -> np.ndarray:
    """Embed one crop (n_leads, 2250), token by token, in double precision."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return np.einsum("...i,oi->...o", x, w[f"{name}.weight"]) + w[f"{name}.bias"]

    tokens = []
    for samples, lead in zip(crop.astype(np.float64), leads, strict=True):
        patches = norm(samples.reshape(PATCHES, PATCH), "to_patch_embedding.1")
        patches = norm(linear(patches, "to_patch_embedding.2"), "to_patch_embedding.3")
        place, separator = w["pos_embedding"][0], w["sep_embedding"]
        row = [separator + place[0], *(patches + place[1:-1]), separator + place[-1]]
        tokens += [token + w[f"lead_embeddings.{lead}"] for token in row]
    x = np.array(tokens)
    for i in range(DEPTH):
        qkv = linear(norm(x, f"block{i}.attn.norm"), f"block{i}.attn.fn.to_qkv")
        q, k, v = (part.reshape(len(x), HEADS, HEAD_WIDTH) for part in np.split(qkv, 3, axis=-1))
        weight = softmax(np.einsum("qhd,khd->hqk", q, k) / np.sqrt(HEAD_WIDTH), axis=-1)
        mixed = np.einsum("hqk,khd->qhd", weight, v).reshape(len(x), -1)
        x = x + linear(mixed, f"block{i}.attn.fn.to_out.0")
        hidden = linear(norm(x, f"block{i}.ff.norm"), f"block{i}.ff.fn.net.0")
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        x = x + linear(hidden, f"block{i}.ff.fn.net.3")
    kept = x.reshape(len(leads), PATCHES + 2, WIDTH)[:, 1:-1]
    return norm(kept.mean(axis=(0, 1)), "norm")
