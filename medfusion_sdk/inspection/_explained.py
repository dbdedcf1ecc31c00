"""Parts of an explanation as tables: one line per row, one column per modality or pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.exceptions import ParameterError

__all__ = [
    "choose_label",
    "defined_mean",
    "group_rows",
    "label_of",
    "name_quantity",
    "pairs_of",
    "table_of",
    "token_map",
    "weights_of",
]


# What a quantity may be told by, besides the row.
_AXES = (
    "task",
    "step",
    "modality",
    "source",
    "token",
    "path",
    "layer",
    "head",
    "position",
    "part",
    "label",
)


# Quantities that tell what is let in or asked, and follow no effect on the answer.
_NO_EFFECTS = ("gate", "fusion", "responsibility", "router", "attention", "graph")


def name_quantity(quantity: str, label: Any = None) -> str:
    """Say on an axis what a quantity is, of which class or target, and where it is no effect."""
    if quantity in _NO_EFFECTS:
        return f"{quantity} (not an effect on the answer)"
    if quantity == "contribution" and label is not None:
        return f"contribution to the score of {label}"
    return quantity if label is None else f"{quantity}, {label}"


def label_of(told: pd.DataFrame, quantity: str, label: Any = None) -> Any:
    """Return whose quantity is drawn; None where it isn't told by label."""
    labels = _values(told[told["quantity"] == quantity], "label")
    return choose_label(labels, label) if labels else None


def weights_of(told: pd.DataFrame, quantity: str, label: Any = None) -> pd.DataFrame:
    """Return a quantity of each modality (rows, modalities); NaN where a row lacks it."""
    lines = told[told["quantity"] == quantity]
    labels = _values(lines, "label")
    if labels:
        told = lines[lines["label"] == choose_label(labels, label)]
    weights = table_of(told, quantity, ["modality"])
    return weights.where(weights != 0)  # no gate and no softmax is zero but for what is masked


def choose_label(labels: list[Any], label: Any) -> Any:
    """Return the label asked for; by default the second of two, and the one where there is one."""
    if label is None and len(labels) <= 2:
        return labels[-1]
    if label not in labels:
        raise ParameterError(f"label={label!r}; name one of {labels}.")
    return label


def pairs_of(
    told: pd.DataFrame, quantity: str, head: Any = None
) -> tuple[np.ndarray, list[Any], pd.Index]:
    """Return what modalities take from each other.

    Parameters
    ----------
    told : DataFrame
        What an estimator explains, with the columns ``modality`` and ``source``.
    quantity : str
        Such as "attention" or "graph".
    head : object, optional
        Which head; by default their mean.

    Returns
    -------
    pairs : ndarray of shape (n, M, M)
        From modality to source; NaN where a row lacks one of them.
    modalities : list
        Their names.
    rows : Index
        Labels of the rows.

    Raises
    ------
    ParameterError
        If the explanation has no such quantity or head.
    """
    lines = told[told["quantity"] == quantity]
    heads = _values(lines, "head")
    if head is not None and head not in heads:
        raise ParameterError(f"head={head!r}: {quantity!r} is told of the heads {heads}.")
    if head is not None:
        told = lines[lines["head"] == head]
    axes = ["modality", "source", *(["head"] if heads else [])]
    table = table_of(told, quantity, axes)
    if heads:
        table = table.T.groupby(level=["modality", "source"], sort=False).mean().T
    names = list(table.columns.unique("modality"))
    pairs = table[[(one, other) for one in names for other in names]].to_numpy()
    pairs = pairs.reshape(-1, len(names), len(names))
    # What a modality takes sums to one, unless the row lacks it.
    present = pairs.sum(axis=2) > 0
    pairs[~(present[:, :, None] & present[:, None, :])] = np.nan
    return pairs, names, table.index


def token_map(told: pd.DataFrame, quantity: str) -> pd.DataFrame | None:
    """Mean of what tokens (index) take from sources (columns), over the rows that have them.

    None where the quantity isn't told by token.
    """
    lines = told[told["quantity"] == quantity]
    if not _values(lines, "token"):
        return None
    table = table_of(told, quantity, ["token", "source"])
    mean = table.where(table != 0).mean().unstack("source")
    tokens, sources = (table.columns.unique(level) for level in ("token", "source"))
    return mean.loc[tokens, sources]


def defined_mean(pairs: np.ndarray) -> np.ndarray:
    """Mean over the rows that have both modalities; NaN where none does."""
    counts = (~np.isnan(pairs)).sum(axis=0)
    return np.nansum(pairs, axis=0) / np.where(counts > 0, counts, np.nan)


def table_of(told: pd.DataFrame, quantity: str, axes: list[str]) -> pd.DataFrame:
    """Return a quantity as a table of one line per row, in their order; labels may repeat.

    Parameters
    ----------
    told : DataFrame
        What an estimator explains.
    quantity : str
        Name of the quantity.
    axes : list of str
        Columns of the explanation that become columns of the table.

    Returns
    -------
    DataFrame
        Indexed by the labels of the rows.

    Raises
    ------
    ParameterError
        If the explanation has no such quantity.
    """
    known = told[np.logical_and.reduce([_filled(told, axis) for axis in axes])]
    lines = known[known["quantity"] == quantity]
    if lines.empty:
        raise ParameterError(
            f"this explanation tells no {quantity!r} by {' and '.join(axes)}, "
            f"but {sorted(set(known['quantity']))}."
        )
    more = [axis for axis in _AXES if axis not in axes and len(_values(lines, axis)) > 1]
    if more:
        raise ParameterError(
            f"{quantity!r} is told by {' and '.join([*axes, *more])}: choose the lines of one "
            f"{more[0]}."
        )
    keys = lines[axes]
    # The k-th line of a column is that of the k-th row.
    table = lines.assign(_row=keys.groupby(axes, sort=False).cumcount())
    wide = table.pivot(index="_row", columns=axes, values="value")
    first = keys.drop_duplicates()
    columns = [entry if len(axes) > 1 else entry[0] for entry in first.itertuples(index=False)]
    own = (keys == first.iloc[0]).all(axis=1)
    return wide[columns].set_axis(pd.Index(lines.loc[own, "row"], name="row"), axis=0)


def group_rows(rows: pd.Index, by: Any) -> dict[str, np.ndarray]:
    """Return the positions of each group's rows, under a title.

    Parameters
    ----------
    rows : Index
        Labels of the rows.
    by : array-like of shape (n,) or None
        Group of each row; None for a single group. Rows without one are left out.

    Returns
    -------
    dict of str to ndarray of int
        Groups in sorted order.

    Raises
    ------
    ParameterError
        If `by` has another length.
    """
    everyone = np.arange(len(rows))
    if by is None:
        return {_title("", len(rows)): everyone}
    if len(by) != len(rows):
        raise ParameterError(f"by has {len(by)} entries for {len(rows)} explained rows.")
    groups = pd.Categorical(by)
    name = getattr(by, "name", None)
    label = "" if name is None else f"{name} = "
    members = {one: everyone[groups == one] for one in groups.categories}
    return {_title(f"{label}{one}", len(own)): own for one, own in members.items()}


def _title(label: str, n_rows: int) -> str:
    count = f"{n_rows} row" + ("" if n_rows == 1 else "s")
    return f"{label} ({count})" if label else count


def _filled(told: pd.DataFrame, axis: str) -> np.ndarray:
    """Tell which lines have an entry on an axis."""
    if axis not in told:
        return np.zeros(len(told), dtype=bool)
    return (told[axis].notna() & (told[axis] != "")).to_numpy()


def _values(lines: pd.DataFrame, axis: str) -> list[Any]:
    return list(lines.loc[_filled(lines, axis), axis].unique()) if axis in lines else []
