"""EmbeddingCache: looking 10,000 vectors up against encoding them, and 100 kills while writing.

Encoding is MiniLM on real medical abstracts, float32, on the threads that torch takes by itself.
100 texts are encoded and the time is scaled to 10,000, in proportion. What is looked up are
10,000 distinct texts of the same lengths; their stored vectors are drawn at random, which makes no
difference to a look-up. Writers and kills are those of the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.common import data_folder, paired_seconds, report
from medfusion_sdk import EmbeddingCache, TextEncoder

N_LOOKED_UP, N_ENCODED = 10_000, 100
AT_LEAST = 50


def survive_kills() -> None:
    """Print what 100 kills at random moments leave of what was stored."""
    with tempfile.TemporaryDirectory() as folder:
        found = json.loads(
            subprocess.run(
                [sys.executable, "-m", "tests.embedding_cache.kills", folder],
                cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
    bad = sum(found[kind] for kind in ("broken_files", "damaged", "wrong", "more_than_in_flight"))
    report(
        f"values intact after {found['kills']} kills of 4 writers",
        (found["confirmed"] - found["lost"] - bad) / found["confirmed"],
        f"the {found['confirmed']:,} values whose storing was confirmed before",
        at_least=1,
        detail=f"{found['wrong']} wrong, {found['damaged']} damaged, {found['lost']} lost, "
        f"{found['twice']} computed again, {found['broken_files']} broken files",
    )


def distinct_texts(abstracts: pd.Series) -> list[str]:
    """Texts of real lengths, no two the same."""
    return [f"{abstracts.iloc[i % len(abstracts)]} {i}" for i in range(N_LOOKED_UP)]


def fill(cache: EmbeddingCache, texts: list[str], vectors: np.ndarray) -> None:
    """Store vectors where the encoder will look for those of the texts."""
    encoder = TextEncoder(cache=cache)

    def without_network(cells, _):
        yield range(len(cells)), vectors[: len(cells)]

    encoder._encode = without_network
    encoder.transform(texts)


def compare_lookup() -> None:
    """Print how much faster stored vectors are there than encoded ones."""
    table = pd.read_csv(data_folder("medical_abstracts") / "medical_abstracts.csv")
    abstracts = table["medical_abstract"].sample(frac=1, random_state=0)
    texts, sample = distinct_texts(abstracts), abstracts.iloc[:N_ENCODED].tolist()
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((N_LOOKED_UP, 384), dtype=np.float32)
    keys = [rng.bytes(32) for _ in range(N_LOOKED_UP)]
    encoder = TextEncoder(dtype="float32")
    encoder.transform(sample[:2])  # weights and threads
    with tempfile.TemporaryDirectory() as folder, EmbeddingCache(folder) as cache:
        cache.put_many(keys, vectors)
        fill(cache, texts, vectors)
        cache.reset_stats()
        cached = TextEncoder(cache=cache)
        for what, look_up in (
            (f"get_many of {N_LOOKED_UP:,} vectors", lambda: cache.get_many(keys)),
            (f"TextEncoder.transform of {N_LOOKED_UP:,} texts", lambda: cached.transform(texts)),
        ):
            looked_up, encoded = paired_seconds(look_up, lambda: encoder.transform(sample), 3)
            encoded *= N_LOOKED_UP / N_ENCODED
            report(
                what,
                encoded / looked_up,
                "as fast as MiniLM encoding them",
                at_least=AT_LEAST,
                detail=f"{looked_up:.3f} s against {encoded:.0f} s, scaled from {N_ENCODED} texts",
            )
        assert cache.stats().misses == 0


def main() -> int:
    """Print both figures."""
    survive_kills()
    compare_lookup()
    return 0


if __name__ == "__main__":
    sys.exit(main())
