"""Tasks on a block table of which some blocks are computed by encoders that learn along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Place", "TunedInputs", "input_name"]

Batch = Mapping[str, Any]


def input_name(modality: str) -> str:
    """Name of what a modality's encoder reads, in a batch.

    Parameters
    ----------
    modality : str
        Which.

    Returns
    -------
    str
        No task's label has it.
    """
    return f"input {modality}"


class Place(NamedTuple):
    """Where a modality's block lies in ``x``.

    Attributes
    ----------
    start, stop : int
        Its columns.
    column : int
        Its column of ``present``.
    """

    start: int
    stop: int
    column: int


class TunedInputs(nn.Module):
    """Compute some blocks, then ask the tasks.

    Parameters
    ----------
    tasks : Module
        Has ``loss(batch, sample_weight)`` and ``predict(batch)``, which read ``x`` and ``present``.
    encoders : mapping of str to Module
        From what a batch has of a modality to vectors (n, width).
    places : mapping of str to Place
        Where their blocks lie; in this order they are numbered.
    scaling : mapping of str to (Tensor, Tensor)
        Mean and scale of each block's columns, as the other blocks are scaled.
    lr_factor : float
        The encoders' learning rate over the tasks'.
    """

    def __init__(
        self,
        tasks: nn.Module,
        encoders: Mapping[str, nn.Module],
        places: Mapping[str, Place],
        scaling: Mapping[str, tuple[Tensor, Tensor]],
        lr_factor: float,
    ) -> None:
        super().__init__()
        self.tasks = tasks
        # By number: a name may be one that torch takes for itself.
        self.encoders = nn.ModuleList(encoders[name] for name in places)
        self.places = dict(places)
        self.lr_factor = lr_factor
        for i, name in enumerate(places):
            for part, values in zip(("mean", "scale"), scaling[name], strict=True):
                self.register_buffer(f"{part}{i}", values, persistent=False)

    @property
    def network(self) -> Any:
        """The tasks' network."""
        return self.tasks.network

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Part the parameters for an optimiser.

        Returns
        -------
        list of dict
            Those of the tasks, and those of the encoders with their ``lr_factor``.
        """
        return [
            {"params": [p for p in part.parameters() if p.requires_grad], "lr_factor": factor}
            for part, factor in ((self.tasks, 1.0), (self.encoders, self.lr_factor))
        ]

    def loss(self, batch: Batch, sample_weight: Tensor | None) -> dict[str, Tensor]:
        """Loss of the tasks.

        Parameters
        ----------
        batch : mapping of str to Tensor
            What the tasks and the encoders read.
        sample_weight : Tensor of shape (B,) or None
            Row weights.

        Returns
        -------
        dict of Tensor
            As the tasks' own.
        """
        return self.tasks.loss(self._computed(batch), sample_weight)  # type: ignore[operator]

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Predictions of the tasks.

        Parameters
        ----------
        batch : mapping of str to Tensor
            What the tasks and the encoders read.

        Returns
        -------
        dict of Tensor
            As the tasks' own.
        """
        return self.tasks.predict(self._computed(batch))  # type: ignore[operator]

    def _computed(self, batch: Batch) -> dict[str, Any]:
        """Put the encoders' vectors where the batch has frozen ones."""
        x = batch["x"]
        for i, (name, place) in enumerate(self.places.items()):
            rows = batch["present"][:, place.column].nonzero()[:, 0]
            if not len(rows):
                continue
            mean, scale = self.get_buffer(f"mean{i}"), self.get_buffer(f"scale{i}")
            # Rows without the modality cost nothing and move no weight.
            vectors = self.encoders[i](batch[input_name(name)].index_select(0, rows))
            block = x.new_zeros(len(x), place.stop - place.start)
            block = block.index_copy(0, rows, ((vectors - mean) / scale).to(x.dtype))
            x = torch.cat([x[:, : place.start], block, x[:, place.stop :]], dim=1)
        return {**batch, "x": x}
