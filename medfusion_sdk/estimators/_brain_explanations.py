"""What Brain-Adapter can tell of a prediction: by modality, and voxel by voxel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medfusion_sdk.estimators._calibration import Calibration, believed
from medfusion_sdk.estimators._explanations import tidy
from medfusion_sdk.estimators._rows import row_labels
from medfusion_sdk.exceptions import ModalityError, ParameterError

if TYPE_CHECKING:
    from torch import Tensor

    from medfusion_sdk.estimators.brain_adapter import BrainAdapterClassifier
    from medfusion_sdk.nn.brain_adapter_task import BrainAdapterTask

__all__ = ["MAP_KINDS", "brain_explanation", "seen_volumes", "volume_maps"]

MAP_KINDS = ("gradient", "occlusion", "attention", "adapter")
# Blocks along each axis that are taken away in turn.
_OCCLUDED = 4


def brain_explanation(
    rows: pd.Index,
    modalities: Sequence[str],
    labels: Sequence[Any],
    out: Mapping[str, np.ndarray],
    bias: np.ndarray,
) -> pd.DataFrame:
    """Lay out probabilities, contributions and similarities.

    Parameters
    ----------
    rows : Index
        Row labels.
    modalities : sequence of str
        What is read.
    labels : sequence
        Classes or label names.
    out : mapping of str to ndarray
        Output of the network's ``predict``.
    bias : ndarray of shape (C,)
        Of the head.

    Returns
    -------
    DataFrame
        Columns row, quantity, modality, label, value; unused ones are empty strings.
    """
    biases = np.broadcast_to(bias, (len(rows), 1, len(labels)))
    parts = np.concatenate([out["contributions"], biases], axis=1)
    names = [*modalities, "bias"]
    tables = [
        tidy(rows, out["proba"], [("label", labels)]).assign(quantity="probability"),
        tidy(rows, parts, [("modality", names), ("label", labels)]).assign(quantity="contribution"),
    ]
    if len(modalities) == 2:
        both = out["present"].all(axis=1)
        cosine = np.where(both, (out["unit"][:, 0] * out["unit"][:, 1]).sum(axis=1), np.nan)
        tables.append(tidy(rows, cosine, []).assign(quantity="similarity"))
    table = pd.concat(tables, ignore_index=True)
    table[["modality", "label"]] = table[["modality", "label"]].astype(object).fillna("")
    order = ["row", "quantity", "modality", "label", "value"]
    return table[order].sort_values("row", kind="stable", ignore_index=True)


def seen_volumes(model: BrainAdapterClassifier, X: Any) -> np.ndarray:
    """Read volumes as the adapter gets them.

    Parameters
    ----------
    model : BrainAdapterClassifier
        Fitted.
    X : DataFrame or array
        The rows.

    Returns
    -------
    ndarray of shape (n, D, H, W), float32
        NaN for a row without a volume.

    Raises
    ------
    ModalityError
        If the model reads no volumes.
    """
    if model.volume_inputs_ is None:
        raise ModalityError("the model reads no volumes.")
    column = model._volumes(model._validate(X))
    volumes = model.volume_inputs_.read(column, range(len(column))).astype(np.float32)
    volumes[[cell is None for cell in column.cells]] = np.nan
    return volumes


def volume_maps(model: BrainAdapterClassifier, X: Any, kind: str) -> np.ndarray:
    """Map each row's prediction onto its volume.

    Parameters
    ----------
    model : BrainAdapterClassifier
        Fitted.
    X : DataFrame or array
        The rows.
    kind : str
        Of `MAP_KINDS`.

    Returns
    -------
    ndarray of shape (n, D, H, W), float32
        NaN for a row without a volume.

    Raises
    ------
    ModalityError
        If the model reads no volumes.
    ParameterError
        For another kind, or one that the vision encoder hasn't.
    """
    import torch

    from medfusion_sdk.backbones.devices import limit_threads, resolve_device
    from medfusion_sdk.training.batches import move, take
    from medfusion_sdk.training.inference import alone_with

    if kind not in MAP_KINDS:
        raise ParameterError(f"kind={kind!r}: maps are of the kinds {MAP_KINDS}.")
    if "image" not in model.modalities_:
        raise ModalityError("the model reads no volumes, so there is nothing to map onto.")
    kinds: dict[str, Callable[..., Tensor]] = {
        "gradient": partial(_gradient, calibration=model.calibration_),
        "occlusion": partial(_occlusion, calibration=model.calibration_),
        "attention": _attention,
        "adapter": _added,
    }
    device = resolve_device(model.device)
    task = model._network().to(device)
    inputs = model._inputs(model._validate(X), row_labels(X))
    size = model.architecture_["network"]["volume_size"]
    maps = np.full((len(X), *size), np.nan, dtype=np.float32)
    for row in torch.nonzero(inputs["has_image"]).flatten():
        batch = move(take(inputs, row[None]), device)
        batch["image"] = batch["image"].to(task.network.reference.dtype)
        with limit_threads(), alone_with(task):
            maps[row] = kinds[kind](task, batch).cpu().numpy()
    return maps


def _gradient(
    task: BrainAdapterTask, batch: dict[str, Tensor], *, calibration: Calibration | None
) -> Tensor:
    import torch

    volume = batch["image"].requires_grad_()
    with torch.enable_grad():
        scores = believed(task({**batch, "image": volume})["logits"][0], calibration)
        scores.max().backward(inputs=[volume])
    assert volume.grad is not None
    return (volume.grad * volume).detach()[0]


def _occlusion(
    task: BrainAdapterTask, batch: dict[str, Tensor], *, calibration: Calibration | None
) -> Tensor:
    import torch

    def score(volume: Tensor) -> Tensor:
        return believed(task({**batch, "image": volume})["logits"][0], calibration)

    volume = batch["image"]
    falls = torch.zeros_like(volume[0])
    with torch.no_grad():
        scores = score(volume)
        top = int(scores.argmax())
        edges = [np.linspace(0, length, _OCCLUDED + 1).astype(int) for length in volume.shape[1:]]
        for block in product(range(_OCCLUDED), repeat=3):
            place = tuple(slice(e[i], e[i + 1]) for e, i in zip(edges, block, strict=True))
            if not volume[0][place].any():
                continue
            without = volume.clone()
            without[0][place] = 0.0
            falls[place] = scores[top] - score(without)[top]
    return falls


def _attention(task: BrainAdapterTask, batch: dict[str, Tensor]) -> Tensor:
    import torch

    from medfusion_sdk.nn.vit3d import ViT3D, attention_rollout

    network: Any = task.network
    vision = network.vision
    if not isinstance(vision, ViT3D):
        vision = getattr(vision, "network", None)
    if vision is None:
        raise ParameterError(
            "kind='attention' follows a transformer for volumes; this model reads slices with "
            f"{network.vision.source.name!r}. Choose 'gradient', 'occlusion' or 'adapter'."
        )
    with torch.no_grad():
        adapted = network.adapter(batch["image"][:, None])
    shares = attention_rollout(vision, adapted, network.shape.image_pool)
    return _enlarged(shares, batch)


def _added(task: BrainAdapterTask, batch: dict[str, Tensor]) -> Tensor:
    import torch

    adapter, volumes = task.network.adapter, batch["image"][:, None]
    with torch.no_grad():
        return _enlarged((adapter(volumes) - adapter.shortcut(volumes))[:, 0], batch)


def _enlarged(found: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Bring a map (1, d, h, w) to the volume's size."""
    from torch.nn.functional import interpolate

    size = tuple(batch["image"].shape[1:])
    return interpolate(found[:, None], size, mode="trilinear")[0, 0]
