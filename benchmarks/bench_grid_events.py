"""Event tables to cohort tables: speed against a pandas pivot per stay, memory at 10^7 events.

Speed is measured on the stays of PhysioNet 2012 where that folder is present, else on generated
ones; both sides do the same work (hourly means of 37 channels over 48 hours) and are compared
before they are timed. Memory is the peak of a process that reads 10^7 generated events from a
file, less what it held before, next to the bytes of the table that comes out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.common import find_data, paired_seconds, report
from medfusion_sdk import grid_events

STAYS = 400  # the pivot is slow; both sides grow in proportion
EVENTS = 10_000_000
EVENTS_PER_STAY = 440
CHANNELS = [f"p{number:02d}" for number in range(37)]
GRID = {"step": 60, "length": 48}
SPEED_AT_LEAST, MEMORY_AT_MOST = 5, 3
# The high-water mark of getrusage is handed down from the parent process; this one isn't.
_MEASURE = """
import re, sys
from pathlib import Path
import pandas, pyarrow.parquet
from benchmarks.bench_grid_events import CHANNELS, GRID
from medfusion_sdk import grid_events
def mib(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(field + r":\\s+(\\d+)", status)[1]) / 1024
start = mib("VmRSS")
table, counted = grid_events(sys.argv[1], {"all": CHANNELS}, **GRID)
peak = mib("VmHWM") - start
cells = sum(cell.nbytes for cell in table["all"]) / 2**20
print(peak, cells, counted.counts["used"])
"""


def generated_events(n_events: int, per_stay: int = EVENTS_PER_STAY, seed: int = 0) -> pd.DataFrame:
    """Events of stays one after another, as exports have them."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, len(CHANNELS), n_events).astype(np.int8)
    return pd.DataFrame(
        {
            "record_id": np.arange(n_events, dtype=np.int32) // per_stay,
            "minute": rng.integers(0, 2880, n_events).astype(np.int16),
            "parameter": pd.Categorical.from_codes(codes, CHANNELS),
            "value": rng.standard_normal(n_events).astype(np.float32),
        }
    )


def stays_to_time() -> tuple[pd.DataFrame, list[str], str]:
    """Return events, their channels and where they are from."""
    folder = find_data("physionet2012")
    if folder is None:
        return generated_events(STAYS * EVENTS_PER_STAY), CHANNELS, "generated stays"
    events = pd.read_parquet(folder / "set-a.parquet")
    events = events[events["record_id"].isin(events["record_id"].unique()[:STAYS])]
    series = set(events["parameter"].astype(str)) - {"Age", "Gender", "Height"}
    return events, sorted(series), "stays of PhysioNet 2012"


def pivot_per_stay(events: pd.DataFrame, channels: list[str]) -> dict[int, np.ndarray]:
    """The plain way: group by stay, pivot each."""
    step = (events["minute"] // GRID["step"]).clip(upper=GRID["length"] - 1)
    events = events.assign(step=step, parameter=events["parameter"].astype(str))
    return {
        stay: own.pivot_table(index="parameter", columns="step", values="value", aggfunc="mean")
        .reindex(index=channels, columns=range(GRID["length"]))
        .to_numpy(dtype=np.float32)
        for stay, own in events.groupby("record_id")
    }


def compare_speed() -> None:
    """Print the time of a pivot per stay as a ratio to ours."""
    events, channels, source = stays_to_time()
    table, _ = grid_events(events, {"all": channels}, **GRID)
    for stay, expected in pivot_per_stay(events, channels).items():
        np.testing.assert_allclose(table.loc[stay, "all"], expected, rtol=1e-5)
    ours, reference = paired_seconds(
        lambda: grid_events(events, {"all": channels}, **GRID),
        lambda: pivot_per_stay(events, channels),
        repeats=3,
    )
    report(
        f"grid_events, {STAYS} {source}, {len(events):,} events",
        reference / ours,
        "the speed of a pandas pivot per stay",
        at_least=SPEED_AT_LEAST,
        detail=f"{ours:.2f} s against {reference:.2f} s",
    )


def measure_memory() -> None:
    """Print the peak memory of reading 10^7 events, stay by stay and in random order."""
    if not Path("/proc/self/status").is_file():
        print("memory: skipped, it is read from /proc, which this system has not")
        return
    with tempfile.TemporaryDirectory() as folder:
        for kind, file in event_files(Path(folder)):
            run = subprocess.run(
                [sys.executable, "-c", _MEASURE, str(file)],
                capture_output=True,
                check=True,
                text=True,
            )
            peak, cells, used = map(float, run.stdout.split())
            report(
                f"peak memory of grid_events, {used:,.0f} events, {kind}",
                peak / cells,
                "the bytes of the cohort table",
                at_most=MEMORY_AT_MOST,
                detail=f"{peak:.0f} MiB; table {cells:.0f} MiB",
            )
            file.unlink()


def event_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write one file after another; the last holds more events of as many stays."""
    options = {"row_group_size": 1 << 20}
    events = generated_events(EVENTS)
    events.to_parquet(folder / "a.parquet", **options)
    yield "Parquet", folder / "a.parquet"
    events.to_csv(folder / "b.csv", index=False)
    yield "CSV", folder / "b.csv"
    order = np.random.default_rng(0).permutation(len(events))
    events.iloc[order].to_parquet(folder / "c.parquet", **options)
    yield "Parquet in random order", folder / "c.parquet"
    more = generated_events(3 * EVENTS, 3 * EVENTS_PER_STAY)
    more.to_parquet(folder / "d.parquet", **options)
    yield "Parquet of the same stays", folder / "d.parquet"


def main() -> int:
    """Compare speed, then measure memory."""
    compare_speed()
    measure_memory()
    return 0


if __name__ == "__main__":
    sys.exit(main())
