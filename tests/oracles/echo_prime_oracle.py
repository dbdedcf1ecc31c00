"""Write tests/data/echo_prime_oracle.npz: what OpenCV makes of some frames by EchoPrime's steps.

Run from the repository's root in an environment with opencv-python-headless (4.14.0 was used)::

    python -m tests.oracles.echo_prime_oracle
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.echo_frames import CUTS, draw_frame

TARGET = Path(__file__).resolve().parents[1] / "data" / "echo_prime_oracle.npz"
EVERY = 5  # rows and columns that are kept, for a small file


def main() -> None:
    """Cut and resize each frame."""
    kept = {}
    for shape, (rows, columns) in CUTS.items():
        picture = draw_frame(*shape)[rows, columns]
        resized = cv2.resize(picture, (224, 224), interpolation=cv2.INTER_CUBIC)
        kept["x".join(map(str, shape))] = resized[::EVERY, ::EVERY]
    np.savez_compressed(TARGET, **kept)


if __name__ == "__main__":
    main()
