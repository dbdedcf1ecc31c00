"""Texts -> tokens -> what a model with a bounded window reads of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from medfusion_sdk.backbones.standin_text import HashingTokenizer
from medfusion_sdk.exceptions import ParameterError

__all__ = ["TextTokens", "TokenIds", "read_windows", "window_lengths"]

#: Whole numbers, one per token.
TokenIds = np.ndarray | Sequence[int]

# A tokenizer keeps the length of the call under way as a state of its own, and its copy is shared:
# threads with different lengths would cut each other's texts.
_tokenizing = threading.Lock()

_TEXTS_AT_ONCE = 64
# Texts whose tokens are known: between them stand the special tokens that a tokenizer adds.
_SAMPLES = ("a", "1", ".", "the")


def _renew_lock() -> None:
    global _tokenizing
    _tokenizing = threading.Lock()


if hasattr(os, "register_at_fork"):  # another thread may have held it
    os.register_at_fork(after_in_child=_renew_lock)


class _Frame(NamedTuple):
    """How many special tokens a tokenizer puts before and behind a text."""

    before: int
    behind: int


class TextTokens:
    """A tokenizer that cuts nothing.

    Parameters
    ----------
    tokenizer : object
        A Hugging Face tokenizer, or the stand-in's.
    pad : int
        Token of padding; also of an empty text, where the tokenizer adds none to it.

    Attributes
    ----------
    tokenizer, pad : object, int
        The same.
    """

    def __init__(self, tokenizer: Any, pad: int) -> None:
        self.tokenizer = tokenizer
        self.pad = pad
        self._frame: _Frame | None = None

    def windows(
        self, texts: Sequence[str], max_length: int, long: str = "cut"
    ) -> tuple[list[list[np.ndarray]], list[int]]:
        """Turn texts into the windows of token ids that are read of them.

        Parameters
        ----------
        texts : sequence of str
            Any texts.
        max_length : int
            Most tokens of a window, special tokens included.
        long : {"cut", "chunks"}, default="cut"
            Whether the head of a longer text is read alone, or all of it; see
            :func:`read_windows`.

        Returns
        -------
        windows : list of list of ndarray of int32
            Of each text; at least one token, also of an empty text.
        lengths : list of int
            Tokens of each whole text, special tokens included.
        """
        windows, lengths = [], []
        # Whole texts are held a few at a time: of long ones little may be read.
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            for ids in self._encode(texts[start : start + _TEXTS_AT_ONCE]):
                windows.append(read_windows(ids, self.frame(), max_length, long))
                lengths.append(len(ids))
        return windows, lengths

    def words(self, text: str, max_length: int, long: str = "cut") -> list[str]:
        """Return the tokens that are read of a text, as they read.

        Parameters
        ----------
        text : str
            Any text.
        max_length : int
            As in :meth:`windows`.
        long : {"cut", "chunks"}, default="cut"
            As in :meth:`windows`.

        Returns
        -------
        list of str
            One per token id, window after window.
        """
        if isinstance(self.tokenizer, HashingTokenizer):
            whole = np.array(self.tokenizer.tokens(text), dtype=object)
            return np.concatenate(read_windows(whole, self.frame(), max_length, long)).tolist()
        windows, _ = self.windows([text], max_length, long)
        return [self.tokenizer.decode([token]) for ids in windows[0] for token in ids.tolist()]

    def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of whole texts, special tokens included; at least one each."""
        if isinstance(self.tokenizer, HashingTokenizer):
            found = [self.tokenizer.encode(text) for text in texts]
        else:
            found = self._call(texts, add_special_tokens=True)
        return [np.array(ids or [self._blank_token()], dtype=np.int32) for ids in found]

    def frame(self) -> _Frame:
        """Count the special tokens around a text.

        Returns
        -------
        _Frame
            Before and behind it.
        """
        if isinstance(self.tokenizer, HashingTokenizer):
            return _Frame(1, 1)
        if self._frame is None:
            self._frame = self._find_frame()
        return self._frame

    def _find_frame(self) -> _Frame:
        for sample in _SAMPLES:
            bare, whole = (
                self._call([sample], add_special_tokens=added)[0] for added in (False, True)
            )
            for before in range(len(whole) - len(bare) + 1 if bare else 0):
                if whole[before : before + len(bare)] == bare:
                    return _Frame(before, len(whole) - before - len(bare))
        return _Frame(0, 0)

    def _call(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[int]]:
        with _tokenizing:
            return self.tokenizer(
                list(texts),
                add_special_tokens=add_special_tokens,
                truncation=False,
                padding=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,  # it would warn of every text beyond the model's window
            )["input_ids"]

    def _blank_token(self) -> int:
        # A decoder's tokenizer adds no special tokens, so an empty text would be no token at all.
        for name in ("bos_token_id", "eos_token_id"):
            if isinstance(token := getattr(self.tokenizer, name, None), int):
                return token
        return self.pad


def read_windows(
    tokens: np.ndarray, frame: tuple[int, int], max_length: int, long: str
) -> list[np.ndarray]:
    """Divide a text into what a model reads at a time.

    Parameters
    ----------
    tokens : ndarray of shape (length,)
        All of a text, special tokens included.
    frame : tuple of int
        How many special tokens stand before and behind the text; each window has them.
    max_length : int
        Most tokens of a window, special tokens included.
    long : {"cut", "chunks"}
        Whether the head of a longer text is read alone, or the whole text: in as few windows as
        hold it, of equal length but for one token, which don't overlap.

    Returns
    -------
    list of ndarray
        Windows in the order of the text; one for a text that fits.

    Raises
    ------
    ParameterError
        If special tokens leave no room and the whole text is to be read.

    Examples
    --------
    >>> import numpy as np
    >>> text = np.array([101, 1, 2, 3, 4, 5, 102])
    >>> [window.tolist() for window in read_windows(text, (1, 1), 5, "chunks")]
    [[101, 1, 2, 3, 102], [101, 4, 5, 102]]
    """
    if len(tokens) <= max_length:
        return [tokens]
    before, behind = frame
    end = len(tokens) - behind
    room = max_length - before - behind
    if room < 1:
        if long == "chunks":
            raise ParameterError(
                f"max_length={max_length}: the model's tokenizer adds {before + behind} special "
                "tokens to each window, which leaves no room for text."
            )
        return [tokens[:max_length]]
    head, content, tail = tokens[:before], tokens[before:end], tokens[end:]
    n_windows = 1 if long == "cut" else -(-len(content) // room)
    parts = [content[:room]] if long == "cut" else np.array_split(content, n_windows)
    return [np.concatenate([head, part, tail]) for part in parts]


def window_lengths(n_tokens: int, n_windows: int) -> np.ndarray:
    """Tell windows apart that lie end to end.

    Parameters
    ----------
    n_tokens : int
        Tokens of all windows of a text, from :func:`read_windows`.
    n_windows : int
        How many windows.

    Returns
    -------
    ndarray of shape (n_windows,), int64
        Tokens of each.

    Examples
    --------
    >>> window_lengths(9, 2)
    array([5, 4])
    """
    longer = np.arange(n_windows) < n_tokens % n_windows
    return n_tokens // n_windows + longer.astype(np.int64)
