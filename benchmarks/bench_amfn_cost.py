"""What AMFN's training costs: by stays, by modality groups, and in memory.

Generated stays of 48 hourly steps and 32 channels, nine tenths observed, so that the groups are
read step by step. Time per epoch is the difference of a long and a short fit. Eight groups of
width 16 are held against one GRU of width 128 on the joined channels, once in a hand-written torch
loop with torch's own GRU and once as AMFN's single modality. Memory is the growth of a process's
peak from one number of stays to twice as many, next to the growth of the table.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.common import report
from medfusion_sdk import AMFNClassifier
from medfusion_sdk.training import limit_threads

STEPS, CHANNELS, GROUPS, WIDTH = 48, 32, 8, 128
BATCH, SHORT, LONG = 128, 1, 4
LINEAR_AT_MOST, JOINED_AT_MOST = 1.15, 2.0
_MEASURE = """
import re, sys
from pathlib import Path
from benchmarks.bench_amfn_cost import network, stays
def mib(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(field + r":\\s+(\\d+)", status)[1]) / 1024
X, y = stays(int(sys.argv[1]), 8)
table = sum(cell.nbytes for name in X for cell in X[name]) / 2**20
start = mib("VmRSS")
network(16).set_params(max_epochs=1).fit(X, y)
print(mib("VmHWM") - start, table)
"""


def stays(n_stays: int, n_groups: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """A cohort table of equal groups, and an outcome that hangs on the levels."""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=n_stays)
    values = rng.normal(size=(n_stays, CHANNELS, STEPS)).astype(np.float32)
    values += level[:, None, None].astype(np.float32)
    values[rng.random(values.shape) < 0.08] = np.nan
    parts = np.split(values, n_groups, axis=1)
    table = pd.DataFrame({f"g{i}": pd.Series(list(part)) for i, part in enumerate(parts)})
    return table, (level + rng.normal(size=n_stays) > 0).astype(int)


def network(encoder_width: int) -> AMFNClassifier:
    """One network that reads every step."""
    return AMFNClassifier(
        encoder="gru",
        encoder_width=encoder_width,
        summaries=False,
        expert=False,
        ensemble_size=1,
        batch_size=BATCH,
        early_stopping=False,
        dtype="float32",
        random_state=0,
    )


def seconds(call: Callable[[int], object]) -> float:
    """Seconds per epoch: of a long call less a short one, the best of three pairs."""
    found = []
    for _ in range(3):
        marks = [time.perf_counter()]
        for epochs in (SHORT, LONG):
            call(epochs)
            marks.append(time.perf_counter())
        short, long = np.diff(marks)
        found.append((long - short) / (LONG - SHORT))
    return min(found)


def epoch_of_amfn(n_stays: int, n_groups: int) -> float:
    """Seconds per epoch of AMFN's network with GRUs of one total width."""
    X, y = stays(n_stays, n_groups)
    model = network(WIDTH // n_groups)
    return seconds(lambda epochs: model.set_params(max_epochs=epochs).fit(X, y))


class JoinedGRU(nn.Module):
    """The plain model: one GRU over all channels and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3 * CHANNELS, WIDTH, batch_first=True)
        self.head = nn.Linear(2 * WIDTH, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores from the last state and the mean of the states."""
        states, last = self.gru(x)
        return self.head(torch.cat([last[0], states.mean(dim=1)], dim=1))


def epoch_of_plain_gru(n_stays: int) -> float:
    """Seconds per epoch of the plain model in a hand-written loop."""
    X, y = stays(n_stays, 1)
    values = np.stack(list(X["g0"])).transpose(0, 2, 1)
    seen = ~np.isnan(values)
    x = torch.from_numpy(np.concatenate([np.nan_to_num(values), seen, seen], axis=2)).float()
    target = torch.from_numpy(y)

    def run(epochs: int) -> None:
        model = JoinedGRU()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        with limit_threads():
            for _ in range(epochs):
                for rows in torch.randperm(n_stays).split(BATCH):
                    loss = nn.functional.cross_entropy(model(x[rows]), target[rows])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()

    return seconds(run)


def memory(n_stays: int) -> tuple[float, float]:
    """Peak growth of a process that fits, and the table's size, both in MiB."""
    run = [sys.executable, "-c", _MEASURE, str(n_stays)]
    peak, table = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    return float(peak), float(table)


def main() -> int:
    """Print the ratios."""
    few, many = epoch_of_amfn(1024, GROUPS), epoch_of_amfn(4096, GROUPS)
    report(
        "time per epoch, 4,096 stays, 8 groups",
        many / few / 4,
        "four times that of 1,024 stays",
        at_most=LINEAR_AT_MOST,
        detail=f"({many:.2f} s against {few:.2f} s)",
    )
    grouped = epoch_of_amfn(2048, GROUPS)
    for name, other in (
        ("a plain torch GRU of the same total width, joined", epoch_of_plain_gru(2048)),
        ("AMFN with the channels joined to one modality", epoch_of_amfn(2048, 1)),
    ):
        report(
            "time per epoch, 8 groups",
            grouped / other,
            name,
            at_most=JOINED_AT_MOST,
            detail=f"({grouped:.2f} s against {other:.2f} s)",
        )
    (small, table), (large, wider) = memory(2048), memory(4096)
    report(
        "memory of a fit per stay",
        (large - small) / (wider - table),
        "the stay's own series",
        detail=f"({(large - small) * 1024 / 2048:.0f} KiB a stay)",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
