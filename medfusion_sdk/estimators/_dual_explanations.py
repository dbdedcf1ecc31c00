"""What the dual adapter can tell of a prediction, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medfusion_sdk.encoders.signal import SignalEncoder
from medfusion_sdk.estimators._calibration import believed
from medfusion_sdk.estimators._dual_inputs import as_series
from medfusion_sdk.estimators._occlusion import occlusion, stretches
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.exceptions import ModalityError
from medfusion_sdk.readers.cells import Column, read_column

if TYPE_CHECKING:
    from medfusion_sdk.estimators.dual_adapter import DualAdapterClassifier
    from medfusion_sdk.nn.dual_adapter_tasks import SupervisedTask

__all__ = ["attributed_signal", "explain_gates", "explain_table"]

_PATHS = ("temporal", "textual")
_COLUMNS = [
    "row", "quantity", "path", "layer", "head", "modality", "position", "part", "label", "value",
]  # fmt: skip


def explain_table(
    model: DualAdapterClassifier, table: Any, rows: pd.Index, *, attribution: bool = True
) -> pd.DataFrame:
    """Explain the gates, and each row of a table.

    Parameters
    ----------
    model : DualAdapterClassifier
        Fitted.
    table : DataFrame or ndarray
        Validated.
    rows : Index
        Labels of its rows.
    attribution : bool, default=True
        Whether parts of signal and text are told as well.

    Returns
    -------
    DataFrame
        One line per row and quantity.
    """
    import torch

    from medfusion_sdk.backbones.devices import resolve_device
    from medfusion_sdk.training.batches import move

    device = resolve_device(model.device)
    task = model._network().to(device)
    inputs = model._inputs(table, rows)
    parts = [explain_gates(model).assign(row=None)]
    for position, row in enumerate(rows):
        one = torch.tensor([position])
        batch = move({name: part.index_select(0, one) for name, part in inputs.items()}, device)
        own = slice(position, position + 1)
        cells = table.iloc[own] if isinstance(table, pd.DataFrame) else table[own]
        lines = _lines(model, task, batch, cells, attribution)
        parts.append(pd.DataFrame(lines).assign(row=row))
    tidy = [part.reindex(columns=_COLUMNS).astype(object) for part in parts]
    return pd.concat(tidy, ignore_index=True).astype({"value": float})


def explain_gates(model: DualAdapterClassifier) -> pd.DataFrame:
    """Tell the gate of each adapted layer and head, which is the same for all rows.

    Parameters
    ----------
    model : DualAdapterClassifier
        Fitted.

    Returns
    -------
    DataFrame
        Columns ``quantity``, ``path``, ``layer``, ``head`` and ``value``.
    """
    network = model._network().network
    gates = network.activate(network.gates).detach().cpu().double().numpy()
    paths = ["both"] if len(gates) == 1 else list(_PATHS)
    return pd.DataFrame(
        {"quantity": "gate", "path": path, "layer": network.first + i, "head": head, "value": value}
        for path, layers in zip(paths, gates, strict=True)
        for i, heads in enumerate(layers)
        for head, value in enumerate(heads)
    )


def attributed_signal(
    model: DualAdapterClassifier, X: Any
) -> tuple[np.ndarray, np.ndarray, float | None, pd.DataFrame]:
    """Return what a model sees of one row's signal, and what each stretch of it is worth.

    Parameters
    ----------
    model : DualAdapterClassifier
        Fitted.
    X : DataFrame or array of one row
        The row.

    Returns
    -------
    signal : ndarray of shape (channels, samples)
        The series, or what its frozen encoder sees of it.
    bounds : ndarray of int
        Where stretches begin, and where the last one ends.
    fs : float or None
        Samples per second.
    told : DataFrame
        The row's attribution lines for the signal.

    Raises
    ------
    ModalityError
        If the row has no signal, or the model sees none.
    """
    table, encoder = model._validate(X), model.signal_encoder_
    if model.signal_shape_ is None and not isinstance(encoder, SignalEncoder):
        raise ModalityError("the model was fitted on embeddings; there is no signal to draw on.")
    told = explain_table(model, table, row_labels(X))
    told = told[(told["quantity"] == "attribution") & (told["modality"] == "signal")]
    if told.empty:
        raise ModalityError("this row has no signal, or the model leaves it out.")
    if encoder is None:
        signal = model._inputs(table, row_labels(X))["signal"][0].numpy()
        bounds = _patch_bounds(model.architecture_, signal.shape[1])
        return signal, bounds, model.reading_["fs"], told
    signal = encoder.view_signals(_signal_of(model, table))[0][0]
    bounds = stretches(encoder, signal.shape[1], model.architecture_["patch_len"])
    return signal, bounds, encoder.sampling_rate, told


def _lines(
    model: DualAdapterClassifier,
    task: SupervisedTask,
    batch: dict[str, Any],
    row: Any,
    attribution: bool,
) -> Iterator[dict[str, Any]]:
    """Probabilities, shares of the other modality and attributions of one row."""
    labels = list(model.label_names_)
    inputs, out, traced = _traced(model, task, batch)
    top = int(out["logits"].argmax())
    names = [name for name, there in zip(_PATHS, out["present"][0].tolist(), strict=True) if there]
    if task.network.shape.combine == "symmetric":
        names = []  # one sequence of both: no path of its own, no other modality
    yield from _probabilities(task, out, names, labels)
    yield from _shares(task.network.first, names, traced)
    if not attribution:
        return
    told = {"quantity": "attribution", "label": labels[top]}
    if "tokens" in inputs and inputs["tokens"].values.grad is not None:
        product = _product(inputs["tokens"].values).sum(axis=1)
        for position, (token, value) in enumerate(zip(_tokens(model, row), product, strict=True)):
            yield told | {"modality": "text", "position": position, "part": token, "value": value}
    if "signal" in inputs and inputs["signal"].grad is not None:
        for channel, position, value in _signal_worth(model, task, inputs, row, top):
            place = {"modality": "signal", "position": position, "part": channel}
            yield told | place | {"value": value}


def _traced(
    model: DualAdapterClassifier, task: SupervisedTask, batch: dict[str, Any]
) -> tuple[dict[str, Any], Any, list[Any]]:
    """Run a row with its adapters traced, and the gradient of its highest score at its inputs."""
    import torch

    from medfusion_sdk.nn.ragged import Ragged
    from medfusion_sdk.training.inference import alone_with

    network, inputs = task.network, dict(batch)
    leaves = []
    if "signal" in batch and batch["has_signal"].all():
        inputs["signal"] = batch["signal"].detach().requires_grad_()
        leaves.append(inputs["signal"])
    if "tokens" in batch and batch["has_text"].all():
        values = batch["tokens"].values.detach().requires_grad_()
        inputs["tokens"] = Ragged(values, batch["tokens"].lengths)
        leaves.append(values)
    with alone_with(task):
        network.traced = []
        try:
            with torch.enable_grad():
                out = task(inputs)
                for name in ("logits", "path_logits"):
                    out[name] = believed(out[name], model.calibration_)
                out["logits"][0].max().backward(inputs=leaves)
            return inputs, out, network.traced
        finally:
            network.traced = None


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
            share = adapter.share.mean().item()  # over the windows of a text
            yield {"quantity": "share", "path": name, "layer": first + i, "value": share}


def _product(leaf: Any) -> np.ndarray:
    """Gradient times input."""
    return (leaf.grad * leaf).detach().cpu().double().numpy()


def _signal_worth(
    model: DualAdapterClassifier, task: SupervisedTask, inputs: dict[str, Any], row: Any, label: int
) -> Iterator[tuple[int | None, int, float]]:
    """Channel (None: all), number of the stretch, and what it adds to the score, both paths."""
    if isinstance(model.signal_encoder_, SignalEncoder):
        assert model.signal_scaling_ is not None
        # No gradient goes through a frozen encoder's features to samples.
        yield from occlusion(
            model.signal_encoder_,
            model.signal_scaling_,
            task,
            inputs,
            _signal_of(model, row),
            label=label,
            patch_len=model.architecture_["patch_len"],
            calibration=model.calibration_,
        )
        return
    product = _product(inputs["signal"])[0]
    if product.ndim == 1:  # an embedding that the table holds, or somebody else's encoder made
        yield None, 0, float(product.sum())
        return
    bounds = _patch_bounds(model.architecture_, product.shape[1])
    for channel, samples in enumerate(product):
        for i, (start, stop) in enumerate(pairwise(bounds)):
            yield channel, i, float(samples[start:stop].sum())


def _patch_bounds(architecture: dict[str, Any], n_samples: int) -> np.ndarray:
    """Where patches begin, and where the last one ends; what overlaps goes to the later one."""
    from medfusion_sdk.nn.temporal import count_patches

    patch_len, stride = architecture["patch_len"], architecture["stride"]
    n_patches = count_patches(n_samples, patch_len, stride)
    first = n_samples - patch_len - stride * (n_patches - 1)
    return np.append(first + stride * np.arange(n_patches), n_samples)


def _signal_of(model: DualAdapterClassifier, row: Any) -> pd.Series:
    column: Column = model._reader().column(row)
    return as_series(column)


def _tokens(model: DualAdapterClassifier, row: Any) -> list[str]:
    text = read_column(row[model.text_column_]).cells[0]
    backbone = model._network().network.lm.backbone
    assert model.text_states_ is not None
    states = model.text_states_
    return backbone.tokens.words(str(text), states.max_length, states.long)
