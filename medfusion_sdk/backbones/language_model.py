"""A frozen language model block by block, with a place in each attention for an adapter.

One mechanism for every family: a segment is a structural copy of the library's own model, cut down
to some of its blocks. Its modules are new objects, so that hooks on them are nobody else's; its
weights are the shared backbone's own tensors. Whatever attention kernel the library chooses runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from threading import RLock
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from medfusion_sdk.backbones.pool import FrozenModule
from medfusion_sdk.backbones.text import TextBackbone
from medfusion_sdk.backbones.text_source import position_bound
from medfusion_sdk.exceptions import WeightsError

__all__ = ["LanguageModel", "Segment"]

#: Takes a block's queries (B, H, S, head width) and its heads' merged output (B, S, width), and
#: returns that output changed.
Adapter = Callable[[Tensor, Tensor], Tensor]


class _Family(NamedTuple):
    """Where the parts of a kind of model are: paths from the model, or from one of its blocks."""

    blocks: str
    positions: str | None  # what adds positions to embeddings
    last_norm: str | None  # what follows the last block
    projections: tuple[str, ...]  # query, key, value; one path where they are one matrix
    out: str
    causal: bool


_BERT = _Family(
    "encoder.layer",
    "embeddings",
    None,
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output.dense",
    causal=False,
)
_LLAMA = _Family(
    "layers",
    None,
    "norm",
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj",
    causal=True,
)
_FAMILIES = {
    "gpt2": _Family("h", "wpe", "ln_f", ("attn.c_attn",), "attn.c_proj", causal=True),
    "distilbert": _BERT._replace(
        blocks="transformer.layer",
        projections=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        out="attention.out_lin",
    ),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _BERT),
    **dict.fromkeys(("llama", "mistral", "qwen2"), _LLAMA),
}


class LanguageModel:
    """A frozen language model that can be run in parts.

    Parameters
    ----------
    backbone : TextBackbone
        The shared model; it stays as it is.

    Attributes
    ----------
    n_layers, n_heads, width, head_width : int
        Blocks, attention heads, entries of a token's state and of one head's query.
    causal : bool
        Whether a token sees only those before it.
    window : int
        Most tokens at a time.

    Raises
    ------
    WeightsError
        For a kind of model that isn't known here.
    """

    def __init__(self, backbone: TextBackbone) -> None:
        config: Any = backbone.model.config
        if config.model_type not in _FAMILIES:
            raise WeightsError(
                f"A {config.model_type!r} model can't be adapted; these kinds can: "
                f"{sorted(_FAMILIES)}."
            )
        self.backbone = backbone
        self.family = _FAMILIES[config.model_type]
        self.blocks: Sequence[nn.Module] = _get(backbone.model, self.family.blocks)  # type: ignore[assignment]
        self.n_layers = len(self.blocks)
        self.n_heads = int(config.num_attention_heads)
        self.width = int(config.hidden_size)
        self.head_width = int(getattr(config, "head_dim", None) or self.width // self.n_heads)
        self.causal = self.family.causal
        self.window = position_bound(config.to_dict())

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.backbone.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in."""
        return next(self.backbone.model.parameters()).dtype

    def segment(self, start: int, stop: int, *, embeds: bool = False) -> Segment:
        """Take some consecutive blocks.

        Parameters
        ----------
        start, stop : int
            Blocks ``start`` to ``stop - 1``.
        embeds : bool, default=False
            Whether it begins with the model's embedding layer, and so takes token ids, or
            embeddings that have no positions yet; else it takes hidden states.

        Returns
        -------
        Segment
            The model's last norm is never applied.
        """
        return Segment(self, start, stop, embeds)

    def keys_values(self, layer: int, tokens: Tensor, common: Tensor) -> tuple[Tensor, Tensor]:
        """Project adaptation tokens ``tokens + common`` by a block's own frozen matrices.

        Both are projected apart, in the model's own type, which is the same because projections
        are linear, and costs ``B + K`` vectors instead of ``B * K``.

        Parameters
        ----------
        layer : int
            Which block.
        tokens : Tensor of shape (K, d)
            What all rows share.
        common : Tensor of shape (B, d)
            What a row adds to each of them.

        Returns
        -------
        keys : Tensor of shape (B, H, K, head width)
            For every head; grouped key heads are repeated.
        values : Tensor of shape (B, H, K, head width)
            The same.
        """
        block = self.blocks[layer]
        return tuple(  # type: ignore[return-value]
            self._heads(
                linear(tokens.to(weight.dtype), weight, bias)[None]
                + linear(common.to(weight.dtype), weight)[:, None]
            )
            for weight, bias in self._key_value_weights(block)
        )

    def _key_value_weights(self, block: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
        projections = [_get(block, path) for path in self.family.projections]
        if len(projections) == 1:  # GPT-2: one matrix, stored input by output
            weight, bias = projections[0].weight, projections[0].bias
            key, value = slice(self.width, 2 * self.width), slice(2 * self.width, None)
            return [(weight[:, part].T, bias[part]) for part in (key, value)]  # type: ignore[index]
        return [(part.weight, part.bias) for part in projections[1:]]  # type: ignore[misc]

    def _heads(self, states: Tensor) -> Tensor:
        heads = states.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
        return heads.repeat_interleave(self.n_heads // heads.shape[1], dim=1)


class Segment(FrozenModule):
    """Consecutive blocks of a language model; made by :meth:`LanguageModel.segment`.

    Parameters
    ----------
    lm : LanguageModel
        Whose.
    start, stop : int
        Blocks ``start`` to ``stop - 1``.
    embeds : bool
        Whether it begins with the embedding layer.
    """

    def __init__(self, lm: LanguageModel, start: int, stop: int, embeds: bool) -> None:
        super().__init__()
        self._of = (lm, start, stop, embeds)
        model = _share(lm.backbone.model)
        blocks = nn.ModuleList(list(_get(model, lm.family.blocks).children())[start:stop])
        _set(model, lm.family.blocks, blocks)
        if lm.family.last_norm:
            _set(model, lm.family.last_norm, nn.Identity())
        if not embeds and lm.family.positions:
            _set(model, lm.family.positions, _NoPositions())
        self.model = model
        self._adapters: Sequence[Adapter | None] = [None] * len(blocks)
        self._queries: list[Tensor | None] = [None] * len(blocks)
        self._running = RLock()
        for i, block in enumerate(blocks):
            _get(block, lm.family.projections[0]).register_forward_hook(self._keep_query(i))
            _get(block, lm.family.out).register_forward_pre_hook(self._add(i))
        self.freeze()

    def forward(
        self,
        states: Tensor,
        mask: Tensor | None = None,
        adapters: Sequence[Adapter | None] | None = None,
    ) -> Tensor:
        """Run the blocks.

        Parameters
        ----------
        states : Tensor of shape (B, S, d), or (B, S) of token ids
            What enters the first of the blocks; embeddings without positions, or ids, for a
            segment that embeds.
        mask : Tensor of shape (B, S), bool, optional
            True where a token is; padding stands on the right. By default all are tokens.
        adapters : sequence of callable or None, optional
            One per block, from queries (B, H, S, head width) and the heads' merged output
            (B, S, H * head width) to what the output projection gets in its place. Gradients flow
            through the frozen blocks to them.

        Returns
        -------
        Tensor of shape (B, S, d)
            What leaves the last of the blocks, unnormalised; computed in the model's own type, and
            returned in that of `states`.
        """
        with self._running:  # two threads would take each other's adapters
            self._adapters = adapters or [None] * len(self._queries)
            try:
                return self._run(states, mask)
            finally:
                self._adapters = [None] * len(self._queries)
                self._queries = [None] * len(self._queries)

    def _run(self, states: Tensor, mask: Tensor | None) -> Tensor:
        attention_mask = None if mask is None or bool(mask.all()) else mask.long()
        options = {"attention_mask": attention_mask, "return_dict": True}
        if not states.is_floating_point():
            return self.model(input_ids=states, **options).last_hidden_state
        own = self._of[0].dtype
        out = self.model(inputs_embeds=states.to(own), **options).last_hidden_state
        return out.to(states.dtype)

    def _keep_query(self, i: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if self._adapters[i] is not None:
                self._queries[i] = output

        return hook

    def _add(self, i: int) -> Callable[..., tuple[Tensor] | None]:
        lm = self._of[0]

        def hook(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
            adapter, queries = self._adapters[i], self._queries[i]
            if adapter is None or queries is None:
                return None
            # A fused projection holds keys and values behind the queries.
            queries = queries[..., : lm.n_heads * lm.head_width]
            heads = queries.unflatten(-1, (lm.n_heads, lm.head_width)).transpose(1, 2)
            return (adapter(heads, inputs[0]),)

        return hook

    def _apply(self, fn: Any, recurse: bool = True) -> Segment:
        return self  # the weights are shared: what moves or casts them is the pool

    def __deepcopy__(self, memo: dict[int, Any]) -> Segment:
        return Segment(*self._of)  # the weights stay shared


class _NoPositions(nn.Module):
    """In place of what adds positions: hidden states have theirs already."""

    def forward(self, *args: Any, inputs_embeds: Tensor | None = None, **kwargs: Any) -> Tensor:
        if inputs_embeds is not None:
            return inputs_embeds
        for value in args:
            if torch.is_tensor(value) and value.is_floating_point():
                return value
        # GPT-2 asks for the positions alone, and adds them; a number without axes has no say in
        # the type of the sum.
        return torch.zeros(())


def _share(model: nn.Module) -> nn.Module:
    """Copy a model's modules, not its weights."""
    shared = [*model.parameters(), *model.buffers()]
    return deepcopy(model, {id(tensor): tensor for tensor in shared})


def _get(owner: nn.Module, path: str) -> nn.Module:
    return owner.get_submodule(path)


def _set(owner: nn.Module, path: str, part: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(owner.get_submodule(parent), name, part)
