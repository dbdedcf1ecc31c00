"""Validate the docstrings of the public surface with numpydoc.

Public is what a module without a leading underscore lists in ``__all__``, and the public methods
of such a class.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpydoc.validate import validate

PACKAGE = "medfusion_sdk"
# Every check of numpydoc but these.
EXCUSED = {
    "ES01",  # an extended summary is welcome, not owed
    "EX01",  # examples: tests/test_package.py asks them of every public name
    "GL01",  # a summary starts beside the opening quotes
    "SA01",  # See Also where it helps
    "SS05",  # takes every first word in -s for a verb: "Class probabilities ..."
}


def modules() -> list[str]:
    """List the dotted names of the package's public modules."""
    package = importlib.import_module(PACKAGE)
    walked = pkgutil.walk_packages(package.__path__, prefix=f"{PACKAGE}.")
    return [PACKAGE, *(found.name for found in walked if "._" not in found.name)]


def public_objects() -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of each public object once, where it is defined."""
    public = modules()
    for module_name in public:
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            home = value.__module__
            if (home in public and home != module_name) or not home.startswith(PACKAGE):
                continue  # named again here; validated at home, or by its own project
            yield f"{module_name}.{name}", value
            if inspect.isclass(value):
                for method, code in public_methods(value):
                    yield f"{module_name}.{name}.{method}", code


def public_methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the methods and properties that a class itself defines."""
    for name, value in vars(kind).items():
        # Plain functions: scikit-learn adds set_..._request descriptors of its own.
        plain = isinstance(value, property | classmethod | staticmethod)
        if not name.startswith("_") and (plain or inspect.isfunction(value)):
            yield name, value


def constructor_is_written(value: Any) -> bool:
    """Tell whether a class spells its parameters out, neither inherited nor generated."""
    code = getattr(vars(value).get("__init__"), "__code__", None)
    return code is not None and code.co_filename != "<string>"


def complaints(name: str, value: Any) -> Iterator[str]:
    """Yield numpydoc's findings on one object."""
    excused = set(EXCUSED)
    if inspect.isclass(value) and not constructor_is_written(value):
        excused.add("PR01")  # fields of a data class may stand under Attributes
    report = validate(name)
    for code, message in report["errors"]:
        if code not in excused:
            yield f"{report['file']}:{report['file_line']}: {name}: {code} {message}"


def main() -> int:
    """Print every complaint and return the exit status."""
    sys.path.insert(0, str(Path.cwd()))
    objects = dict(public_objects())
    found = [text for name, value in objects.items() for text in complaints(name, value)]
    print("\n".join(found) or f"docstrings: {len(objects)} public objects, all sound")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
