"""Refuse files and functions that have grown past what a reader takes in at once."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
_NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


def tracked_python_files() -> list[Path]:
    """List the Python files that git knows, or would take."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\n")
    return [Path(name) for name in names if name and Path(name).exists()]


def code_lines(source: str) -> set[int]:
    """Give the numbers of the lines that hold code: no comment, no blank line."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def only_stores(body: list[ast.stmt]) -> bool:
    """Tell a constructor that is as long as it has parameters: ``self.name = name`` each."""
    return all(
        isinstance(line, ast.Assign)
        and isinstance(line.value, ast.Name)
        and ast.unparse(line.targets[0]) == f"self.{line.value.id}"
        for line in body
    )


def function_lengths(source: str) -> Iterator[tuple[int, str, int]]:
    """Yield line, name and code lines of each function's body, its docstring left out."""
    code = code_lines(source)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        if body and not only_stores(body):
            first, last = body[0].lineno, body[-1].end_lineno or body[-1].lineno
            yield node.lineno, node.name, len(code & set(range(first, last + 1)))


def complaints(path: Path) -> Iterator[str]:
    """Yield what is too long in one file."""
    source = path.read_text(encoding="utf-8")
    n_lines = source.count("\n")
    if n_lines > MAX_FILE_LINES:
        yield f"{path}: {n_lines} lines, at most {MAX_FILE_LINES}: split it where a reader would"
    for line, name, length in function_lengths(source):
        if length > MAX_FUNCTION_LINES:
            yield f"{path}:{line}: {name} has {length} lines of code, at most {MAX_FUNCTION_LINES}"


def main() -> int:
    """Print every complaint and return the exit status."""
    found = [text for path in tracked_python_files() for text in complaints(path)]
    print("\n".join(found) or "sizes: all files and functions within bounds")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
