"""What the dual adapter can tell of a prediction, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask

__all__ = ["explain_gates", "explain_row"]

_PATHS = ("temporal", "textual")
_COLUMNS = ["row", "quantity", "path", "layer", "head", "position", "label", "value"]


def explain_gates(task: SupervisedTask) -> pd.DataFrame:
    """Gate of each adapted layer and head, which is the same for all rows.

    Parameters
    ----------
    task : SupervisedTask
        Fitted.

    Returns
    -------
    DataFrame
        Quantity "gate": zero keeps the other modality out of a head.
    """
    network = task.network
    gates = network.activate(network.gates).detach().cpu().double().numpy()
    paths = ["both"] if len(gates) == 1 else list(_PATHS)
    lines = [
        {"quantity": "gate", "path": path, "layer": network.first + i, "head": head, "value": value}
        for path, layers in zip(paths, gates, strict=True)
        for i, heads in enumerate(layers)
        for head, value in enumerate(heads)
    ]
    return pd.DataFrame(lines).reindex(columns=_COLUMNS)


def explain_row(
    task: SupervisedTask, batch: dict[str, Any], row: Any, labels: Sequence[Any]
) -> pd.DataFrame:
    """Probabilities, shares of the other modality and attributions of one row.

    Parameters
    ----------
    task : SupervisedTask
        Fitted, in evaluation mode.
    batch : dict of Tensor
        One row.
    row : object
        Its label.
    labels : sequence
        Classes or label names.

    Returns
    -------
    DataFrame
        One line per quantity and place.
    """
    import torch

    from medfusion_sdk.nn.ragged import Ragged

    network = task.network
    inputs = dict(batch)
    for name in ("signal", "tokens"):
        if name in inputs:
            part = inputs[name]
            values = (part.values if name == "tokens" else part).detach().requires_grad_()
            inputs[name] = Ragged(values, part.lengths) if name == "tokens" else values
    network.traced = []
    try:
        with torch.enable_grad():
            out = task(inputs)
            top = int(out["logits"].argmax())
            out["logits"][0, top].backward(inputs=_leaves(inputs))
        traced = network.traced
    finally:
        network.traced = None
    present = out["present"][0].tolist()
    names = [name for name, there in zip(_PATHS, present, strict=True) if there]
    lines = [
        *_probabilities(task, out, names, labels),
        *_shares(network.first, names, traced),
        *(
            {
                "quantity": "attribution",
                "path": name,
                "position": position,
                "label": labels[top],
                "value": value,
            }
            for name, values in _attributions(task, inputs).items()
            for position, value in enumerate(values.tolist())
        ),
    ]
    return pd.DataFrame(lines).assign(row=row).reindex(columns=_COLUMNS)


def _probabilities(
    task: SupervisedTask, out: dict[str, Any], names: list[str], labels: Sequence[Any]
) -> Iterator[dict[str, Any]]:
    from medfusion_sdk.nn.tasks import probabilities

    scores = {"probability": out["logits"]}
    scores |= {f"probability_{n}": out["path_logits"][:, _PATHS.index(n)] for n in names}
    for quantity, logits in scores.items():
        proba = probabilities(logits.detach(), task.multilabel)[0].tolist()
        for label, value in zip(labels, proba, strict=True):
            yield {"quantity": quantity, "label": label, "value": value}


def _shares(first: int, names: list[str], traced: list[Any]) -> Iterator[dict[str, Any]]:
    for name, adapters in zip(names, traced, strict=False):
        for i, adapter in enumerate(adapters):
            share = adapter.share.item()
            yield {"quantity": "share", "path": name, "layer": first + i, "value": share}


def _leaves(inputs: dict[str, Any]) -> list[Any]:
    read = [inputs["signal"]] if "signal" in inputs and inputs["has_signal"].all() else []
    return [*read, inputs["tokens"].values] if inputs["has_text"].all() else read


def _attributions(task: SupervisedTask, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Gradient times input, summed over each patch of the signal and each token of the text."""
    from medfusion_sdk.nn.temporal import count_patches

    shape, found = task.network.shape, {}
    for leaf in _leaves(inputs):
        if leaf.grad is None:  # a path that there isn't
            continue
        product = (leaf.grad * leaf).detach().cpu().double().numpy()
        if "signal" not in inputs or leaf is not inputs["signal"]:
            found["textual"] = product.sum(axis=1)
        elif shape.embedding_width:
            found["temporal"] = product.sum(axis=1)
        else:
            # The series' share through both paths, by the patch that a sample belongs to.
            samples = product[0].sum(axis=0)
            n_patches = count_patches(len(samples), shape.patch_len, shape.stride)
            begin = len(samples) - shape.patch_len - shape.stride * (n_patches - 1)
            starts = begin + shape.stride * np.arange(n_patches)
            found["temporal"] = np.array([samples[s : s + shape.patch_len].sum() for s in starts])
    return found
