"""Start TGMM's network as a linear map of each modality into one space, whatever that map is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.tgmm_tasks import TGMMTasks

__all__ = ["start_aligned"]


@torch.no_grad()
def start_aligned(tasks: TGMMTasks, maps: Sequence[Tensor], task: str = "retrieval") -> None:
    """Set initial weights so that a single modality's cosines are those of its linear map.

    The layers after the projections pass a vector on as it is: feed-forward layers and what
    modalities take from each other begin at zero, as guidance does by itself, and the space of the
    task at the identity. Training departs from there.

    Parameters
    ----------
    tasks : TGMMTasks
        Untrained, with a task that has a `space`.
    maps : sequence of Tensor of shape (k, d_m)
        Of each modality, into one space of k dimensions, from the most telling on; k is less than
        the network's width, whose layer norms take one dimension.
    task : str, default="retrieval"
        The task that starts aligned.
    """
    network = tasks.network
    frame = _frame(network.shape.d_model, maps[0])[:, : len(maps[0])]
    for projection, own in zip(network.projections, maps, strict=True):
        _set(projection, frame @ own)
    fusion = network.fusion
    if fusion.attends:
        _clear(fusion.attend.out)
    if fusion.attends or fusion.gates:
        _clear(fusion.feed[-1])
    if fusion.fusion == "concat":
        _pass_on(fusion.join)
    space: Any = tasks.heads[task].space
    # The frame's own coordinates, so that a narrow space keeps the most telling ones.
    coordinates = frame.T[: space.out_features]
    _set(space, nn.functional.pad(coordinates, (0, 0, 0, space.out_features - len(coordinates))))


def _frame(width: int, like: Tensor) -> Tensor:
    """Orthonormal columns (width, width - 1) without a mean, so that a layer norm only scales.

    A discrete cosine transform's without its constant: no random part, and no unit is special.
    """
    units = torch.arange(width, dtype=torch.float64) + 0.5
    waves = torch.arange(1, width, dtype=torch.float64)
    frame = torch.cos(torch.pi / width * units[:, None] * waves)
    return (frame * (2 / width) ** 0.5).to(like)


def _set(layer: nn.Module, weight: Tensor) -> None:
    layer.weight.copy_(weight)  # type: ignore[operator]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _clear(layer: nn.Module) -> None:
    nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _pass_on(layer: nn.Linear) -> None:
    """Sum the modalities' vectors, each `out_features` wide; what else comes in counts nothing."""
    width = layer.out_features
    n_modalities = layer.in_features // (width + 1)
    copies = torch.eye(width).repeat(1, n_modalities)
    _set(layer, nn.functional.pad(copies, (0, n_modalities)))
