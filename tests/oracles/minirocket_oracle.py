"""Write tests/data/minirocket_oracle.npz: what aeon's MiniRocket makes of real ECGs.

Run from the repository's root in an environment with aeon (1.6 was used) and numpy::

    python tests/oracles/minirocket_oracle.py

The signals are PTB-XL records in tests/data/wfdb, each channel brought to mean 0, deviation 1 and
multiples of 1/1024. On that grid float32 sums are exact in any order, so that two implementations
can be compared feature by feature: a share of time jumps by 1/length when one rounding differs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from aeon.transformations.collection.convolution_based import MiniRocket

ROOT = Path(__file__).resolve().parents[2]
RECORDS = [ROOT / "tests" / "data" / "wfdb" / f"{i:05d}_lr.dat" for i in (1, 2, 3, 4)]
TARGET = ROOT / "tests" / "data" / "minirocket_oracle.npz"
# Name -> channels, length, wanted features.
CASES = {"twelve": (12, 500, 2016), "three": (3, 1000, 840), "one": (1, 150, 10_000)}
# (length, wanted features) -> dilations and biases per kernel.
LAYOUTS = [(9, 84), (10, 1000), (100, 10_000), (128, 84), (1000, 500), (5000, 9999), (5000, 40_000)]


def on_grid(signals: np.ndarray) -> np.ndarray:
    """Standardise each channel and round to multiples of 1/1024."""
    centred = signals - signals.mean(-1, keepdims=True)
    return (np.rint(centred / centred.std(-1, keepdims=True) * 1024) / 1024).astype(np.float32)


def main() -> None:
    """Run aeon and store inputs, parameters and features."""
    records = np.stack([np.fromfile(path, "<i2").reshape(-1, 12).T for path in RECORDS])
    arrays: dict[str, np.ndarray] = {}
    for name, (channels, length, n_features) in CASES.items():
        X = on_grid(records[:, :channels, :length])
        # One signal to fit on: no random choice of signals is left in the biases.
        rocket = MiniRocket(n_kernels=n_features, random_state=0).fit(X[:1])
        keys = ("per_combination", "indices", "dilations", "counts", "biases")
        found = dict(zip(keys, rocket.parameters, strict=True))
        arrays |= {f"{name}_{key}": np.asarray(value) for key, value in found.items()}
        arrays |= {f"{name}_X": X, f"{name}_features": rocket.transform(X)}
    for length, n_features in LAYOUTS:
        noise = np.random.default_rng(0).normal(size=(1, 1, length))
        parameters = MiniRocket(n_kernels=n_features, random_state=0).fit(noise).parameters
        arrays[f"layout_{length}_{n_features}"] = np.stack(parameters[2:4])
    np.savez_compressed(TARGET, **arrays)


if __name__ == "__main__":
    main()
