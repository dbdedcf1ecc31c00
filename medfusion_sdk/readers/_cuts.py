"""Cut the series of a cohort table: how many steps its rows have, and parts of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import ModalityError, ParameterError, SignalError
from medfusion_sdk.readers.series import as_cohort_table, read_series, series_columns

__all__ = ["Place", "check_sizes", "cut_series", "read_table"]

# Position of a row, its first step, and the step after its last.
Place = tuple[int, int, int]


def read_table(
    X: Any, columns: Sequence[Any] | None = None
) -> tuple[pd.DataFrame, list[Any], dict[Any, list[Any]], list[int]]:
    """Return table, series columns, their cells, and the steps of each row, 0 without any."""
    table = as_cohort_table(X)
    names = series_columns(table) if columns is None else list(columns)
    unknown = [name for name in names if name not in table]
    if unknown or not names:
        raise ModalityError(
            f"none of the columns {list(table.columns)} "
            + (f"is called {unknown[0]!r}." if unknown else "holds series.")
        )
    cells = {name: read_series(table[name]).cells for name in names}
    return table, names, cells, list(_steps(table, cells))


def _steps(table: pd.DataFrame, cells: dict[Any, list[Any]]) -> Iterator[int]:
    for row, label in enumerate(table.index):
        steps = {
            name: column[row].shape[1] for name, column in cells.items() if _there(column[row])
        }
        if len(set(steps.values())) > 1:
            raise SignalError(
                f"the series of this row differ in steps: {steps}; put them on one grid.",
                row=label,
                column=list(steps),
            )
        yield next(iter(steps.values()), 0)


def _there(cell: np.ndarray | None) -> bool:
    return cell is not None


def check_sizes(**sizes: int) -> None:
    """Refuse a number of steps that is none."""
    for name, size in sizes.items():
        if size != int(size) or size < 1:
            raise ParameterError(f"{name}={size}; a whole number of steps, 1 or more, is needed.")


def cut_series(
    table: pd.DataFrame,
    cells: dict[Any, list[Any]],
    places: list[Place],
    marks: Sequence[int],
    level: str,
) -> tuple[pd.DataFrame, pd.Series]:
    """Return the parts at these places, indexed by row and mark, and the label of each's row."""
    rows = np.array([row for row, _, _ in places], dtype=int)
    labels = table.index[rows]
    levels = [labels.get_level_values(i) for i in range(labels.nlevels)]
    index = pd.MultiIndex.from_arrays([*levels, marks], names=[*table.index.names, level])
    parts = table.iloc[rows].set_axis(index, axis=0)
    for name, column in cells.items():
        cut = np.full(len(places), None, dtype=object)
        for number, (row, start, end) in enumerate(places):
            if column[row] is not None and not np.isnan(column[row][:, start:end]).all():
                # A copy: parts that overlap must not share their values.
                cut[number] = column[row][:, start:end].astype(np.float32)
        parts[name] = pd.Series(cut, index=index, dtype=object)
    return parts, pd.Series(labels.to_flat_index(), index=index, name=table.index.name)
