"""Print the lowest version that pyproject.toml allows of each package, as pip's constraints.

``--tests`` prints those alone that the tests are run with, to be installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

# Documents are built, and style is checked, by the pinned set alone; torchvision goes with one
# torch, and torch is pinned by constraints.txt.
_LEFT_OUT = {"docs", "echo"}
_TOOLS = {"codespell", "import-linter", "mypy", "numpydoc", "pre-commit", "ruff", "torch"}
_REQUIREMENT = re.compile(r"([\w.-]+)>=([\w.]+)")


def main() -> int:
    """Print one line per package and return the exit status."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = list(extras["dev"])
    if "--tests" not in sys.argv:
        asked += project["dependencies"]
        asked += [line for name, extra in extras.items() if name not in _LEFT_OUT for line in extra]
    found = (_REQUIREMENT.fullmatch(line) for line in dict.fromkeys(asked))
    print("\n".join(f"{one[1]}=={one[2]}" for one in found if one and one[1] not in _TOOLS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
