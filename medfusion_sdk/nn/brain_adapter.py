"""Brain-Adapter's network: an adapter before a frozen vision encoder, and one space for both.

A volume goes through the adapter and the encoder, a report has been a vector of a frozen text
encoder all along; two linear maps project them into a space in which they are aligned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize
from torch.utils.checkpoint import checkpoint

from medfusion_sdk.nn.brain_adapter_shape import BrainAdapterShape
from medfusion_sdk.nn.volume_adapters import make_adapter

__all__ = ["Aligned", "BrainAdapterNetwork"]

#: ``image`` (B, D, H, W), ``text`` (B, text_width), ``has_image`` and ``has_text`` (B,).
Batch = dict[str, Tensor]
# As CLIP has it: beyond, the loss of a batch hangs on its closest pair alone.
_LARGEST_SCALE = 100.0


class Aligned(NamedTuple):
    """A batch in the common space.

    Attributes
    ----------
    z : Tensor of shape (B, M, d)
        Projected vectors, one for each modality that is read; for an absent one what stands for
        its absence.
    present : Tensor of shape (B, M), bool
        Which of them a row has.
    """

    z: Tensor
    present: Tensor

    def unit(self) -> Tensor:
        """Directions of the vectors; zero for absent ones.

        Returns
        -------
        Tensor of shape (B, M, d)
            Of length one.
        """
        return normalize(self.z, dim=-1) * self.present[..., None]

    def joint(self) -> Tensor:
        """One direction for each row, the mean of those that it has.

        Returns
        -------
        Tensor of shape (B, d)
            Of length one.
        """
        return normalize(self.unit().sum(dim=1), dim=-1)


class BrainAdapterNetwork(nn.Module):
    """Adapter, vision encoder and projections.

    Parameters
    ----------
    vision : Module or None
        Its ``read_out`` makes vectors (B, image_width) of volumes (B, 1, D', H', W'): frozen and
        shared, or a network of its own where all of it is trained; None where no images are read.
    shape : BrainAdapterShape
        The build.
    gradient_checkpointing : bool, default=False
        Compute inner states of adapter and encoder a second time in the backward pass instead of
        keeping them.
    """

    image_scale: Tensor
    image_shift: Tensor

    def __init__(
        self,
        vision: nn.Module | None,
        shape: BrainAdapterShape,
        *,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.gradient_checkpointing = gradient_checkpointing
        self.vision = vision
        self.adapter = make_adapter(
            shape.adapter, shape.volume_size, shape.target_size, shape.adapter_channels
        )
        widths = {"image": shape.image_width, "text": shape.text_width}
        # Of the encoder's read-outs, learnt before training and fixed then.
        self.register_buffer("image_scale", torch.ones(shape.image_width))
        self.register_buffer("image_shift", torch.zeros(shape.image_width))
        kind = FixedLinear if shape.train_mode == "fpm" else nn.Linear
        self.projections = nn.ModuleDict(
            {name: kind(widths[name], shape.proj_dim) for name in shape.modalities}
        )
        self.absences = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(shape.proj_dim)) for name in shape.absences}
        )
        if len(shape.modalities) == 2:
            start = torch.tensor(-math.log(shape.temperature))
            if shape.learnable_temperature:
                self.log_scale: Tensor = nn.Parameter(start)
            else:
                self.register_buffer("log_scale", start)

    @property
    def reference(self) -> Tensor:
        """A tensor of the type and on the device that the network computes in."""
        return next(iter(self.projections.values())).bias  # type: ignore[return-value]

    @property
    def scale(self) -> Tensor:
        """Factor on cosines in the contrastive loss."""
        return self.log_scale.exp().clamp(max=_LARGEST_SCALE)

    def forward(self, batch: Batch) -> Aligned:
        """Bring a batch into the common space.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.

        Returns
        -------
        Aligned
            Their vectors.
        """
        encoders: dict[str, Callable[[Tensor], Tensor]] = {"image": self.encode, "text": _as_is}
        z = [self._project(name, batch, encoders[name]) for name in self.shape.modalities]
        present = [batch[f"has_{name}"] for name in self.shape.modalities]
        return Aligned(torch.stack(z, dim=1), torch.stack(present, dim=1))

    def encode(self, volumes: Tensor) -> Tensor:
        """Run adapter and vision encoder.

        Parameters
        ----------
        volumes : Tensor of shape (B, D, H, W)
            Of `volume_size`, from 0 to 1.

        Returns
        -------
        Tensor of shape (B, image_width)
            The encoder's read-outs; gradients flow through it to the adapter.
        """
        return torch.addcmul(self.image_shift, self.image_scale, self.read_out(volumes))

    def read_out(self, volumes: Tensor) -> Tensor:
        """Run adapter and vision encoder, without the scaling of what they return.

        Parameters
        ----------
        volumes : Tensor of shape (B, D, H, W)
            As for :meth:`encode`.

        Returns
        -------
        Tensor of shape (B, image_width)
            The encoder's read-outs.
        """
        assert self.vision is not None
        checkpointed = self.gradient_checkpointing and torch.is_grad_enabled()
        x = volumes[:, None].to(self.reference.dtype)
        x = checkpoint(self.adapter, x, use_reentrant=False) if checkpointed else self.adapter(x)
        return self.vision.read_out(  # type: ignore[operator]
            x, self.shape.image_pool, gradient_checkpointing=checkpointed
        )

    def read_images(self, batch: Batch) -> Tensor:
        """Run adapter and vision encoder on a batch whose rows all have an image.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.

        Returns
        -------
        Tensor of shape (B, image_width)
            The encoder's read-outs, unscaled.
        """
        return self.read_out(batch["image"])

    def _project(self, name: str, batch: Batch, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Project the rows that have a modality; the others get what stands for its absence."""
        present = batch[f"has_{name}"]
        z = self.reference.new_zeros((len(present), self.shape.proj_dim))
        rows = torch.nonzero(present).flatten()
        if name in self.absences and len(rows) < len(z):
            z = torch.where(present[:, None], z, self.absences[name])
        if not len(rows):
            return z
        own = batch[name] if len(rows) == len(z) else batch[name][rows]
        return z.index_copy(0, rows, self.projections[name](encode(own)))


class FixedLinear(nn.Module):
    """A linear map that isn't trained but is part of what is saved.

    Parameters
    ----------
    n_in, n_out : int
        Entries of what comes in and what goes out.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        drawn = nn.Linear(n_in, n_out)
        self.register_buffer("weight", drawn.weight.detach())
        self.register_buffer("bias", drawn.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Map vectors.

        Parameters
        ----------
        x : Tensor of shape (B, n_in)
            Vectors.

        Returns
        -------
        Tensor of shape (B, n_out)
            Mapped ones.
        """
        return linear(x, self.weight, self.bias)


def _as_is(x: Tensor) -> Tensor:
    return x
