"""What AMFN's training costs: by stays, by modality groups, and in memory.

Generated stays of 48 hourly steps and 32 channels, nine tenths observed, so that the groups are
read step by step. Epochs are timed, in turns with what they are held against: four times the stays
for a quarter of the epochs; and eight groups of width 16 against one GRU of width 128 on the joined
channels, once in a hand-written torch loop with torch's own GRU and once as AMFN's single modality.
Memory is the growth of a process's peak from one number of stays
to twice as many, next to the growth of the table.
"""

from __future__ import annotations

import statistics
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
BATCH = 128
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


def amfn(n_stays: int, n_groups: int, epochs: int) -> Callable[[], float]:
    """Train AMFN's network with GRUs of one total width; tells the seconds of its epochs."""
    X, y = stays(n_stays, n_groups)
    model = network(WIDTH // n_groups).set_params(max_epochs=epochs)
    return lambda: float(model.fit(X, y).history_["seconds"].sum())


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


def plain_gru(n_stays: int, epochs: int) -> Callable[[], float]:
    """Train the plain model in a hand-written loop; tells the seconds of its epochs."""
    X, y = stays(n_stays, 1)
    values = np.stack(list(X["g0"])).transpose(0, 2, 1)
    seen = ~np.isnan(values)
    x = torch.from_numpy(np.concatenate([np.nan_to_num(values), seen, seen], axis=2)).float()
    target = torch.from_numpy(y)

    def fit() -> float:
        model = JoinedGRU()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        start = time.perf_counter()
        with limit_threads():
            for _ in range(epochs):
                for rows in torch.randperm(n_stays).split(BATCH):
                    loss = nn.functional.cross_entropy(model(x[rows]), target[rows])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        return time.perf_counter() - start

    return fit


def in_turns(ours: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """Median seconds that each tells, called in turns so that a busy machine slows both alike."""
    told = [(ours(), other()) for _ in range(3)]
    return statistics.median(one for one, _ in told), statistics.median(one for _, one in told)


def memory(n_stays: int) -> tuple[float, float]:
    """Peak growth of a process that fits, and the table's size, both in MiB."""
    run = [sys.executable, "-c", _MEASURE, str(n_stays)]
    peak, table = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    return float(peak), float(table)


def main() -> int:
    """Print the ratios."""
    many, few = in_turns(amfn(4096, GROUPS, 2), amfn(1024, GROUPS, 8))
    report(
        "time per stay and epoch, 4,096 stays, 8 groups",
        many / few,
        "that of 1,024 stays",
        at_most=LINEAR_AT_MOST,
        detail=f"({many:.2f} s against {few:.2f} s)",
    )
    for name, other in (
        ("a plain torch GRU of the same total width, joined", plain_gru(2048, 3)),
        ("AMFN with the channels joined to one modality", amfn(2048, 1, 3)),
    ):
        grouped, joined = in_turns(amfn(2048, GROUPS, 3), other)
        report(
            "time per epoch, 8 groups",
            grouped / joined,
            name,
            at_most=JOINED_AT_MOST,
            detail=f"({grouped:.2f} s against {joined:.2f} s)",
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
