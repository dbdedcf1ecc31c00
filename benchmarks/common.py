"""What the benchmark scripts share: data folders, paired timing, and one form of report."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

DATA_VARIABLE = "MEDFUSION_DATA"
_ROOT = Path(__file__).resolve().parent.parent


def find_data(name: str) -> Path | None:
    """Find a data set's folder below ``$MEDFUSION_DATA``, else ``../shared/data``, or None."""
    folder = _home() / name
    return folder if folder.is_dir() else None


def data_folder(name: str) -> Path:
    """Find a data set's folder, or end the script with a message saying what is missing.

    An absent set ends the script with status 0: it is a skip, not a failure.
    """
    folder = find_data(name)
    if folder is None:
        print(f"skipped: no folder {name!r} in {_home()}; set {DATA_VARIABLE} to where it lies")
        sys.exit(0)
    return folder


def _home() -> Path:
    return Path(os.environ.get(DATA_VARIABLE, _ROOT.parent / "shared" / "data"))


def paired_seconds(
    ours: Callable[[], object], reference: Callable[[], object], repeats: int = 5
) -> tuple[float, float]:
    """Median seconds of two calls, run in turns so that a busy machine slows both alike."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for call, seconds in zip((ours, reference), taken, strict=True):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])


def report(
    what: str,
    ratio: float,
    reference: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    detail: str = "",
) -> bool:
    """Print one figure as a ratio to a named reference, with the bound it is held to."""
    held = (at_least is None or ratio >= at_least) and (at_most is None or ratio <= at_most)
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", at_least), ("at most", at_most))
        if bound is not None
    ]
    verdict = f" [{' and '.join(bounds)}: {'reached' if held else 'NOT reached'}]" if bounds else ""
    print(f"{what}: {ratio:.3g} x {reference}{verdict}{'  ' + detail if detail else ''}")
    return held
