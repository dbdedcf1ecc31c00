"""What `explain` returns: network outputs as tidy tables."""

from __future__ import annotations

import math
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
        Columns row, quantity, modality, source, label, value; unused ones are empty strings.
    """
    names = ["+".join(modalities[m] for m in subset) for subset in subsets]
    share = np.zeros((len(subsets), len(modalities)))
    for row, subset in enumerate(subsets):
        share[row, list(subset)] = 1.0 / len(subset)
    own = [("modality", modalities)]
    each = [("label", labels)]
    parts: dict[str, tuple[np.ndarray, list[tuple[str, Sequence[Any]]]]] = {
        "router": (out["router"], [("modality", names)]),
        "responsibility": (out["router"] @ share, own),
        "attention": (out["attention"], [*own, ("source", modalities)]),
        "probability": (out["proba"], each),
        "probability_large": (out["proba_large"], each),
        "probability_small": (out["proba_small"], each),
        **{name: (out[name], []) for name in ("w_large", "w_small", "similarity")},
    }
    tables = [
        tidy(rows, values, named).assign(quantity=quantity)
        for quantity, (values, named) in parts.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    axes = ["modality", "source", "label"]
    table[axes] = table[axes].astype(object).fillna("")
    # Row after row, in their order and not that of their labels, which may repeat.
    position = np.concatenate([np.arange(len(one)) * len(rows) // len(one) for one in tables])
    by_row = table.iloc[position.argsort(kind="stable")]
    return by_row[["row", "quantity", *axes, "value"]].reset_index(drop=True)


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
    # Not MultiIndex.from_product: a row of several levels is one label here, a tuple.
    labels = [
        rows.to_flat_index(),
        *[pd.Index(list(names), tupleize_cols=False) for _, names in axes],
    ]
    sizes = [len(own) for own in labels]
    columns = {}
    for level, (name, own) in enumerate(
        zip(["row", *[axis for axis, _ in axes]], labels, strict=True)
    ):
        inner, outer = math.prod(sizes[level + 1 :]), math.prod(sizes[:level])
        columns[name] = own.take(np.tile(np.repeat(np.arange(len(own)), inner), outer))
    return pd.DataFrame(columns).assign(value=np.asarray(values, dtype=np.float64).ravel())
