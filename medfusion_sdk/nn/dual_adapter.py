"""MedualTime's network: two adapted paths through one frozen language model.

The temporal-primary path runs a series through the model, with adaptation tokens that carry the
text; the textual-primary path runs the text, with tokens that carry the series.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch.utils.checkpoint import checkpoint

from medfusion_sdk.nn.dual_adapter_shape import DualAdapterShape, LanguageModelParts
from medfusion_sdk.nn.fusion import Combination
from medfusion_sdk.nn.gated_attention import GATE_ACTIVATIONS, GatedAttention
from medfusion_sdk.nn.ragged import Ragged, length_buckets, mean_of_parts
from medfusion_sdk.nn.temporal import PatchEmbedding, TemporalEncoder, revin

__all__ = ["DualAdapterNetwork", "Paths"]

TS, TEXT = 0, 1
#: Tensors of shape (B, ...), and tokens as :class:`Ragged`.
Batch = dict[str, Any]


class Paths(NamedTuple):
    """What both paths say of a batch.

    Attributes
    ----------
    z : Tensor of shape (B, 2, d)
        Read-outs of the temporal-primary and the textual-primary path; zero where one is absent.
    present : Tensor of shape (B, 2), bool
        Which paths a row has.
    """

    z: Tensor
    present: Tensor


class DualAdapterNetwork(nn.Module):
    """Both paths up to their combined vector.

    Batches are dicts of ``signal`` (B, V, T) or (B, F), ``tokens`` (:class:`Ragged` states that
    enter the first adapted layer), ``text`` (B, text_width), and the masks ``has_signal`` and
    ``has_text`` (B,). Where texts are read window by window, ``windows`` (B,) is how many of them
    a row's tokens are; each goes through the model by itself.

    Parameters
    ----------
    lm : LanguageModelParts
        The language model; its weights are no parameters of this network's state.
    shape : DualAdapterShape
        The build.
    gradient_checkpointing : bool, default=False
        Compute the blocks' inner states a second time in the backward pass instead of keeping
        them.
    """

    def __init__(
        self,
        lm: LanguageModelParts,
        shape: DualAdapterShape,
        *,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.shape = shape
        width, n_adapted = lm.width, shape.adapter_layers
        self.first = lm.n_layers - n_adapted
        self.lower = lm.segment(0, self.first, embeds=True)
        step = 1 if gradient_checkpointing else n_adapted
        self.upper = nn.ModuleList(
            lm.segment(start, start + step) for start in range(self.first, lm.n_layers, step)
        )
        self.gradient_checkpointing = gradient_checkpointing
        self.queries = nn.Parameter(torch.randn(2, n_adapted, shape.adapter_len, width))
        self.gates = nn.Parameter(torch.zeros(1 if shape.share_gates else 2, n_adapted, lm.n_heads))
        self.activate = GATE_ACTIVATIONS[shape.gate_activation]
        if shape.embedding_width:
            self.signal_token = nn.Linear(shape.embedding_width, width)
            self.series_vector: nn.Module = nn.Linear(shape.embedding_width, width)
            # The L2 penalty on them starts from nothing, instead of having drawn weights to undo.
            for part in (self.signal_token, self.series_vector):
                nn.init.zeros_(part.weight)
        else:
            self.patches = PatchEmbedding(shape.n_channels, shape.patch_len, shape.stride, width)
            self.series_vector = TemporalEncoder(shape.n_channels, width)
        if shape.text_width != width:
            self.text_vector: nn.Module = nn.Sequential(
                nn.Linear(shape.text_width, width), nn.LayerNorm(width)
            )
        elif shape.norm_secondary:
            self.text_vector = nn.LayerNorm(width)
        else:
            self.text_vector = nn.Identity()
        self.norm_series = nn.LayerNorm(width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.combine = Combination(shape.combine, width, lm.n_heads)
        self.traced: list[list[GatedAttention]] | None = None

    # -- the paths ----------------------------------------------------------------------------

    def forward(self, batch: Batch, weight: Tensor | None = None) -> Paths:
        """Run both paths.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.
        weight : Tensor of shape (B,), optional
            Their weights, for the CNN's batch statistics in training.

        Returns
        -------
        Paths
            Their read-outs.
        """
        modes = [self.shape.mode != "text_primary", self.shape.mode != "ts_primary"]
        present = torch.stack([batch["has_signal"], batch["has_text"]], dim=1)
        present = present & present.new_tensor(modes)
        if self.shape.combine == "symmetric":
            z = self.joint(batch)
            return Paths(torch.stack([z, z], dim=1), present.any(dim=1, keepdim=True).expand(-1, 2))
        z_ts = self._where(present[:, TS], lambda rows: self.temporal(_rows(batch, rows)))
        z_text = self._where(
            present[:, TEXT],
            lambda rows: self.textual(_rows(batch, rows), None if weight is None else weight[rows]),
        )
        return Paths(torch.stack([z_ts, z_text], dim=1), present)

    def temporal(self, batch: Batch) -> Tensor:
        """Run the temporal-primary path on rows that have a series.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.

        Returns
        -------
        Tensor of shape (B, d)
            ``z_ts``.
        """
        secondary = self._text(batch)
        states = self._run(self.temporal_states(batch["signal"]), None, TS, secondary)
        z = self.norms[TS](self._read(states, None))
        if self.combine.attends and "tokens" in batch:
            z = self.combine.attend(z, *batch["tokens"].padded())
        return z

    def temporal_states(self, signal: Tensor) -> Tensor:
        """Embed series as they enter the first adapted layer.

        Parameters
        ----------
        signal : Tensor of shape (B, V, T) or (B, F)
            Series, or their frozen embeddings.

        Returns
        -------
        Tensor of shape (B, N, d)
            One token per patch; a single one for an embedding, which skips the lower layers.
        """
        if self.shape.embedding_width:
            return self.signal_token(signal)[:, None]
        patches = self.patches(revin(signal) if self.shape.revin else signal)
        return self._maybe_checkpointed(self.lower, patches)

    def textual(self, batch: Batch, weight: Tensor | None = None) -> Tensor:
        """Run the textual-primary path on rows that have a text.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.
        weight : Tensor of shape (B,), optional
            Their weights.

        Returns
        -------
        Tensor of shape (B, d)
            ``z_text``.
        """
        secondary = self._series(batch, weight)
        tokens: Ragged = batch["tokens"]
        if "windows" in batch:
            tokens = tokens.split(batch["windows"])
            secondary = secondary.repeat_interleave(batch["windows"], dim=0)
        buckets = length_buckets(tokens.lengths)
        read = []
        for rows in buckets:
            states, mask = tokens.index_select(0, rows).padded()
            states = self._run(states, mask, TEXT, secondary[rows])
            read.append(self._read(states, mask))
        readouts = torch.cat(read)[torch.argsort(torch.cat(buckets))]
        z = self.norms[TEXT](self._join(readouts, tokens.lengths, batch.get("windows")))
        if self.combine.attends and batch["has_signal"].any():
            states = self.temporal_states(batch["signal"])
            z = self.combine.attend(
                z, states, batch["has_signal"][:, None].expand(states.shape[:2])
            )
        return z

    @torch.no_grad()
    def frozen_readouts(self, tokens: Ragged, n_windows: Tensor | None = None) -> Tensor:
        """Read texts out of the model without adapters, normalised without scale and shift.

        Parameters
        ----------
        tokens : Ragged
            Token states; one at least in each row.
        n_windows : Tensor of shape (B,), int64, optional
            Windows of each row; one by default.

        Returns
        -------
        Tensor of shape (B, d)
            One vector per row.
        """
        if n_windows is not None:
            tokens = tokens.split(n_windows)
        out = self.queries.new_zeros((len(tokens), self.lm.width))
        for rows in length_buckets(tokens.lengths, max_tokens=8192):
            states, mask = tokens.index_select(0, rows).to(self.lm.device).padded()
            for segment in self.upper:
                states = segment(states, mask)
            out[rows.to(out.device)] = self._read(states, mask).to(out.device)
        return layer_norm(self._join(out, tokens.lengths, n_windows), (self.lm.width,))

    def joint(self, batch: Batch) -> Tensor:
        """Run one sequence of both modalities, with adaptation tokens that carry neither.

        Parameters
        ----------
        batch : dict of Tensor
            Rows.

        Returns
        -------
        Tensor of shape (B, d)
            Its read-out.
        """
        states = self.temporal_states(batch["signal"])
        mask = batch["has_signal"][:, None].expand(states.shape[:2])
        if "tokens" in batch:
            text, text_mask = batch["tokens"].padded()
            states = torch.cat([states, text], dim=1)
            mask = torch.cat([mask, text_mask], dim=1)
        states = self._run(states, mask, TS, self.queries.new_zeros((len(mask), self.lm.width)))
        return self.norms[TS](self._read(states, mask))

    def _text(self, batch: Batch) -> Tensor:
        """``c``, the text as the temporal-primary path is given it; zero where absent."""
        if "text" not in batch:
            return self.queries.new_zeros((len(batch["has_text"]), self.lm.width))
        return self.text_vector(batch["text"]) * batch["has_text"][:, None]

    def _series(self, batch: Batch, weight: Tensor | None) -> Tensor:
        """``c``, the series as the textual-primary path is given it; zero where absent."""

        def encode(rows: Tensor) -> Tensor:
            signal = batch["signal"][rows]
            if self.shape.embedding_width:
                return self.norm_series(self.series_vector(signal))
            signal = revin(signal) if self.shape.secondary_revin else signal
            own = None if weight is None else weight[rows]
            return self.norm_series(self.series_vector(signal, own))

        return self._where(batch["has_signal"], encode)

    # -- parts of a path ----------------------------------------------------------------------

    def _run(self, states: Tensor, mask: Tensor | None, path: int, secondary: Tensor) -> Tensor:
        """Run the adapted layers."""
        adapters = self._adapters(path, secondary)
        if self.traced is not None:
            self.traced.append(adapters)
        per_segment = len(adapters) // len(self.upper)
        for i, segment in enumerate(self.upper):
            own = adapters[i * per_segment : (i + 1) * per_segment]
            states = self._maybe_checkpointed(segment, states, mask, own)
        return states

    def _adapters(self, path: int, secondary: Tensor) -> list[GatedAttention]:
        gates = self.activate(self.gates[0 if self.shape.share_gates else path])
        return [
            GatedAttention(
                gate,
                *self.lm.keys_values(self.first + layer, queries, secondary),
                trace=self.traced is not None,
            )
            for layer, (gate, queries) in enumerate(zip(gates, self.queries[path], strict=True))
        ]

    def _maybe_checkpointed(self, segment: nn.Module, *inputs: object) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(segment, *inputs, use_reentrant=False)
        return segment(*inputs)

    def _read(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Read a sequence out: its last token, its first, or the mean of all."""
        if mask is None:
            mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        if self.shape.readout == "mean":
            kept = states * mask[..., None]
            return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        # From the mask, not from the length: padding may stand on either side.
        order = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        token = (mask * (order if self.shape.readout == "last" else order.flip(0))).argmax(dim=1)
        return states[torch.arange(len(states), device=states.device), token]

    def _join(self, readouts: Tensor, lengths: Tensor, n_windows: Tensor | None) -> Tensor:
        """Average over the windows of each text: over all tokens, where these are averaged."""
        if n_windows is None or len(readouts) == len(n_windows):
            return readouts
        weights = lengths if self.shape.readout == "mean" else torch.ones_like(lengths)
        return mean_of_parts(readouts, weights, n_windows.to(weights.device))

    def _where(self, present: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute the rows that are there; the others are zero, without a gradient."""
        rows = torch.nonzero(present).flatten()
        out = self.queries.new_zeros((len(present), self.lm.width))
        if not len(rows):
            return out
        return out.index_copy(0, rows, compute(rows))


def _rows(batch: Batch, rows: Tensor) -> Batch:
    if len(rows) == len(batch["has_text"]):
        return batch
    return {name: tensor.index_select(0, rows) for name, tensor in batch.items()}
