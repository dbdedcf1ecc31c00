"""Cox loss, forward and backward: its growth with the number of rows, and against the definition.

The definition compares every event with every row, as many implementations do: one matrix of
(events, rows). One thread, float32 risks, 40 % events, ties in one row of a hundred.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from benchmarks.common import paired_seconds, report
from medfusion_sdk.nn.survival import cox_loss, margin_loss

SMALL, LARGE = 10_000, 100_000
# n log n grows 12.5-fold from SMALL to LARGE; the rest is for caches.
GROWTH_AT_MOST, SPEED_AT_LEAST, VALUE_WITHIN = 20, 20, 1e-6


def patients(n_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-risks that ask for a gradient, times and events."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(3, n_rows, generator=generator)
    time = (draws[1] * 100 * n_rows).ceil() // 100
    return (4 * draws[0] - 2).requires_grad_(), time, draws[2] < 0.4


def pairwise_cox(risk: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """Compute the mean over events of the log of their risk set less their log-risk."""
    at_risk = time[event][:, None] <= time[None, :]
    shared = risk[None, :].masked_fill(~at_risk, -torch.inf)
    return (shared.logsumexp(dim=1) - risk[event]).mean()


def step(loss, rows: tuple[Tensor, Tensor, Tensor]) -> float:
    """Loss and gradient; the loss's value."""
    rows[0].grad = None
    value = loss(*rows)
    value.backward()
    return value.item()


def main() -> int:
    """Print the three figures."""
    torch.set_num_threads(1)
    small, large = patients(SMALL), patients(LARGE)
    for name, loss in (
        ("Cox loss, Breslow", cox_loss),
        ("Cox loss, Efron", lambda *rows: cox_loss(*rows, ties="efron")),
        ("margin loss", margin_loss),
    ):
        step(loss, small)
        longer, shorter = paired_seconds(
            lambda loss=loss: step(loss, large), lambda loss=loss: step(loss, small)
        )
        report(
            f"{name}, forward and backward, {LARGE:,} rows",
            longer / shorter,
            f"its time at {SMALL:,} rows",
            at_most=GROWTH_AT_MOST if "Cox" in name else None,
            detail=f"{1e3 * longer:.1f} ms against {1e3 * shorter:.1f} ms",
        )
    ours, theirs = paired_seconds(
        lambda: step(cox_loss, small), lambda: step(pairwise_cox, small), repeats=3
    )
    report(
        f"Cox loss, forward and backward, {SMALL:,} rows",
        theirs / ours,
        "the speed of the pairwise definition",
        at_least=SPEED_AT_LEAST,
        detail=f"{1e3 * ours:.1f} ms against {1e3 * theirs:.1f} ms",
    )
    double = small[0].detach().double()
    expected = pairwise_cox(double, *small[1:]).item()
    report(
        "Cox loss in float32: |value - definition in float64|",
        abs(step(cox_loss, small) - expected) / (VALUE_WITHIN * expected),
        f"{VALUE_WITHIN:g} of the value",
        at_most=1,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
