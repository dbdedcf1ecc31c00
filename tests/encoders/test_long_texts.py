"""Texts beyond what a model reads at a time: told of, or read window by window."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from medfusion_sdk import LabTextEncoder, TextEncoder
from medfusion_sdk.backbones.text import TextBackbone
from medfusion_sdk.embedding_cache import EmbeddingCache
from medfusion_sdk.encoders import _text_windows
from medfusion_sdk.encoders._token_states import TokenStateEncoder
from medfusion_sdk.estimators._small_cells import read_tokens
from medfusion_sdk.exceptions import EncoderWarning, ParameterError
from medfusion_sdk.readers.cells import read_column
from tests.text_checkpoints import WORDS, write_checkpoint

STANDIN = "standin-text"
START = "patient admitted with cough and mild fever " * 60


def long_text(n_words, seed=0):
    return " ".join(np.random.default_rng(seed).choice(WORDS, size=n_words))


def warnings_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught]


FRAMES = {
    "bert": (["[CLS]"], ["[SEP]"]),
    "roberta": (["<s>"], ["</s>"]),
    "gpt2": ([], []),
    "llama": (["<s>"], []),
}


def windows_of(folder, kind, text, max_length):
    """Token states of each window, as transformers alone computes them."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval().float()
    content = tokenizer(text, add_special_tokens=False)["input_ids"]
    before, behind = map(tokenizer.convert_tokens_to_ids, FRAMES[kind])
    room = max_length - len(before) - len(behind)
    states = []
    for part in np.array_split(content, -(-len(content) // room)):
        whole = torch.tensor([[*before, *part.tolist(), *behind]])
        with torch.inference_mode():
            found = model(input_ids=whole).last_hidden_state[0]
        states.append(found.numpy())
    return states


# -- a text that is cut ---------------------------------------------------------------------------


def test_notes_that_are_cut_are_told_by_share_and_row():
    notes = pd.Series(
        [START + "normal", "short", None, START + "infarction"], list("abcd"), name="note"
    )
    told = warnings_of(lambda: TextEncoder(STANDIN).fit_transform(notes))
    assert len(told) == 1
    assert "2 of 3 texts of column 'note' (66.7%)" in told[0]
    assert "256 tokens" in told[0]
    assert "longest 423" in told[0]  # 60 times 7 words, one more, and two special tokens
    assert "rows 'a', 'd'." in told[0]


@pytest.mark.parametrize("n_words", [254, 255])
def test_one_token_too_many_is_told_and_a_full_window_is_not(n_words):
    told = warnings_of(lambda: TextEncoder(STANDIN).transform([long_text(n_words)]))
    assert len(told) == n_words - 254


def test_text_that_is_cut_is_told_again_when_its_vector_comes_from_the_cache(tmp_path, monkeypatch):
    cache = EmbeddingCache(tmp_path)
    encoder = TextEncoder(STANDIN, cache=cache, dtype="float32")
    first = warnings_of(lambda: encoder.transform([START, "short"]))
    monkeypatch.setattr("medfusion_sdk.backbones.text._load", lambda source: 1 / 0)
    assert warnings_of(lambda: encoder.transform([START, "short"])) == first != []
    assert cache.stats().items == 2


def test_rows_of_equal_texts_all_count():
    told = warnings_of(lambda: TextEncoder(STANDIN).transform([START, "short", START]))
    assert "2 of 3" in told[0]
    assert "rows 0, 2." in told[0]


def test_lab_sentence_that_is_cut_is_told_by_row():
    X = pd.DataFrame({"k": [4.0, 5.0], "na": [140.0, None]}, index=["p1", "p2"])
    encoder = LabTextEncoder({"k": (), "na": ()}, backbone=STANDIN, max_length=6)
    with pytest.warns(EncoderWarning, match=r"1 of 2 texts .*'p1'"):
        vectors = encoder.fit_transform(X)
    assert not np.isnan(vectors).any()
    whole = encoder.set_params(long="chunks").fit_transform(X)
    np.testing.assert_allclose(whole[1], vectors[1], atol=1e-6)
    assert np.abs(whole[0] - vectors[0]).max() > 0.01


# -- a text that is read in windows ---------------------------------------------------------------


@pytest.mark.parametrize("kind", list(FRAMES))
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_windows_are_pooled_as_computed_one_by_one(tmp_path, kind, pooling):
    folder = write_checkpoint(tmp_path, kind)
    text = long_text(61)
    encoder = TextEncoder(
        folder, pooling=pooling, normalize=True, max_length=20, long="chunks", dtype="float32"
    )
    vector = encoder.fit_transform(["sinus", text, "rhythm"])[1]
    windows = windows_of(folder, kind, text, 20)
    assert len(windows) > 2
    assert max(map(len, windows)) <= 20
    if pooling == "mean":
        expected = np.concatenate(windows).mean(axis=0)
    else:
        expected = np.mean([states[0 if pooling == "cls" else -1] for states in windows], axis=0)
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=3e-6)


def test_last_sentence_of_a_long_note_changes_its_vector():
    notes = [START + "Impression: normal.", START + "Impression: acute myocardial infarction."]
    one, other = TextEncoder(STANDIN, long="chunks").fit_transform(notes)
    assert np.abs(one - other).max() > 1e-3


def test_text_within_the_window_is_what_it_is_without_chunks():
    texts = ["sinus rhythm", "", long_text(254)]
    cut, chunks = (
        TextEncoder(STANDIN, long=long, dtype="float32").transform(texts)
        for long in ("cut", "chunks")
    )
    np.testing.assert_array_equal(cut, chunks)


def test_windows_do_not_depend_on_batches_cache_or_division_of_the_column(tmp_path, monkeypatch):
    texts = [long_text(n, seed=n) for n in (700, 3, 300, 1200, 256)]
    encoder = TextEncoder(STANDIN, long="chunks", dtype="float32")
    expected = encoder.transform(texts)
    for options in ({"batch_size": 1}, {"batch_size": 3}, {"cache": EmbeddingCache(tmp_path)}):
        vectors = TextEncoder(STANDIN, long="chunks", dtype="float32", **options).transform(texts)
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
    again = TextEncoder(STANDIN, long="chunks", dtype="float32", cache=tmp_path).transform(texts)
    np.testing.assert_array_equal(again, vectors)
    monkeypatch.setattr(_text_windows, "_AT_ONCE", 1000)
    np.testing.assert_allclose(encoder.transform(texts), expected, atol=1e-6)


def test_window_without_room_for_text_is_refused():
    encoder = TextEncoder(STANDIN, long="chunks", max_length=2)
    with pytest.raises(ParameterError, match="2 special tokens"):
        encoder.transform(["sinus rhythm"])


def test_memory_for_a_very_long_text_stays_near_its_size(monkeypatch):
    monkeypatch.setattr(
        TextBackbone,
        "forward",
        lambda self, ids: (torch.zeros(len(ids), 1, 64), torch.ones(len(ids), 1)),
    )
    text = "acute st elevation " * 100_000  # 1.9 MB, 300,000 tokens
    encoder = TextEncoder(STANDIN, long="chunks", dtype="float32")
    encoder.transform(["warm"])
    tracemalloc.start()
    try:
        encoder.transform([text])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(text)


# -- token states ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True])
def test_token_states_come_window_by_window(tmp_path, cached):
    cache = EmbeddingCache(tmp_path) if cached else None
    encoder = TokenStateEncoder(STANDIN, n_layers=2, max_length=20, long="chunks", cache=cache)
    text = long_text(47)
    column = read_column(pd.Series([text, None, "sinus rhythm"]))
    for _ in range(2):
        windows, missing, short = encoder.token_states(column)
        assert missing is None
        assert [len(states) for states in windows] == [18, 18, 17]
        assert [len(states) for states in short] == [4]
    words = text.split()
    parts = [" ".join(words[start : start + 16]) for start in (0, 16, 32)]
    alone = encoder.token_states(read_column(pd.Series(parts)))
    for states, (expected,) in zip(windows, alone, strict=True):
        np.testing.assert_allclose(states, expected, atol=1e-5)


def test_cut_token_states_are_told_unless_another_tells():
    encoder = TokenStateEncoder(STANDIN, max_length=20)
    column = read_column(pd.Series([long_text(47), "sinus"]))
    assert len(warnings_of(lambda: encoder.token_states(column))) == 1
    assert warnings_of(lambda: encoder.token_states(column, tell=False)) == []


def test_words_beyond_those_that_are_read_are_told_by_row():
    column = pd.Series(["st elevation " * 200, None, "sinus rhythm"], list("abc"), name="note")
    with pytest.warns(EncoderWarning, match=r"1 of 2 texts of column 'note' .*rows 'a'\."):
        tokens = read_tokens(column)
    assert tokens.lengths.tolist() == [256, 0, 2]
