"""Writes WFDB records byte by byte from the format's definition, apart from the reader's code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

BITS = {
    "8": 8, "80": 8, "508": 8, "310": 10, "311": 10, "212": 12, "16": 16, "61": 16, "160": 16,
    "516": 16, "24": 24, "524": 24, "32": 32,
}  # fmt: skip


@dataclass
class Lead:
    """A signal: as many samples as frames times `per_frame`, None where invalid."""

    name: str
    samples: list[int | None]
    per_frame: int = 1
    skew: int = 0
    gain: str = "200"
    baseline: int = 0
    unit: str = "mV"

    def stored(self, fmt: str) -> list[int]:
        return [-(2 ** (BITS[fmt] - 1)) if each is None else each for each in self.samples]


def expected(lead: Lead, factor: float = 1.0) -> np.ndarray:
    """What the lead holds in mV, shifted by its skew."""
    values = [np.nan if v is None else (v - lead.baseline) / float(lead.gain) for v in lead.samples]
    moved = lead.skew * lead.per_frame
    return np.array(values[moved:] + [np.nan] * moved) * factor


def interleaved(leads: list[Lead], fmt: str) -> list[int]:
    frames = len(leads[0].samples) // leads[0].per_frame
    return [
        sample
        for frame in range(frames)
        for lead in leads
        for sample in lead.stored(fmt)[frame * lead.per_frame : (frame + 1) * lead.per_frame]
    ]


def encode(samples: list[int], fmt: str) -> bytes:
    """Bytes of samples in an order of fixed size; 8 takes differences."""
    if fmt in ("8", "16", "24", "32", "61"):
        size, order = BITS[fmt] // 8, "big" if fmt == "61" else "little"
        return b"".join(v.to_bytes(size, order, signed=True) for v in samples)
    if fmt in ("80", "160"):
        return b"".join(
            (v + 2 ** (BITS[fmt] - 1)).to_bytes(BITS[fmt] // 8, "little") for v in samples
        )
    written = bytearray()
    per_block = 2 if fmt == "212" else 3
    for start in range(0, len(samples), per_block):
        block = samples[start : start + per_block]
        a, b, c = [v % 2 ** BITS[fmt] for v in [*block, 0, 0][:3]]
        if fmt == "212":
            whole = [a % 256, a // 256 + b // 256 * 16, b % 256]
            written += bytes(whole[: {1: 2, 2: 3}[len(block)]])
        elif fmt == "310":
            first, second = a * 2 % 256, b * 2 % 256
            whole = [first, c % 32 * 8 + a // 128, second, c // 32 * 8 + b // 128]
            written += bytes(whole[: {1: 2, 2: 4, 3: 4}[len(block)]])
        else:
            whole = list((a + b * 2**10 + c * 2**20).to_bytes(4, "little"))
            written += bytes(whole[: {1: 2, 2: 3, 3: 4}[len(block)]])
    return bytes(written)


def write_flac(path: Path, leads: list[Lead], fmt: str) -> None:
    bits = BITS[fmt]
    table = np.array([lead.stored(fmt) for lead in leads], dtype=np.int64).T << (32 - bits)
    subtype = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}[bits]
    with path.open("wb") as file:
        soundfile.write(file, table.astype(np.int32), 96000, subtype=subtype, format="FLAC")


def write(
    folder: Path, leads: list[Lead], fmt: str = "16", *, name: str = "rec", fs: float = 250,
    prolog: int = 0, length: bool = True, sums: bool = True,
) -> Path:  # fmt: skip
    """Write a record of one signal file and return its path."""
    frames = len(leads[0].samples) // leads[0].per_frame
    data = folder / f"{name}.dat"
    initial = dict.fromkeys(range(len(leads)), 0)
    if fmt in ("508", "516", "524"):
        write_flac(data, leads, fmt)
    elif fmt == "8":
        differences = []
        for i, lead in enumerate(leads):
            initial[i] = lead.samples[0]
            steps = np.diff([lead.samples[0], *lead.samples]).tolist()
            differences.append(Lead(lead.name, steps, lead.per_frame))
        data.write_bytes(bytes(prolog) + encode(interleaved(differences, fmt), fmt))
    else:
        data.write_bytes(bytes(prolog) + encode(interleaved(leads, fmt), fmt))
    lines = [f"{name} {len(leads)} {fs:g}" + (f" {frames}" if length else "")]
    for i, lead in enumerate(leads):
        layout = fmt + (f"x{lead.per_frame}" if lead.per_frame > 1 else "")
        layout += (f":{lead.skew}" if lead.skew else "") + (f"+{prolog}" if prolog else "")
        total = sum(lead.stored(fmt)) % 65536 if sums else 0
        lines.append(
            f"{name}.dat {layout} {lead.gain}({lead.baseline})/{lead.unit} {BITS[fmt]} 0 "
            f"{initial[i]} {total} 0 {lead.name}"
        )
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name
