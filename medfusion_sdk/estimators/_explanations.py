"""What `explain` returns: network outputs as tidy tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["adacomed_explanation", "small_explanation", "tidy"]


def small_explanation(
    rows: pd.Index, modalities: Sequence[str], labels: Sequence[Any], out: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Contribution of each modality to each class score.

    Parameters
    ----------
    rows : Index
        Row labels.
    modalities : sequence of str
        Names of the modalities.
    labels : sequence
        Classes or label names.
    out : mapping of str to ndarray
        Output of the network's ``predict``.

    Returns
    -------
    DataFrame
        Columns row, modality, label, contribution.
    """
    values = out["contributions"]
    return tidy(rows, values, [("modality", [*modalities, "bias"]), ("label", labels)]).rename(
        columns={"value": "contribution"}
    )


def adacomed_explanation(
    rows: pd.Index,
    modalities: Sequence[str],
    subsets: Sequence[Sequence[int]],
    labels: Sequence[Any],
    out: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """Router, responsibilities, attention, path weights and both paths' probabilities.

    Parameters
    ----------
    rows : Index
        Row labels.
    modalities : sequence of str
        Names of the large path's modalities.
    subsets : sequence of sequence of int
        Modalities of each expert.
    labels : sequence
        Classes or label names.
    out : mapping of str to ndarray
        Output of the network's ``predict``.

    Returns
    -------
    DataFrame
        Columns row, quantity, modality, label, value; unused ones are empty strings.
    """
    names = ["+".join(modalities[m] for m in subset) for subset in subsets]
    share = np.zeros((len(subsets), len(modalities)))
    for row, subset in enumerate(subsets):
        share[row, list(subset)] = 1.0 / len(subset)
    pairs = [f"{query} <- {key}" for query in modalities for key in modalities]
    attention = out["attention"].reshape(len(rows), -1)
    parts = {
        "router": (out["router"], "modality", names),
        "responsibility": (out["router"] @ share, "modality", modalities),
        "attention": (attention, "modality", pairs),
        "probability": (out["proba"], "label", labels),
        "probability_large": (out["proba_large"], "label", labels),
        "probability_small": (out["proba_small"], "label", labels),
    }
    tables = [
        tidy(rows, values, [(axis, axis_names)]).assign(quantity=quantity)
        for quantity, (values, axis, axis_names) in parts.items()
    ]
    tables += [
        tidy(rows, out[quantity], []).assign(quantity=quantity)
        for quantity in ("w_large", "w_small", "similarity")
    ]
    table = pd.concat(tables, ignore_index=True)
    table[["modality", "label"]] = table[["modality", "label"]].astype(object).fillna("")
    order = ["row", "quantity", "modality", "label", "value"]
    return table[order].sort_values("row", kind="stable", ignore_index=True)


def tidy(
    rows: pd.Index, values: np.ndarray, axes: Sequence[tuple[str, Sequence[Any]]]
) -> pd.DataFrame:
    """Lay out an array whose first axis is rows, one line per entry.

    Parameters
    ----------
    rows : Index
        Row labels.
    values : ndarray
        Of shape (n, ...).
    axes : sequence of (str, sequence)
        Name and labels of each further axis.

    Returns
    -------
    DataFrame
        Columns row, the axes' names, value.
    """
    index = pd.MultiIndex.from_product([rows, *[list(names) for _, names in axes]])
    frame = index.to_frame(index=False)
    frame.columns = ["row", *[axis for axis, _ in axes]]
    return frame.assign(value=np.asarray(values, dtype=np.float64).ravel())
