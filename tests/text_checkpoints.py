"""Small random text models in the layouts in which real ones are published."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import torch

WORDS = ["sinus", "rhythm", "with", "st", "elevation", "in", "lead", "v2", "acute", "change", "no"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
KINDS = ("bert", "distilbert", "roberta", "gpt2", "llama")


def write_checkpoint(folder: Path, kind: str, *, seed: int = 0, **save_options) -> Path:
    """Write a model of `kind` with weights drawn from `seed`; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = _model(kind)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    model.save_pretrained(folder, **save_options)
    _TOKENIZERS[kind](folder)
    return folder


def drop_weights(folder: Path, *names: str) -> None:
    """Take tensors out of a checkpoint."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in names:
        del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})


def edit_json(path: Path, **changes) -> None:
    """Change entries of a JSON file; None takes one out."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    content = {key: value for key, value in (content | changes).items() if value is not None}
    path.write_text(json.dumps(content))


def reference_states(folder: Path, text: str, max_length: int = 64) -> np.ndarray:
    """Token states of one text as transformers computes them, without any batching of ours."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval().float()
    tokens = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.inference_mode():
        return model(input_ids=tokens["input_ids"]).last_hidden_state[0].numpy()


def _model(kind: str) -> torch.nn.Module:
    import transformers as hf

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 66,
    }
    with torch.random.fork_rng(devices=[]):
        if kind == "bert":
            return hf.BertModel(hf.BertConfig(vocab_size=64, **sizes))
        if kind == "roberta":
            config = hf.RobertaConfig(vocab_size=300, pad_token_id=1, type_vocab_size=1, **sizes)
            return hf.RobertaModel(config)
        if kind == "llama":
            return hf.LlamaModel(
                hf.LlamaConfig(vocab_size=64, num_key_value_heads=2, pad_token_id=None, **sizes)
            )
        if kind == "distilbert":
            return hf.DistilBertModel(
                hf.DistilBertConfig(
                    vocab_size=64, dim=32, n_layers=2, n_heads=4, hidden_dim=48,
                    max_position_embeddings=66,
                )
            )  # fmt: skip
        return hf.GPT2Model(
            hf.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=66)
        )


def _write_wordpieces(folder: Path) -> None:
    letters = [f"{hashes}{letter}" for letter in "abcdefghij" for hashes in ("", "##")]
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS, *letters]))
    edit_json(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=True)


def _write_bytes(folder: Path, special: tuple[str, ...], **settings) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    edit_json(folder / "tokenizer_config.json", **settings)


def _write_words(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {token: index for index, token in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    edit_json(
        folder / "tokenizer_config.json",
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


_TOKENIZERS = {
    "bert": _write_wordpieces,
    "distilbert": _write_wordpieces,
    "llama": _write_words,
    "gpt2": lambda folder: _write_bytes(
        folder, ("<|endoftext|>",), tokenizer_class="GPT2Tokenizer"
    ),
    "roberta": lambda folder: _write_bytes(
        folder, ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), tokenizer_class="RobertaTokenizer"
    ),
}


# Under whichever of these names a kind of model has it: 32 wide, two layers, 66 positions.
_SMALL = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "emb_dim", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layers", "n_layer", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "num_heads"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_inner", "d_ff", "hidden_dim"), 48),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 66),
    **dict.fromkeys(("head_dim", "d_kv"), 8),
    "vocab_size": 32,
    "num_key_value_heads": 2,
    "word_embed_proj_dim": 16,
    "attention_window": [8, 8],
    "attention_types": [[["global", "local"], 1]],
}
_OWN = {
    "mobilebert": {"num_attention_heads": 4, "true_hidden_size": 32, "intra_bottleneck_size": 32},
    "deberta-v2": {
        "relative_attention": True,
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 16,
    },
    # Padding is an id that no text has.
    "xlm": {"pad_token_id": 31, "pad_index": 31, "n_words": 32},
}


def write_family(folder: Path, kind: str, **own) -> Path:
    """Write a small random model of a kind that transformers knows, with a tokenizer of words."""
    import transformers as hf

    with warnings.catch_warnings():  # DeBERTa is compiled as it is imported
        warnings.simplefilter("ignore", DeprecationWarning)
        return _write_family(folder, kind, hf, own)


def _write_family(folder: Path, kind: str, hf, own) -> Path:
    usual = hf.AutoConfig.for_model(kind)
    sizes = {name: size for name, size in _SMALL.items() if hasattr(usual, name)}
    for name in {"xlm": ["vocab_size"], "xlnet": ["max_position_embeddings"]}.get(kind, []):
        del sizes[name]
    config = hf.AutoConfig.for_model(kind, **(sizes | _OWN.get(kind, {}) | own))
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if (getattr(config, name, None) or 0) >= 32:
            setattr(config, name, 0)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        model = hf.AutoModel.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    model.save_pretrained(folder)
    _write_word_frame(folder)
    return folder


def _write_word_frame(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    edit_json(
        folder / "tokenizer_config.json",
        tokenizer_class="PreTrainedTokenizerFast",
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
