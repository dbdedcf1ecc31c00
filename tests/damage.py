"""What becomes of files on bad disks and half-done downloads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

HEAD = 700  # where headers are, in which most of the damage hurts


def damaged(content: bytes, n: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `n` variants: cut off, a byte or a bit changed, noise, and a run of ones."""
    rng = np.random.default_rng(seed)
    for k in range(n):
        variant = bytearray(content)
        place = int(rng.integers(0, min(len(variant), HEAD) if k % 2 else len(variant)))
        kind = k % 5
        if kind == 0:
            del variant[place:]
        elif kind == 1:
            variant[place] = int(rng.integers(0, 256))
        elif kind == 2:
            variant[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 3:
            variant[place : place + 6] = rng.bytes(int(rng.integers(1, 9)))
        else:
            variant[place : place + 8] = b"\xff" * len(variant[place : place + 8])
        yield bytes(variant)
