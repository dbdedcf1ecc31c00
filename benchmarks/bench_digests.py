"""Digests of files: what it costs to read each one's content every time, against decoding it.

Each kind of file as it is met (drawn contents, the sizes of real ones), in the page cache of the
system as after a first look. The stamp of a file, its status with sixteen blocks of it, is what a
memo would need each time; weights are remembered by it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import wfdb
from PIL import Image

from benchmarks.common import paired_seconds, report
from medfusion_sdk.readers.digest import files_digest
from medfusion_sdk.readers.file_memo import file_sha256, file_stamp
from medfusion_sdk.readers.image import image_digest, read_image
from medfusion_sdk.readers.signal import read_signal, signal_digest
from medfusion_sdk.readers.video import read_frames, video_digest
from medfusion_sdk.readers.volume import read_volume, volume_digest

RNG = np.random.default_rng(0)
TIMES = 20


def write_files(folder: Path) -> dict[str, tuple[Path, Callable, Callable]]:
    """Write one file of each kind; give its path, its digest and its reader."""
    ecg = np.cumsum(RNG.integers(-20, 21, (5000, 12)), axis=0)
    names = ["I", "II", "III", "aVR", "aVL", "aVF", *(f"V{i}" for i in range(1, 7))]
    wfdb.wrsamp(
        "ecg", fs=500, units=["mV"] * 12, sig_name=names, d_signal=ecg, fmt=["16"] * 12,
        adc_gain=[1000] * 12, baseline=[0] * 12, write_dir=str(folder),
    )  # fmt: skip
    smooth = np.linspace(0, 200, 1024 * 1024).reshape(1024, 1024)
    grey = (smooth + RNG.integers(0, 16, smooth.shape)).astype(np.uint8)
    Image.fromarray(grey).save(folder / "radiograph.png")
    Image.fromarray(grey).save(folder / "radiograph.jpg")
    voxels = np.zeros((192, 224, 192), np.int16)
    voxels[30:160, 30:190, 30:160] = RNG.integers(0, 1500, (130, 160, 130))
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / "head.nii.gz")
    np.save(folder / "echo.npy", RNG.integers(0, 256, (120, 224, 224, 3), dtype=np.uint8))

    def volume(path: Path) -> np.ndarray:
        return read_volume(path, size=(32, 256, 256))

    def frames(path: Path) -> np.ndarray:
        return read_frames(path, slice(0, 32, 2))

    return {
        "WFDB record, 12 leads, 10 s at 500 Hz": (folder / "ecg.hea", signal_digest, read_signal),
        "PNG, 1024 x 1024": (folder / "radiograph.png", image_digest, read_image),
        "JPEG, 1024 x 1024": (folder / "radiograph.jpg", image_digest, read_image),
        "NIfTI, compressed, 192 x 224 x 192": (folder / "head.nii.gz", volume_digest, volume),
        "video, 120 frames of 224 x 224, 16 read": (folder / "echo.npy", video_digest, frames),
    }


def compare(folder: Path) -> None:
    """Print what a digest of the content, and a stamp, cost of what decoding costs."""
    for kind, (path, digest, read) in write_files(folder).items():
        digested, decoded = paired_seconds(lambda: digest(path), lambda: read(path), TIMES)  # noqa: B023
        stamped, _ = paired_seconds(lambda: file_stamp(path), lambda: None, TIMES)  # noqa: B023
        report(
            f"digest of a {kind}",
            digested / decoded,
            "the time to decode it",
            detail=f"{1e3 * digested:.2f} ms against {1e3 * decoded:.2f} ms; its stamp alone "
            f"{1e3 * stamped:.2f} ms",
        )


def remember(folder: Path) -> None:
    """Print what asking for the digest of settled weights costs."""
    weights = folder / "model.safetensors"
    weights.write_bytes(RNG.bytes(90_000_000))
    time.sleep(2.5)  # what changed just now is read again
    file_sha256(weights)
    again, whole = paired_seconds(
        lambda: file_sha256(weights), lambda: files_digest([weights]), TIMES
    )
    report(
        "digest of 90 MB of weights, from the second call on",
        again / whole,
        "reading them whole",
        detail=f"{1e3 * again:.2f} ms against {1e3 * whole:.0f} ms",
    )


def main() -> int:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder))
        remember(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
