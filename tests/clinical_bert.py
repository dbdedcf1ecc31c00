"""A small random Bio_ClinicalBERT in the layout of the published folder, and what it computes.

The folder holds config.json, vocab.txt and pytorch_model.bin, no settings of the tokenizer. The
weights are those of a network for pretraining, with its heads.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from scipy.special import erf, softmax

WIDTH, DEPTH, HEADS, HIDDEN, POSITIONS = 24, 2, 3, 40, 32
VOCABULARY = [
    "[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "potassium", "reference", "mmol",
    "high", "to", "l", "L", "/", ".", ",", "(", ")", "1", "3", "5", "9", "K",
]  # fmt: skip


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published state dict, at another size."""
    n_words = len(VOCABULARY)
    found = {
        "bert.embeddings.word_embeddings.weight": (n_words, WIDTH),
        "bert.embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "bert.embeddings.token_type_embeddings.weight": (2, WIDTH),
        "bert.embeddings.LayerNorm.weight": (WIDTH,),
        "bert.embeddings.LayerNorm.bias": (WIDTH,),
        "bert.pooler.dense.weight": (WIDTH, WIDTH),
        "bert.pooler.dense.bias": (WIDTH,),
        "cls.predictions.bias": (n_words,),
        "cls.predictions.transform.dense.weight": (WIDTH, WIDTH),
        "cls.predictions.transform.dense.bias": (WIDTH,),
        "cls.predictions.transform.LayerNorm.weight": (WIDTH,),
        "cls.predictions.transform.LayerNorm.bias": (WIDTH,),
        "cls.predictions.decoder.weight": (n_words, WIDTH),
        "cls.seq_relationship.weight": (2, WIDTH),
        "cls.seq_relationship.bias": (2,),
    }
    for i in range(DEPTH):
        layer = f"bert.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            found[f"{layer}.attention.self.{name}.weight"] = (WIDTH, WIDTH)
            found[f"{layer}.attention.self.{name}.bias"] = (WIDTH,)
        for place, size in (
            ("attention.output", (WIDTH, WIDTH)),
            ("intermediate", (HIDDEN, WIDTH)),
            ("output", (WIDTH, HIDDEN)),
        ):
            found[f"{layer}.{place}.dense.weight"] = size
            found[f"{layer}.{place}.dense.bias"] = (size[0],)
            if place != "intermediate":
                found[f"{layer}.{place}.LayerNorm.weight"] = (WIDTH,)
                found[f"{layer}.{place}.LayerNorm.bias"] = (WIDTH,)
    return found


def write_clinical_bert(folder: Path) -> dict[str, np.ndarray]:
    """Write the three files; return the weights."""
    rng = np.random.default_rng(0)
    weights = {
        name: (0.4 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(
        {name: torch.from_numpy(values) for name, values in weights.items()},
        folder / "pytorch_model.bin",
    )
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    config = {
        "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "hidden_size": WIDTH, "initializer_range": 0.02, "intermediate_size": HIDDEN,
        "layer_norm_eps": 1e-12, "max_position_embeddings": POSITIONS, "model_type": "bert",
        "num_attention_heads": HEADS, "num_hidden_layers": DEPTH, "type_vocab_size": 2,
        "vocab_size": len(VOCABULARY),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return weights


def reference_states(weights: dict[str, np.ndarray], tokens: list[str]) -> np.ndarray:
    """Compute the last layer's states of some tokens, in double precision."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    ids = [VOCABULARY.index(token) for token in tokens]
    words, places, types = (
        w[f"bert.embeddings.{kind}_embeddings.weight"]
        for kind in ("word", "position", "token_type")
    )
    x = norm(words[ids] + places[: len(ids)] + types[0], "bert.embeddings")
    for i in range(DEPTH):
        layer = f"bert.encoder.layer.{i}"
        q, k, v = (
            linear(x, f"{layer}.attention.self.{name}").reshape(len(ids), HEADS, -1)
            for name in ("query", "key", "value")
        )
        weight = softmax(np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1]), axis=-1)
        mixed = np.einsum("hqk,khd->qhd", weight, v).reshape(len(ids), WIDTH)
        mixed = linear(mixed, f"{layer}.attention.output.dense")
        x = norm(x + mixed, f"{layer}.attention.output")
        hidden = linear(x, f"{layer}.intermediate.dense")
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        x = norm(x + linear(hidden, f"{layer}.output.dense"), f"{layer}.output")
    return x
