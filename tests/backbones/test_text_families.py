"""Windows and widths of kinds of text model, beside transformers' own forward pass."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from medfusion_sdk import TextEncoder
from medfusion_sdk.backbones.text_source import UNBOUNDED, find_text_source
from medfusion_sdk.exceptions import WeightsError
from tests.text_checkpoints import WORDS, edit_json, write_family

# Kind -> tokens that a checkpoint with 66 positions reads, and default pooling.
WINDOWS = {
    "albert": (66, "mean"),
    "bert": (66, "mean"),
    "convbert": (66, "mean"),  # mixes padding into texts
    "deberta-v2": (66, "mean"),
    "electra": (66, "mean"),
    "fnet": (66, "mean"),  # knows no mask at all
    "gpt_neo": (66, "last"),
    "gpt_neox": (66, "last"),
    "longformer": (64, "mean"),
    "mobilebert": (66, "mean"),  # a token's embedding has its neighbours'
    "mpnet": (64, "mean"),
    "opt": (66, "last"),  # ends narrower than it is
    "qwen3": (66, "last"),
    "roberta": (64, "mean"),
    "xlm": (66, "mean"),
    "xlm-roberta": (64, "mean"),
    "xlnet": (UNBOUNDED, "mean"),
}


def own_vectors(folder, texts, max_length):
    """Each text's mean state, one text at a time, without padding."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval().float()
    vectors = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            states = model(input_ids=ids["input_ids"]).last_hidden_state[0]
        vectors.append(states.mean(dim=0).numpy())
    return np.array(vectors)


@pytest.mark.parametrize("kind", list(WINDOWS))
def test_texts_of_all_lengths_equal_transformers_up_to_the_window_and_beyond(tmp_path, kind):
    folder, (window, pooling) = write_family(tmp_path, kind), WINDOWS[kind]
    source = find_text_source(folder)
    assert (source.window, source.pooling) == (window, pooling)
    longest = min(window, 100)
    generator = np.random.default_rng(0)
    texts = [
        " ".join(generator.choice(WORDS, size=n))
        for n in (1, 7, longest - 3, longest - 2, longest + 40)
    ]
    encoder = TextEncoder(folder, pooling="mean", max_length=longest, dtype="float32")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vectors = encoder.fit_transform(texts)
    assert ["1 of 5 texts" in str(warning.message) for warning in caught] == [True]
    expected = own_vectors(folder, texts, longest)
    np.testing.assert_allclose(vectors, expected, atol=2e-6 * np.abs(expected).max() + 2e-6)
    whole = encoder.set_params(long="chunks").fit_transform(texts)
    np.testing.assert_allclose(whole[:4], vectors[:4], atol=2e-6 * np.abs(expected).max() + 2e-6)
    assert np.abs(whole[4] - vectors[4]).max() > 1e-4


def test_sparse_attention_does_not_depend_on_the_texts_before(tmp_path):
    folder = write_family(
        tmp_path, "big_bird", block_size=4, num_random_blocks=1, max_position_embeddings=128
    )
    long, short = " ".join(WORDS * 8), "sinus rhythm"
    encoder = TextEncoder(folder, pooling="mean", dtype="float32")
    together = encoder.fit_transform([short, long])
    np.testing.assert_allclose(together, own_vectors(folder, [long, short], 128)[::-1], atol=2e-6)


@pytest.mark.parametrize("pad", [0, 1, None])
def test_padding_index_decides_how_many_positions_are_lost(tmp_path, pad):
    folder = write_family(tmp_path, "roberta", **({} if pad is None else {"pad_token_id": pad}))
    edit_json(folder / "config.json", pad_token_id=pad)
    window = 66 - (1 if pad is None else pad) - 1
    assert find_text_source(folder).window == window
    with pytest.warns(UserWarning, match=f"{window} tokens"):
        vector = TextEncoder(folder, dtype="float32").transform(["acute " * 100])
    np.testing.assert_allclose(vector, own_vectors(folder, ["acute " * 100], window), atol=2e-6)


@pytest.mark.parametrize("stated", [10**30, 1e30, -1, None])
def test_tokenizer_that_states_no_length_bounds_nothing(tmp_path, stated):
    folder = write_family(tmp_path, "bert")
    edit_json(folder / "tokenizer_config.json", model_max_length=stated)
    assert find_text_source(folder).window == 66


def test_sizes_that_a_configuration_leaves_out_are_those_of_its_kind(tmp_path):
    folder = write_family(tmp_path, "bert")
    edit_json(folder / "config.json", max_position_embeddings=None, hidden_size=None)
    source = find_text_source(folder)
    assert (source.window, source.width) == (512, 768)


def test_model_without_positions_reads_512_tokens_unless_more_are_asked_for(tmp_path):
    folder = write_family(tmp_path, "xlnet")
    assert find_text_source(folder).max_length == 512
    text = "acute " * 600
    with pytest.warns(UserWarning, match="512 tokens"):
        cut = TextEncoder(folder, dtype="float32").transform([text])
    whole = TextEncoder(folder, dtype="float32", max_length=700).transform([text])
    assert np.abs(cut - whole).max() > 0


def test_configuration_that_promises_too_many_positions_is_a_typed_error(tmp_path):
    folder = write_family(tmp_path, "bert")
    edit_json(folder / "tokenizer_config.json", model_max_length=None)
    source = find_text_source(folder)
    encoder = TextEncoder(folder, dtype="float32")
    encoder._source = lambda: type(source)(**{**vars(source), "window": 99, "max_length": 99})
    with pytest.raises(WeightsError, match=r"'bert' can't read texts of 99 tokens"):
        encoder.transform(["acute " * 97])


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoder_decoder_is_refused_by_its_kind(tmp_path, kind):
    folder = write_family(tmp_path, kind)
    with pytest.raises(WeightsError, match=f"encoder-decoder \\({kind}\\)"):
        TextEncoder(folder).transform(["sinus"])


def test_kind_that_makes_no_token_states_is_refused_by_its_kind(tmp_path):
    folder = write_family(tmp_path, "dpr")
    with pytest.raises(WeightsError, match="'dpr' doesn't make one state of each token"):
        TextEncoder(folder).transform(["sinus"])
