"""TextEncoder against sentence-transformers: the same model, the same 600 medical abstracts.

Needs sentence-transformers, which the package itself does without.
Both run with their default batch settings, on the threads that torch takes by itself.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import torch

from benchmarks.common import data_folder, paired_seconds, report
from medfusion_sdk.backbones.precision import has_bfloat16_units
from medfusion_sdk.backbones.text_source import find_text_source
from medfusion_sdk.encoders.text import TextEncoder

N_TEXTS, N_COMPARED, REPEATS = 600, 64, 3
AT_LEAST, AT_LEAST_BFLOAT16, LEAST_COSINE = 1.4, 3, 0.999


def abstracts(n_texts: int) -> list[str]:
    """The first real abstracts of the set."""
    table = pd.read_csv(data_folder("medical_abstracts") / "medical_abstracts.csv", nrows=n_texts)
    return table["medical_abstract"].tolist()


def compare_speed(texts: list[str]) -> None:
    """Print documents per second against sentence-transformers, and how far vectors are apart."""
    if find_spec("sentence_transformers") is None:
        print("skipped: speed, for sentence-transformers isn't installed")
        return
    from sentence_transformers import SentenceTransformer

    published = SentenceTransformer(str(find_text_source("minilm").folder))
    exact, default = TextEncoder(dtype="float32"), TextEncoder()
    apart = np.abs(exact.transform(texts[:32]) - published.encode(texts[:32])).max()
    pairs = [("float32", exact, AT_LEAST)]
    device = published.device
    if has_bfloat16_units(device):
        default.transform(texts[:32])
        pairs.append(("defaults", default, AT_LEAST_BFLOAT16))
    else:
        print(f"no bfloat16 units on this {device.type}: TextEncoder's default is float32 here")
    for what, encoder, bound in pairs:
        ours, theirs = paired_seconds(
            lambda encoder=encoder: encoder.transform(texts),
            lambda: published.encode(texts),
            REPEATS,
        )
        report(
            f"TextEncoder, {what}, documents per second",
            theirs / ours,
            "sentence-transformers",
            at_least=bound,
            detail=f"{len(texts) / ours:.1f} against {len(texts) / theirs:.1f}; "
            f"{torch.get_num_threads()} threads; largest difference {apart:.1e}",
        )


def compare_precision(texts: list[str]) -> None:
    """Print the lowest cosine between bfloat16 and float32 embeddings."""
    low, exact = (TextEncoder(dtype=dtype).transform(texts) for dtype in ("bfloat16", "float32"))
    report(
        "lowest cosine of bfloat16 embeddings",
        float((low * exact).sum(axis=1).min()),
        f"float32's, over {len(texts)} texts",
        at_least=LEAST_COSINE,
    )


def main() -> int:
    """Print the figures."""
    texts = abstracts(N_TEXTS)
    compare_precision(texts[:N_COMPARED])
    compare_speed(texts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
