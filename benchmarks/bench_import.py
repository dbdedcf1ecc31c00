"""Time of ``import medfusion_sdk`` in a fresh interpreter, against ``import sklearn``.

The start of the interpreter is measured beside both and taken off both.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.common import report

STATEMENTS = {"ours": "import medfusion_sdk", "sklearn": "import sklearn", "nothing": "pass"}
REPEATS = 15
MOST_SECONDS = 0.3


def seconds_of(statement: str) -> float:
    """Wall time of a fresh interpreter that runs one statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> int:
    """Print the ratio to scikit-learn's import, and the absolute bound."""
    for statement in STATEMENTS.values():
        seconds_of(statement)  # byte code and file caches
    taken: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(REPEATS):
        for name, statement in STATEMENTS.items():
            taken[name].append(seconds_of(statement))
    median = {name: statistics.median(values) for name, values in taken.items()}
    ours, sklearn = (median[name] - median["nothing"] for name in ("ours", "sklearn"))
    report(
        "import medfusion_sdk",
        ours / sklearn,
        "import sklearn",
        at_most=1.0,
        detail=f"{ours:.3f} s against {sklearn:.3f} s",
    )
    report("import medfusion_sdk", ours / MOST_SECONDS, f"the bound of {MOST_SECONDS} s", at_most=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
