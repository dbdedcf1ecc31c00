"""The whole AMFN network: encoders of each modality, adaptive fusion, read-out and head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from medfusion_sdk.nn.amfn import AdaptiveFusion, Fused, FusionShape
from medfusion_sdk.nn.grouped import SEQUENCE_ENCODERS, GroupedLinear
from medfusion_sdk.nn.images import ImageEncoder
from medfusion_sdk.nn.layers import SharedDropout

__all__ = ["AMFNNetwork", "AMFNShape", "ModalityShape", "Scored"]


class ModalityShape(NamedTuple):
    """What one modality looks like.

    Attributes
    ----------
    encoder : str
        "mlp" reads the vector alone; "gru", "tcn" and "transformer" a sequence, "cnn" an image.
    n_vector : int
        Width of its vector: a block of columns, or the summary of a series; 0 for none.
    n_channels : int
        Of the sequence or image; 0 for none.
    reads_vector : bool
        Whether the vector is read, or only what reconstruction aims at.
    """

    encoder: str
    n_vector: int
    n_channels: int = 0
    reads_vector: bool = True


class AMFNShape(NamedTuple):
    """What an :class:`AMFNNetwork` is made of.

    Attributes
    ----------
    modalities : tuple of ModalityShape
        In the order of the presence mask.
    fusion : FusionShape
        Of the adaptive fusion.
    n_outputs : int
        Scores of the head.
    encoder_width : int
        Width of a sequence encoder's state.
    readout : {"fusion", "concat", "both"}
        What the head reads: the fused vector, all nodes end to end, or both.
    multiscale : bool
        Of the image encoders.
    reconstructs : bool
        Whether the vectors can be read back from the encodings.
    """

    modalities: tuple[ModalityShape, ...]
    fusion: FusionShape
    n_outputs: int
    encoder_width: int = 32
    readout: str = "fusion"
    multiscale: bool = False
    reconstructs: bool = False


class Scored(NamedTuple):
    """What the network made of a batch.

    Attributes
    ----------
    scores : Tensor of shape (B, n_outputs)
        Of the head.
    embedding : Tensor of shape (B, embed_width)
        What the head reads.
    encoded : Tensor of shape (B, M, d)
        Modalities as they were encoded.
    fused : Fused
        What the fusion made of them.
    """

    scores: Tensor
    embedding: Tensor
    encoded: Tensor
    fused: Fused


class AMFNNetwork(nn.Module):
    """Encode each modality, fuse them, score.

    Parameters
    ----------
    shape : AMFNShape
        Modalities, fusion and head.
    dropout : float, default=0.0
        On the encoded modalities, the graph's updates and what the head reads, while training.
    """

    def __init__(self, shape: AMFNShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        width = shape.fusion.d_model
        self.vectors = nn.ModuleDict()
        self.decoders = nn.ModuleDict()
        self.images = nn.ModuleDict()
        self.image_maps = nn.ModuleDict()
        for m, one in enumerate(shape.modalities):
            if one.n_vector and one.reads_vector:
                self.vectors[str(m)] = _xavier(nn.Linear(one.n_vector, width))
            if one.n_vector and shape.reconstructs:
                self.decoders[str(m)] = _xavier(nn.Linear(width, one.n_vector))
            if one.encoder == "cnn":
                image = self.images[str(m)] = ImageEncoder(one.n_channels, shape.multiscale)
                self.image_maps[str(m)] = _xavier(nn.Linear(image.out_width, width))
        self.sequences = nn.ModuleDict()
        self.sequence_maps = nn.ModuleDict()
        for kind, members in self.sequence_groups().items():
            channels = [shape.modalities[m].n_channels for m in members]
            encoder = SEQUENCE_ENCODERS[kind](channels, shape.encoder_width, dropout)
            self.sequences[kind] = encoder
            self.sequence_maps[kind] = GroupedLinear([encoder.out_width] * len(members), width)
        self.fusion = AdaptiveFusion(shape.fusion, dropout)
        self.dropout = SharedDropout(dropout)
        # Zero, so that training begins at the expert's answer, or at no preference.
        self.head = nn.Linear(self.embed_width, shape.n_outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def embed_width(self) -> int:
        """Width of what the head reads."""
        n_modalities, width = self.shape.fusion.n_modalities, self.shape.fusion.d_model
        return {"fusion": 1, "concat": n_modalities, "both": n_modalities + 1}[
            self.shape.readout
        ] * width

    def sequence_groups(self) -> dict[str, list[int]]:
        """Modalities that one grouped encoder computes together.

        Returns
        -------
        dict of str to list of int
            Positions of the modalities of each kind of sequence encoder.
        """
        groups: dict[str, list[int]] = {}
        for m, one in enumerate(self.shape.modalities):
            if one.encoder in SEQUENCE_ENCODERS:
                groups.setdefault(one.encoder, []).append(m)
        return groups

    def encode(self, batch: dict[str, Tensor]) -> Tensor:
        """Encode each modality on its own.

        Parameters
        ----------
        batch : dict of Tensor
            ``vector``: all vectors end to end (B, sum n_vector). ``image_m``: (B, c, H, W). Per
            kind of sequence encoder, ``gru``, ``tcn`` or ``transformer``: (B, G, T, C), and
            ``gru_lengths`` and so on: (B, G).

        Returns
        -------
        Tensor of shape (B, M, d)
            Modalities; those that a row lacks carry no meaning.
        """
        parts: list[list[Tensor]] = [[] for _ in self.shape.modalities]
        for m, vector in self.split_vectors(batch).items():
            if str(m) in self.vectors:
                parts[m].append(self.vectors[str(m)](vector))
        for name, layer in self.image_maps.items():
            parts[int(name)].append(layer(self.images[name](batch[f"image_{name}"])))
        for kind, members in self.sequence_groups().items():
            x = batch[kind].permute(1, 2, 0, 3)
            encoded = self.sequences[kind](x, batch[f"{kind}_lengths"].T)
            # Dropped by rows first: a mask is shared by all of them.
            dropped = self.dropout(encoded.transpose(0, 1)).transpose(0, 1)
            mapped = self.sequence_maps[kind](dropped)
            for g, m in enumerate(members):
                parts[m].append(mapped[g])
        # Of a modality in which nothing varied in training, there is nothing to read.
        nothing = batch["vector"].new_zeros(len(batch["vector"]), self.shape.fusion.d_model)
        return torch.stack(
            [torch.stack(part).sum(0).relu() if part else nothing for part in parts], dim=1
        )

    def split_vectors(self, batch: dict[str, Tensor]) -> dict[int, Tensor]:
        """Part the vectors by modality.

        Parameters
        ----------
        batch : dict of Tensor
            With ``vector``.

        Returns
        -------
        dict of int to Tensor
            Of shape (B, n_vector); modalities without a vector are left out.
        """
        with_vector = [m for m, one in enumerate(self.shape.modalities) if one.n_vector]
        widths = [self.shape.modalities[m].n_vector for m in with_vector]
        if not widths:
            return {}
        return dict(zip(with_vector, batch["vector"].split(widths, dim=1), strict=True))

    def forward(
        self, batch: dict[str, Tensor], present: Tensor, weight: Tensor | None = None
    ) -> Scored:
        """Score a batch.

        Parameters
        ----------
        batch : dict of Tensor
            See :meth:`encode`.
        present : Tensor of shape (B, M), bool
            Which modalities each row has.
        weight : Tensor of shape (B,), optional
            Of the rows, for the batch's statistics in training.

        Returns
        -------
        Scored
            The scores and what led to them.
        """
        h = self.encode(batch)
        fused = self.fusion(h, present, weight)
        nodes = fused.nodes.flatten(1)
        embedding = {
            "fusion": lambda: fused.vector,
            "concat": lambda: nodes,
            "both": lambda: torch.cat([fused.vector, nodes], dim=1),
        }[self.shape.readout]()
        return Scored(self.head(self.dropout(embedding)), embedding, h, fused)

    def contributions(self, scored: Scored) -> Tensor:
        """What each modality's node adds to the scores: the head is linear.

        Parameters
        ----------
        scored : Scored
            From :meth:`forward`.

        Returns
        -------
        Tensor of shape (B, M, n_outputs)
            With the head's bias they sum to the scores where no feature was dropped.
        """
        nodes, fusion = scored.fused.nodes, scored.fused.fusion
        # One slice of the weights for each vector that the head reads.
        slices = self.head.weight.unflatten(1, (-1, nodes.shape[2]))
        added = nodes.new_zeros(*nodes.shape[:2], len(slices))
        if self.shape.readout != "concat":
            added = added + fusion[..., None] * (nodes @ slices[:, 0].T)
        if self.shape.readout != "fusion":
            own = slices[:, -nodes.shape[1] :]
            added = added + torch.einsum("bmd,cmd->bmc", nodes, own)
        return added

    def reconstruction_loss(
        self, batch: dict[str, Tensor], h: Tensor, present: Tensor, weight: Tensor
    ) -> Tensor:
        """Squared error of each present modality's vector, read back from its encoding (Eq. 5).

        Parameters
        ----------
        batch : dict of Tensor
            With ``vector``.
        h : Tensor of shape (B, M, d)
            Encoded modalities.
        present : Tensor of shape (B, M), bool
            Which of them each row has.
        weight : Tensor of shape (B,)
            Of the rows.

        Returns
        -------
        Tensor
            Mean over rows and modalities; zero where there is no vector.
        """
        total, counted = h.new_zeros(()), h.new_zeros(())
        for m, vector in self.split_vectors(batch).items():
            rows = weight * present[:, m].to(weight)
            error = (self.decoders[str(m)](h[:, m]) - vector).square().mean(dim=1)
            total, counted = total + (error * rows).sum(), counted + rows.sum()
        return total / counted.clamp_min(torch.finfo(h.dtype).tiny)


def _xavier(layer: nn.Linear) -> nn.Linear:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
