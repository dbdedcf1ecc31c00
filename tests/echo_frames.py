"""Frames for tests of EchoPrime: the same on every machine, with edges and slopes."""

from __future__ import annotations

import numpy as np

# Height and width, and where the picture begins and ends once it is square and a tenth is off.
CUTS = {
    (600, 800): (slice(60, 540), slice(160, 640)),
    (240, 171): (slice(51, 189), slice(17, 154)),  # 34 off each end, then 17 of 172 and of 171
    (112, 112): (slice(11, 101), slice(11, 101)),
}


def draw_frame(height: int, width: int) -> np.ndarray:
    """Draw waves, a disc and a chequer in three colours, (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    disc = 90 * (4 * ((2 * y - height) ** 2 + (2 * x - width) ** 2) < height**2)
    grey = (y * y // 50 + 3 * x) % 120 + disc + 40 * ((x // 7 + y // 5) % 2)
    return np.stack([grey, 255 - grey, grey // 2], axis=-1).astype(np.uint8)
