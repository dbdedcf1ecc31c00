"""What AMFN's `explain` returns: gates, attention, graph and fusion weights as a tidy table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._explanations import tidy

__all__ = ["amfn_explanation"]

_COLUMNS = ["row", "quantity", "modality", "source", "head", "label", "value"]
_SUMMED = ("answer", "contribution", "expert", "network")


def amfn_explanation(
    rows: pd.Index,
    modalities: Sequence[str],
    labels: Sequence[Any],
    out: Mapping[str, np.ndarray],
    quantities: Mapping[str, str],
) -> pd.DataFrame:
    """Tell what fused the modalities, and how sure the prediction is.

    Parameters
    ----------
    rows : Index
        Row labels.
    modalities : sequence of str
        Names of the modalities.
    labels : sequence
        Classes, labels or targets.
    out : mapping of str to ndarray
        Output of the task's ``predict``, with ``answer`` (n, labels): what contributions sum to.
    quantities : mapping of str to str
        What else to tell: name in the table and name in `out`, of shape (n,) or (n, labels).

    Returns
    -------
    DataFrame
        Columns row, quantity, modality, source, head, label, value; unused ones are None.
    """
    names, heads = list(modalities), range(out["attention"].shape[1])
    pairs: list[tuple[str, Sequence[Any]]] = [("modality", names), ("source", names)]
    parts = [
        tidy(rows, out["gate"], pairs[:1]).assign(quantity="gate"),
        tidy(rows, out["fusion"], pairs[:1]).assign(quantity="fusion"),
        tidy(rows, out["graph"], pairs).assign(quantity="graph"),
        tidy(rows, out["attention"], [("head", heads), *pairs]).assign(quantity="attention"),
        _contributions(rows, names, labels, out),
    ]
    for quantity, name in quantities.items():
        axes: list[tuple[str, Sequence[Any]]] = [("label", labels)] if out[name].ndim == 2 else []
        parts.append(tidy(rows, out[name], axes).assign(quantity=quantity))
    table = pd.concat(
        [part.reindex(columns=_COLUMNS).astype(object) for part in parts], ignore_index=True
    )
    return table.where(table.notna(), None).astype({"value": float})


def _contributions(
    rows: pd.Index, names: list[str], labels: Sequence[Any], out: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Lay out parts that sum to ``answer`` (n, labels): modalities, expert, bias, averaging."""
    wide = {name: value.astype(np.float64) for name, value in out.items() if name in _SUMMED}
    parts, names = [*np.moveaxis(wide["contribution"], 1, 0)], [*names]
    rest = wide["answer"] - wide["contribution"].sum(axis=1)
    if "expert" in wide:
        parts, names = [*parts, wide["expert"]], [*names, "expert"]
        rest = rest - wide["expert"]
    if "network" in wide:  # classes: networks' probabilities are averaged, not their scores
        bias = wide["network"] - wide["contribution"].sum(axis=1)
        parts, names = [*parts, bias, rest - bias], [*names, "bias", "averaging"]
    else:
        parts, names = [*parts, rest], [*names, "bias"]
    told = tidy(rows, np.stack(parts, axis=1), [("modality", names), ("label", labels)])
    return told.assign(quantity="contribution")
