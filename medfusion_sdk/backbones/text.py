"""Frozen Hugging Face text models: texts -> tokens -> one state per token."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medfusion_sdk.backbones import m3d_clip
from medfusion_sdk.backbones.hugging_face import load_base_model, quiet_transformers
from medfusion_sdk.backbones.pool import BackboneKey, FrozenModule, shared_backbones
from medfusion_sdk.backbones.standin_text import HashingTokenizer, build_standin
from medfusion_sdk.backbones.text_source import TextSource, find_text_source
from medfusion_sdk.backbones.text_windows import TextTokens, TokenIds
from medfusion_sdk.backbones.weights import read_json, require_unchanged
from medfusion_sdk.exceptions import WeightsError

__all__ = ["TextBackbone", "borrow_text_backbone", "pool_states"]

# Held while a BigBird is set for texts of one length.
_one_length = Lock()


def _renew_lock() -> None:
    global _one_length
    _one_length = Lock()


if hasattr(os, "register_at_fork"):  # another thread may have held it
    os.register_at_fork(after_in_child=_renew_lock)

# What a network raises on a text beyond its window, or when it wants more than a text.
_UNREADABLE = (AttributeError, IndexError, RuntimeError, TypeError, ValueError)


class TextBackbone(FrozenModule):
    """A frozen text model with its tokenizer.

    Parameters
    ----------
    model : Module
        A Hugging Face base model: token ids in, ``last_hidden_state`` out.
    tokenizer : object
        The model's tokenizer, or the stand-in's.

    Attributes
    ----------
    model : Module
        The network, frozen.
    tokens : TextTokens
        The tokenizer: texts to token ids.
    """

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.tokens = TextTokens(tokenizer, self._pad_token(tokenizer))
        self.freeze()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device

    def forward(self, token_ids: Sequence[TokenIds]) -> tuple[Tensor, Tensor]:
        """Compute the last layer's state of every token.

        Parameters
        ----------
        token_ids : sequence of ndarray, or of sequences of int
            One batch of windows from `tokens`.

        Returns
        -------
        states : Tensor of shape (batch, tokens, width)
            Rows past a text's end hold nothing of meaning.
        mask : Tensor of shape (batch, tokens), bool
            True where a token is.
        """
        lengths = torch.tensor([len(ids) for ids in token_ids])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        ids = torch.zeros(mask.shape, dtype=torch.long)
        ids[mask] = torch.from_numpy(np.concatenate(token_ids).astype(np.int64))
        ids, mask = ids.to(self.device), mask.to(self.device)
        return self.states(ids, mask), mask

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Compute the last layer's state of every token of padded texts.

        Parameters
        ----------
        ids : Tensor of shape (batch, tokens), int64
            Token ids; anything past a text's end.
        mask : Tensor of shape (batch, tokens), bool
            True where a token is.

        Returns
        -------
        Tensor of shape (batch, tokens, width)
            Rows past a text's end hold nothing of meaning.
        """
        ids = ids.masked_fill(~mask, self.tokens.pad)
        # Without a mask attention takes its fastest kernel.
        attention = {} if bool(mask.all()) else {"attention_mask": mask.long()}
        try:
            with self._attention_for(ids.shape[1]):
                output = self.model(input_ids=ids, return_dict=True, **attention)
        except _UNREADABLE as error:
            if isinstance(error, RuntimeError) and "size of" not in str(error):
                raise  # memory or the device
            raise WeightsError(
                f"{self._kind()} can't read texts of {ids.shape[1]} tokens ({error}). If that is "
                "its window, set max_length; else it isn't a model of texts alone."
            ) from error
        states = getattr(output, "last_hidden_state", None)
        if states is None or states.shape[:2] != ids.shape:
            raise WeightsError(f"{self._kind()} doesn't make one state of each token.")
        return states

    @contextmanager
    def _attention_for(self, n_tokens: int) -> Iterator[None]:
        """Let BigBird attend as its configuration says, whatever texts it read before.

        Below some length it has no sparse attention; it would go over to the full one, and stay.
        """
        config: Any = self.model.config
        if config.model_type != "big_bird":
            yield
            return
        least = (5 + 2 * config.num_random_blocks) * config.block_size
        kind = config.attention_type if n_tokens > least else "original_full"
        with _one_length:
            self.model.set_attention_type(kind)  # type: ignore[operator]
            yield

    def _kind(self) -> str:
        config: Any = self.model.config
        return f"a model of the kind {config.model_type!r}"

    def _pad_token(self, tokenizer: Any) -> int:
        # RoBERTa tells padding from text by this id, so the model's own comes first. A decoder
        # without one never looks at what stands behind a text's end.
        for owner in (self.model.config, tokenizer):
            token = getattr(owner, "pad_token_id", None)
            if isinstance(token, int) and token >= 0:
                return token
        return 0


def pool_states(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Make one vector of each text's token states.

    Parameters
    ----------
    states : Tensor of shape (batch, tokens, width)
        One state per token.
    mask : Tensor of shape (batch, tokens)
        True or one where a token is; padding may stand on either side.
    pooling : {"mean", "cls", "last"}
        The mean over tokens, the first token's state, or the last one's.

    Returns
    -------
    Tensor of shape (batch, width), float32
        Padding has no part in it.

    Examples
    --------
    >>> import torch
    >>> states = torch.arange(6.0).reshape(1, 3, 2)
    >>> pool_states(states, torch.tensor([[1, 1, 0]]), "last")
    tensor([[2., 3.]])
    """
    mask = mask.bool()
    states = states.float()
    if pooling == "mean":
        # A sum over the tokens that are there: what padding holds, NaN included, can't leak in.
        kept = states.masked_fill(~mask[..., None], 0.0)
        return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)
    positions = torch.arange(mask.shape[1], device=mask.device)
    if pooling == "cls":
        token = torch.where(mask, positions, mask.shape[1]).min(dim=1).values
    else:
        token = torch.where(mask, positions, -1).max(dim=1).values
    return states[torch.arange(len(states), device=states.device), token]


def borrow_text_backbone(
    user: Any, source: TextSource, device: torch.device, dtype: torch.dtype
) -> TextBackbone:
    """Return this process's copy of a text model, loading it at first use.

    Parameters
    ----------
    user : object
        Who keeps it alive.
    source : TextSource
        Which model.
    device : torch.device
        Where to.
    dtype : torch.dtype
        In which precision.

    Returns
    -------
    TextBackbone
        Shared by all users of the same weights, device and dtype.

    Raises
    ------
    WeightsError
        If the files don't hold what the model's configuration asks for.
    """
    key = BackboneKey(source.fingerprint, device, dtype)
    return shared_backbones.borrow(user, key, lambda: _load(source).to(device, dtype))


def _load(source: TextSource) -> TextBackbone:
    if source.folder is None:
        return TextBackbone(build_standin(), HashingTokenizer())
    backbone = TextBackbone(_load_model(source.folder), _load_tokenizer(source.folder))
    now = find_text_source(source.folder).fingerprint
    require_unchanged(source.folder, source.fingerprint, now)
    return backbone


def _is_m3d_clip(folder: Path) -> bool:
    return read_json(folder / "config.json").get("model_type") == m3d_clip.MODEL_TYPE


def _load_model(folder: Path) -> nn.Module:
    if _is_m3d_clip(folder):
        return m3d_clip.load_language_tower(folder)
    model: Any = load_base_model(folder, "a text model")
    # Its output would be thrown away; some call it whether it is there or not.
    if hasattr(model, "pooler"):
        model.pooler = nn.Identity()
    # Past keys and values are for writing text.
    model.config.use_cache = False
    return model


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer, BertTokenizer

    kind: Any = BertTokenizer if _is_m3d_clip(folder) else AutoTokenizer
    try:
        with quiet_transformers():
            tokenizer = kind.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **_casing(folder)
            )
    except Exception as error:  # whatever a broken file makes transformers raise
        raise WeightsError(f"{folder}: the tokenizer can't be loaded: {error}") from error
    tokenizer.truncation_side = "right"
    return tokenizer


def _casing(folder: Path) -> dict[str, Any]:
    """Keep capitals where the vocabulary has them and nothing else is said.

    A bare vocab.txt, as BioBERT and Bio_ClinicalBERT were published with, would be taken for an
    uncased one; they were trained on texts with capitals.
    """
    vocabulary = folder / "vocab.txt"
    settled = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    if settled or not vocabulary.is_file():
        return {}
    words = vocabulary.read_text(encoding="utf-8").splitlines()
    return {"do_lower_case": False} if any(word[:1].isupper() for word in words) else {}
