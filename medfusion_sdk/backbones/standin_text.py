"""A tiny seeded text model for tests and first steps: real code path, no pretrained knowledge.

Its weights are drawn, not learnt; words become tokens by hashing. Texts with the same words come
out alike, which is enough to try things out and too little to report a result on.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from typing import Any

import numpy as np
import torch

__all__ = ["HashingTokenizer", "build_standin", "describe_standin", "draw_weights"]

_SEED = 0
_CONFIG: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 256,
    "type_vocab_size": 1,
}
_PAD, _START, _END = 0, 1, 2
_RESERVED = 3
_SCALES_A_NORM = re.compile(r"norm\d?\.weight$", flags=re.IGNORECASE)


def describe_standin() -> dict[str, Any]:
    """Return the fields of the stand-in's TextSource.

    Returns
    -------
    dict
        Its fingerprint covers seed, sizes and recipe.

    Examples
    --------
    >>> describe_standin()["width"]
    64
    """
    recipe = json.dumps({"recipe": 1, "seed": _SEED, **_CONFIG}, sort_keys=True)
    return {
        "name": "standin-text",
        "folder": None,
        "fingerprint": hashlib.blake2b(recipe.encode(), digest_size=32).hexdigest(),
        "width": _CONFIG["hidden_size"],
        "window": _CONFIG["max_position_embeddings"],
        "max_length": _CONFIG["max_position_embeddings"],
        "pooling": "mean",
        "normalize": True,
    }


_FIRST, _LAST = "[CLS]", "[SEP]"  # no word has brackets


class HashingTokenizer:
    """Lower-case words and single punctuation marks, hashed to token ids.

    Examples
    --------
    >>> HashingTokenizer().encode("Sinus rhythm.") == HashingTokenizer().encode("sinus   RHYTHM .")
    True
    """

    pad_token_id = _PAD

    def encode(self, text: str) -> list[int]:
        """Turn a text into token ids between a start and an end token.

        Parameters
        ----------
        text : str
            Any text.

        Returns
        -------
        list of int
            At least start and end.
        """
        buckets = _CONFIG["vocab_size"] - _RESERVED
        ids = {_FIRST: _START, _LAST: _END}
        return [
            ids.get(token, _RESERVED + zlib.crc32(token.encode()) % buckets)
            for token in self.tokens(text)
        ]

    def tokens(self, text: str) -> list[str]:
        """Cut a text into its tokens.

        Parameters
        ----------
        text : str
            Any text.

        Returns
        -------
        list of str
            One per id of :meth:`encode`.
        """
        return [_FIRST, *re.findall(r"\w+|[^\w\s]", text.lower()), _LAST]


def build_standin() -> torch.nn.Module:
    """Build the stand-in network, the same on every machine.

    Returns
    -------
    Module
        A BERT of two layers with weights drawn from a generator of its own.
    """
    from transformers import BertConfig, BertModel

    # The constructor draws weights that are overwritten below; global random state stays as it is.
    with torch.random.fork_rng(devices=[]):
        model = BertModel(BertConfig(**_CONFIG, pad_token_id=_PAD), add_pooling_layer=False)
    draw_weights(model, _SEED)
    return model


def draw_weights(model: torch.nn.Module, seed: int) -> None:
    """Draw a transformer's weights, the same on every machine.

    Parameters
    ----------
    model : Module
        Its vectors become 0, those that scale a norm 1.
    seed : int
        Of everything else.
    """
    # NumPy's generator gives the same bits on every processor; torch's normal draws may not.
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim == 1:
                weight.fill_(1.0 if _SCALES_A_NORM.search(name) else 0.0)
            else:
                drawn = generator.standard_normal(tuple(weight.shape)) / weight[0].numel() ** 0.5
                weight.copy_(torch.from_numpy(drawn))
