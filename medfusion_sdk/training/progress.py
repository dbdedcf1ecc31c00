"""A progress bar, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(shown: bool, total: int, label: str, unit: str) -> Iterator[Any]:
    """Show a bar while the block runs; it is closed whatever happens.

    Parameters
    ----------
    shown : bool
        Whether to show it.
    total : int
        Number of units.
    label : str
        What stands before the bar.
    unit : str
        What is counted.

    Yields
    ------
    tqdm.auto.tqdm
        The bar; a hidden one is as good to call.
    """
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label, unit=unit, disable=not shown) as bar:
        yield bar
