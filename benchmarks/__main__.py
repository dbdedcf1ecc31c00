"""Run every benchmark script, or those named: ``python -m benchmarks [import cache ...]``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    """Run the scripts one after another, each in a process of its own, and sum up."""
    scripts = {path.stem.removeprefix("bench_"): path for path in sorted(_HERE.glob("bench_*.py"))}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    # argparse would hold the default of a `*` argument against `choices`; so check by hand.
    parser.add_argument("names", nargs="*", help=f"of {', '.join(scripts)}; default: all")
    names = parser.parse_args(arguments).names or list(scripts)
    if unknown := sorted(set(names) - set(scripts)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(scripts)}")
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        run = subprocess.run([sys.executable, "-m", f"benchmarks.bench_{name}"], cwd=_HERE.parent)
        print(f"   ({time.perf_counter() - start:.0f} s)\n", flush=True)
        if run.returncode:
            failed.append(name)
    print(
        f"{len(names) - len(failed)} of {len(names)} ran through"
        + "".join(f"; failed: {name}" for name in failed)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
