"""TextEncoder: the published vectors, independence of the batch, precision, bad cells."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medfusion_sdk.backbones.pool import shared_backbones
from medfusion_sdk.backbones.text import TextBackbone
from medfusion_sdk.embedding_cache import EmbeddingCache
from medfusion_sdk.encoders import _precision, _text_embedder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.exceptions import (
    CellError,
    EncoderWarning,
    ParameterError,
    WeightsError,
    WeightsNotFoundError,
)
from tests.text_checkpoints import edit_json, reference_states, write_checkpoint

ORACLE = Path(__file__).parents[1] / "data" / "minilm_oracle.npz"
STANDIN = "standin-text"


@pytest.fixture
def encoded(monkeypatch):
    """Number of tokens of each text that reached a network, in order."""
    lengths = []
    forward = TextBackbone.forward

    def counted(self, token_ids):
        lengths.extend(len(ids) for ids in token_ids)
        return forward(self, token_ids)

    monkeypatch.setattr(TextBackbone, "forward", counted)
    return lengths


@pytest.fixture
def notes():
    words = ["sinus", "rhythm", "st", "elevation", "atrial", "fibrillation", "normal", "ecg"]
    generator = np.random.default_rng(0)
    return [
        " ".join(generator.choice(words, size=int(generator.integers(1, 60)))) for _ in range(40)
    ]


# -- the published vectors ------------------------------------------------------------------------


def test_minilm_equals_sentence_transformers():
    with np.load(ORACLE) as oracle:
        with pytest.warns(EncoderWarning, match="1 of 10 texts"):
            vectors = TextEncoder(dtype="float32").transform(oracle["texts"].tolist())
        np.testing.assert_allclose(vectors, oracle["embeddings"], atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_and_normalisation_of_a_local_model(tmp_path, kind, pooling):
    folder = write_checkpoint(tmp_path, kind)
    texts = ["sinus rhythm", "no acute st elevation in lead v2"]
    vectors = TextEncoder(folder, pooling=pooling, normalize=True, dtype="float32").transform(texts)
    for text, vector in zip(texts, vectors, strict=True):
        states = reference_states(folder, text)
        pooled = {"mean": states.mean(axis=0), "cls": states[0], "last": states[-1]}[pooling]
        np.testing.assert_allclose(vector, pooled / np.linalg.norm(pooled), atol=2e-6)


def test_decoder_takes_its_last_token_by_default(tmp_path):
    folder = write_checkpoint(tmp_path, "llama")
    vector = TextEncoder(folder, dtype="float32").transform(["sinus rhythm"])[0]
    np.testing.assert_allclose(vector, reference_states(folder, "sinus rhythm")[-1], atol=2e-6)


def test_long_text_counts_by_its_head(encoded):
    head = "sinus rhythm " * 10
    encoder = TextEncoder(STANDIN, max_length=12, dtype="float32")
    with pytest.warns(EncoderWarning, match="2 of 2 texts"):
        vectors = encoder.transform([head, head + "and much more " * 99])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert encoded == [12, 12]


def test_text_beyond_the_window_is_cut_to_it(tmp_path, encoded):
    folder = write_checkpoint(tmp_path, "roberta")
    with pytest.warns(EncoderWarning, match="64 tokens"):
        TextEncoder(folder, dtype="float32").transform(["x" * 500])
    assert encoded == [64]


@pytest.mark.parametrize("text", ["", "   \n", "😀❤️", "心電図", "\x00", "a" * 10_000, "<|x|>"])
def test_odd_texts_have_finite_embeddings(text):
    vector = TextEncoder(STANDIN).transform([text])
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


# -- independence of everything around a text -----------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"batch_size": 1}, {"batch_size": 7}])
def test_embedding_depends_on_its_text_alone(notes, options):
    encoder = TextEncoder(STANDIN, dtype="float32", **options)
    alone = np.concatenate([encoder.transform([note]) for note in notes])
    order = np.random.default_rng(1).permutation(len(notes))
    shuffled = encoder.transform([notes[i] for i in order])
    np.testing.assert_allclose(encoder.transform(notes), alone, atol=1e-6)
    np.testing.assert_allclose(shuffled, alone[order], atol=1e-6)


def test_minilm_embedding_does_not_depend_on_its_batch():
    with np.load(ORACLE) as oracle:
        texts = oracle["texts"].tolist()
    encoder = TextEncoder(dtype="float32", long="chunks")
    together = encoder.set_params(batch_size=len(texts)).transform(texts)
    alone = encoder.set_params(batch_size=1).transform(texts)
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_out_of_memory_gives_the_same_embeddings_and_one_warning(notes, monkeypatch):
    encoder = TextEncoder(STANDIN, batch_size=16, dtype="float32")
    expected = encoder.transform(notes)
    forward = TextBackbone.forward

    def small(self, token_ids):
        if len(token_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, token_ids)

    monkeypatch.setattr(TextBackbone, "forward", small)
    with pytest.warns(EncoderWarning, match="memory ran out") as caught:
        vectors = encoder.transform(notes)
    assert len(caught) == 1
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_equal_texts_are_encoded_once(encoded):
    vectors = TextEncoder(STANDIN).transform(["a b", "c", "a b", "a b"])
    assert sorted(encoded) == [3, 4]
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_automatic_batches_hold_texts_of_like_length(notes, monkeypatch):
    shapes = []
    forward = TextBackbone.forward

    def noted(self, token_ids):
        shapes.append([len(ids) for ids in token_ids])
        return forward(self, token_ids)

    monkeypatch.setattr(TextBackbone, "forward", noted)
    monkeypatch.setattr(_text_embedder, "_CPU_TOKENS", 128)
    TextEncoder(STANDIN).transform(notes)
    assert len(shapes) > 3
    assert all(len(lengths) * max(lengths) <= 128 for lengths in shapes)
    padding = sum(len(lengths) * max(lengths) - sum(lengths) for lengths in shapes)
    assert padding < 0.1 * sum(map(sum, shapes))


def test_threads_and_random_state_are_left_as_they_were(notes):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    TextEncoder(STANDIN).transform(notes)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


# -- sharing --------------------------------------------------------------------------------------


def test_encoders_of_one_model_share_one_copy_until_the_last_goes(tmp_path):
    folder = write_checkpoint(tmp_path, "bert")
    first, second = TextEncoder(folder), TextEncoder(folder, pooling="cls")
    before = len(shared_backbones)
    first.transform(["sinus"])
    second.transform(["sinus"])
    assert len(shared_backbones) == before + 1
    copy = weakref.ref(shared_backbones._lent[first])
    assert copy() is shared_backbones._lent[second]
    del first
    gc.collect()
    assert copy() is not None
    del second
    gc.collect()
    assert copy() is None


def test_cached_texts_load_no_model(tmp_path, monkeypatch):
    folder = write_checkpoint(tmp_path / "model", "bert")
    cache = EmbeddingCache(tmp_path / "cache")
    expected = TextEncoder(folder, cache=cache).transform(["sinus rhythm"])

    def refuse(*args):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("medfusion_sdk.backbones.text._load", refuse)
    again = TextEncoder(folder, cache=cache).transform(["sinus rhythm"])
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize(
    "changed",
    [
        {"pooling": "cls"},
        {"normalize": False},
        {"max_length": 5},
        {"long": "chunks"},
        {"dtype": "bfloat16"},
    ],
)
def test_fingerprint_follows_what_decides_a_vector(changed):
    assert TextEncoder(STANDIN, **changed).fingerprint() != TextEncoder(STANDIN).fingerprint()


@pytest.mark.parametrize(
    "same",
    [{"pooling": "mean"}, {"batch_size": 3}, {"device": "cpu"}, {"missing": "zero"}],
)
def test_fingerprint_ignores_what_does_not(same):
    assert TextEncoder(STANDIN, **same).fingerprint() == TextEncoder(STANDIN).fingerprint()


# -- precision ------------------------------------------------------------------------------------


@pytest.fixture
def fast_bfloat16(monkeypatch):
    """A machine with bfloat16 units, and no verdicts of earlier checks."""
    monkeypatch.setattr("medfusion_sdk.backbones.precision.has_bfloat16_units", lambda device: True)
    monkeypatch.setattr(_precision, "_verdicts", {})


def dtypes_used(monkeypatch):
    used = []
    forward = TextBackbone.forward

    def noted(self, token_ids):
        used.append(next(self.parameters()).dtype)
        return forward(self, token_ids)

    monkeypatch.setattr(TextBackbone, "forward", noted)
    return used


def test_automatic_precision_checks_one_batch_and_stays_low(fast_bfloat16, monkeypatch, notes):
    used = dtypes_used(monkeypatch)
    vectors = TextEncoder(STANDIN).transform(notes)
    exact = TextEncoder(STANDIN, dtype="float32").transform(notes)
    assert vectors.dtype == np.float32
    assert (vectors * exact).sum(axis=1).min() >= 0.999
    assert used[:2] == [torch.float32, torch.bfloat16]
    again = len(used)
    TextEncoder(STANDIN).transform(notes)
    assert set(used[again:]) == {torch.bfloat16}


def test_automatic_precision_falls_back_where_it_disagrees(fast_bfloat16, monkeypatch, notes):
    monkeypatch.setattr(_precision, "_LEAST_COSINE", 1.1)
    used = dtypes_used(monkeypatch)
    with pytest.warns(EncoderWarning, match="going on in float32"):
        vectors = TextEncoder(STANDIN).transform(notes)
    exact = TextEncoder(STANDIN, dtype="float32").transform(notes)
    np.testing.assert_array_equal(vectors, exact)
    assert set(used[2:]) == {torch.float32}
    TextEncoder(STANDIN).transform(notes)  # the verdict is known: no second warning


def test_declared_precision_is_taken_without_a_check(monkeypatch, notes):
    used = dtypes_used(monkeypatch)
    TextEncoder(STANDIN, dtype="bfloat16").transform(notes)
    assert set(used) == {torch.bfloat16}


# -- cells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [3, 2.5, b"bytes", ["a"], Path("note.txt")])
def test_cell_that_is_not_text_is_named_by_row_and_column(cell):
    X = pd.DataFrame({"note": ["sinus", cell]}, index=["p1", "p2"])
    with pytest.raises(CellError, match=r"row 'p2', column 'note': expected text"):
        TextEncoder(STANDIN).fit_transform(X)


def test_broken_character_is_named_by_position():
    with pytest.raises(CellError, match="position 2"):
        TextEncoder(STANDIN).transform(["ab\ud800c"])


def test_bad_cell_counts_as_missing_on_request_and_is_listed():
    X = pd.Series(["sinus", 3, None], index=["p1", "p2", "p3"], name="note")
    encoder = TextEncoder(STANDIN, on_error="missing")
    with pytest.warns(EncoderWarning, match="1 of 3 cells"):
        vectors = encoder.transform(X)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True]
    assert encoder.errors_.index.tolist() == ["p2"]


def test_embedding_that_is_not_finite_is_an_error_and_no_missing_cell(monkeypatch):
    forward = TextBackbone.forward

    def overflow(self, token_ids):
        states, mask = forward(self, token_ids)
        return states * float("inf"), mask

    monkeypatch.setattr(TextBackbone, "forward", overflow)
    with pytest.raises(CellError, match=r"row 0.*isn't finite"):
        TextEncoder(STANDIN).transform(["sinus"])


@pytest.mark.parametrize("dtype", ["object", "string", "category"])
def test_column_types_of_pandas_are_read_alike(dtype):
    column = pd.Series(["sinus", None, "sinus"], dtype=dtype)
    vectors = TextEncoder(STANDIN).transform(column)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize("missing", ["nan", "zero", "mean"])
def test_missing_text_becomes_what_was_asked_for(missing):
    encoder = TextEncoder(STANDIN, missing=missing).fit(["sinus", "rhythm", None])
    known = encoder.transform(["sinus", "rhythm"])
    expected = {"nan": np.full(64, np.nan), "zero": np.zeros(64), "mean": known.mean(axis=0)}
    row = encoder.transform([None])[0]
    np.testing.assert_allclose(row, expected[missing], atol=1e-7)


# -- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"pooling": "max"},
        {"normalize": "yes"},
        {"dtype": "float64"},
        {"batch_size": 0},
        {"batch_size": "large"},
        {"max_length": 0},
        {"long": "split"},
        {"max_length": 257},
        {"device": "abacus"},
    ],
    ids=str,
)
def test_wrong_parameter_is_named(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        TextEncoder(STANDIN, **wrong).transform(["sinus"])


def test_unknown_backbone_says_what_was_looked_for():
    with pytest.raises(WeightsNotFoundError, match="no/such-model"):
        TextEncoder("no/such-model").fit_transform(["sinus"])


def test_published_steps_that_we_lack_ask_for_a_choice(tmp_path):
    folder = write_checkpoint(tmp_path, "bert")
    (folder / "modules.json").write_text('[{"type": "models.Transformer"}, {"type": "a.Dense"}]')
    with pytest.raises(WeightsError, match="pooling='mean'"):
        TextEncoder(folder).transform(["sinus"])
    assert TextEncoder(folder, pooling="mean").transform(["sinus"]).shape == (1, 32)


def test_config_that_contradicts_the_weights_is_an_error(tmp_path):
    folder = write_checkpoint(tmp_path, "bert")
    edit_json(folder / "config.json", intermediate_size=40)
    with pytest.raises(WeightsError, match=str(folder)):
        TextEncoder(folder).transform(["sinus"])
