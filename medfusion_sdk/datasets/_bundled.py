"""Reading of the files that the package carries."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

import numpy as np
import pandas as pd


def bundled(*parts: str) -> Traversable:
    """Return a file beneath ``datasets/data``."""
    return resources.files("medfusion_sdk.datasets").joinpath("data", *parts)


def read_table(*parts: str, index_col: str | None = None) -> pd.DataFrame:
    """Read a bundled CSV file in which nothing but an empty field is missing."""
    with bundled(*parts).open("rb") as file:
        return pd.read_csv(file, index_col=index_col, keep_default_na=False, na_values=[""])


def to_arrays(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Turn a table into one array per column; cells that are arrays are stacked."""
    return {
        str(name): np.stack(column.to_list())
        if isinstance(column.iloc[0], np.ndarray)
        else column.to_numpy()
        for name, column in table.items()
    }
