"""What every test run needs: the array-API switch, and Markdown pages as tests."""

from __future__ import annotations

import doctest
import os
import tempfile
from pathlib import Path

# SciPy reads the switch at import. Without it scikit-learn skips its array-API input check.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
os.environ.setdefault("MPLBACKEND", "agg")

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

# The same as for docstrings in pyproject.toml.
_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
_IN_PAGE = "_page_folders"


def _enter_scratch_folder(namespace: dict) -> None:
    """Let a page write files as a reader would, away from the repository."""
    scratch = tempfile.TemporaryDirectory(prefix="medfusion-page-")
    namespace[_IN_PAGE] = (Path.cwd(), scratch)
    os.chdir(scratch.name)


def _leave_scratch_folder(namespace: dict) -> None:
    home, scratch = namespace.pop(_IN_PAGE)
    os.chdir(home)
    scratch.cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=_FLAGS), SkipParser()],
    filenames=["README.md"],
    patterns=["docs/**/*.md", "docs/*.md"],
    excludes=["docs/_build/**", "docs/auto_examples/**"],
    setup=_enter_scratch_folder,
    teardown=_leave_scratch_folder,
).pytest()
