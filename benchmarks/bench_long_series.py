"""What a training step over long series costs, against torch's own recurrent network.

Forward and backward over sequences of a second or ten of a waveform, one thread, same width.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

from benchmarks.common import paired_seconds, report
from medfusion_sdk.nn.grouped import GroupedGRU

ROWS, CHANNELS, WIDTH = 32, 6, 16


def main() -> int:
    """Print the ratio at several lengths: a cost that grows faster than they do would show."""
    torch.set_num_threads(1)
    for n_steps in (250, 1000, 4000):
        x, lengths = torch.randn(1, n_steps, ROWS, CHANNELS), torch.full((1, ROWS), n_steps)
        grouped, plain = GroupedGRU([CHANNELS], WIDTH), nn.GRU(CHANNELS, WIDTH)
        ours, reference = paired_seconds(
            lambda ours=grouped, x=x, lengths=lengths: ours(x, lengths).sum().backward(),
            lambda plain=plain, x=x: plain(x[0])[0].sum().backward(),
        )
        report(
            f"training step of a GRU over {n_steps:,} steps",
            ours / reference,
            "torch.nn.GRU",
            at_most=2,
            detail=f"({1e3 * ours:.0f} ms against {1e3 * reference:.0f} ms)",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
