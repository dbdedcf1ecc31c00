"""Volumes: memory of training at the published size, flat memory on files, cost of three modes.

Weights are random throughout: what is computed is the published network, what comes out means
nothing. Each figure is taken in a process of its own, which ends with it; memory is the resident
peak of that whole process, libraries included (about 300 MB).

- One volume of 256 x 256 x 256 through the conv3d adapter and a vision transformer of M3D-CLIP's
  size (88 million weights, 2,048 patches), forward and backward, with and without checkpointing.
- The same step for the three modes: seconds, peak memory and trained weights side by side.
- A fit on 500 NIfTI files of 128 x 128 x 128, read batch by batch in every epoch.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.common import report
from medfusion_sdk import BrainAdapterClassifier
from medfusion_sdk.datasets import make_volume_cohort
from medfusion_sdk.encoders._volume_inputs import VolumeInputs
from medfusion_sdk.nn.brain_adapter import BrainAdapterNetwork
from medfusion_sdk.nn.brain_adapter_shape import BrainAdapterShape
from medfusion_sdk.nn.brain_adapter_task import BrainAdapterTask
from medfusion_sdk.nn.vit3d import ViT3D
from medfusion_sdk.nn.vit3d_shape import ViT3DShape
from medfusion_sdk.training.state import trainable_parameters

PUBLISHED = ViT3DShape((32, 256, 256), (4, 16, 16), 768, n_layers=12, n_heads=12, mlp_width=3072)
SIZE = (256, 256, 256)
N_FILES, N_DISTINCT, N_EPOCHS = 500, 10, 3
GIBIBYTE, MEGABYTE = 1 << 30, 1 << 20


def alone(function, *arguments):
    """Run a function in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak_bytes() -> int:
    """Largest resident size that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int:
    """Resident size of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def published_task(mode: str, checkpointing: bool) -> BrainAdapterTask:
    """Build adapter, encoder, projections and head at the published size."""
    shape = BrainAdapterShape(
        modalities=("image", "text"),
        volume_size=SIZE,
        target_size=PUBLISHED.image_size,
        adapter="conv3d",
        adapter_channels=8,
        image_width=768,
        text_width=768,
        proj_dim=512,
        image_pool="cls",
        train_mode=mode,
        absences=(),
        temperature=0.07,
        learnable_temperature=True,
    )
    vision = ViT3D(PUBLISHED).requires_grad_(mode == "full")
    network = BrainAdapterNetwork(vision, shape, gradient_checkpointing=checkpointing)
    return BrainAdapterTask(network, 3, multilabel=False)


def published_step(mode: str, checkpointing: bool, steps: int) -> dict[str, float]:
    """Train the published size on single volumes; seconds of the last step, peak, weights."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = published_task(mode, checkpointing)
    trained = trainable_parameters(task)
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    batch = {
        "image": torch.rand(1, *SIZE),
        "text": torch.randn(1, 768),
        "has_image": torch.ones(1, dtype=torch.bool),
        "has_text": torch.ones(1, dtype=torch.bool),
        "target": torch.zeros(1, dtype=torch.int64),
    }
    seconds = 0.0
    for _ in range(steps):
        start = time.process_time()
        optimizer.zero_grad()
        task.loss(batch, None)["loss"].backward()
        optimizer.step()
        seconds = time.process_time() - start
    if not task.network.adapter.branch[-1].weight.grad.abs().max() > 0:
        raise RuntimeError("no gradient reached the adapter")
    weights = sum(weight.numel() for weight in trained)
    return {"seconds": seconds, "peak": peak_bytes(), "weights": weights}


def fit_on_files(folder: str) -> tuple[list[int], int]:
    """Fit on a folder's files; resident bytes after each batch read, and batches of an epoch."""
    torch.set_num_threads(1)
    paths = sorted(str(path) for path in Path(folder).glob("*.nii.gz"))
    table = pd.DataFrame({"mri": paths})
    sizes: list[int] = []
    read = VolumeInputs.read

    def watched(self, column, rows):
        found = read(self, column, rows)
        sizes.append(resident_bytes())
        return found

    VolumeInputs.read = watched
    y = np.arange(len(paths)) % 2
    BrainAdapterClassifier(max_epochs=N_EPOCHS, random_state=0).fit(table, y)
    return sizes, -(-len(paths) // 8)


def write_files(folder: Path) -> None:
    """Write files of 128 x 128 x 128; ten contents, each under fifty names."""
    made = make_volume_cohort(N_DISTINCT, size=(128, 128, 128), folder=folder / "a", random_state=0)
    for number in range(N_FILES):
        source = made.data["mri"].iloc[number % N_DISTINCT]
        shutil.copy(source, folder / f"scan{number:03d}.nii.gz")


def memory_and_cost() -> bool:
    """Print peaks at the published size and the table of the three modes."""
    table = {mode: alone(published_step, mode, False, 2) for mode in ("tlp", "fpm", "full")}
    saving = alone(published_step, "tlp", True, 2)
    held = report(
        "256^3 volume, batch 1, forward and backward: peak memory",
        table["tlp"]["peak"] / (6 * GIBIBYTE),
        "6 GiB",
        at_most=1,
        detail=f"{table['tlp']['peak'] / GIBIBYTE:.2f} GiB",
    )
    held &= report(
        "the same with gradient checkpointing",
        saving["peak"] / (4 * GIBIBYTE),
        "4 GiB",
        at_most=1,
        detail=f"{saving['peak'] / GIBIBYTE:.2f} GiB, "
        f"{saving['seconds'] / table['tlp']['seconds']:.2f} x the time",
    )
    table["tlp, checkpointed"] = saving
    frame = pd.DataFrame(table).T
    for name in ("seconds", "peak"):
        frame[f"{name} / full"] = (frame[name] / frame.loc["full", name]).round(2)
    frame["peak"] = (frame["peak"] / GIBIBYTE).round(2).astype(str) + " GiB"
    frame["seconds"] = frame["seconds"].round(1)
    frame["weights"] = frame["weights"].astype(int)
    print("one volume at the published size, random weights, processor seconds on one thread")
    print(frame.to_string(), "\n", flush=True)
    return held


def flat_memory() -> bool:
    """Print how much memory grows on files after the first epoch."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        start = time.perf_counter()
        sizes, per_epoch = alone(fit_on_files, folder)
        seconds = time.perf_counter() - start
    # The pass that scales read-outs comes before the epochs.
    epochs = [sizes[(1 + i) * per_epoch : (2 + i) * per_epoch] for i in range(N_EPOCHS)]
    growth = max(max(later) for later in epochs[1:]) - max(epochs[0])
    whole = N_FILES * 128**3 * 2
    return report(
        f"{N_FILES} NIfTI files of 128^3: growth of resident memory after the first epoch",
        max(growth, 0) / (200 * MEGABYTE),
        "200 MB",
        at_most=1,
        detail=f"{growth / MEGABYTE:.0f} MB, peak {max(map(max, epochs)) / MEGABYTE:.0f} MB, while "
        f"the volumes would take {whole / MEGABYTE:.0f} MB ({seconds:.0f} s)",
    )


def main() -> int:
    """Print all figures."""
    memory_and_cost()
    flat_memory()
    return 0


if __name__ == "__main__":
    sys.exit(main())
