"""Bio_ClinicalBERT's published layout, through the encoders of texts and of laboratory values."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from medfusion_sdk.encoders.lab_text import LabTest, LabTextEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.exceptions import WeightsError
from tests.clinical_bert import VOCABULARY, WIDTH, reference_states, write_clinical_bert

LABS = {"K": LabTest("mmol/L", 3.5, 5.1, name="potassium")}
SENTENCE = "potassium 5.9 mmol/L (reference 3.5 to 5.1), high."
TOKENS = [
    "[CLS]", "potassium", "5", ".", "9", "mmol", "/", "L", "(", "reference", "3", ".", "5", "to",
    "5", ".", "1", ")", ",", "high", ".", "[SEP]",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "Bio_ClinicalBERT"


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_laboratory_values_are_embedded_as_a_plain_computation_does_it(folder, pooling):
    weights = write_clinical_bert(folder)
    encoder = LabTextEncoder(LABS, backbone=folder, pooling=pooling, dtype="float32")
    X = pd.DataFrame({"K": [5.9, None]})
    assert encoder.to_sentences(X)[0] == SENTENCE
    block = encoder.fit_transform(X)
    states = reference_states(weights, TOKENS)
    expected = states[0] if pooling == "cls" else states.mean(axis=0)
    assert block.shape == (2, WIDTH)
    np.testing.assert_allclose(block[0], expected, atol=1e-5)
    assert np.isnan(block[1]).all()


def test_capitals_are_kept_as_in_its_training(folder):
    weights = write_clinical_bert(folder)
    block = TextEncoder(folder, pooling="cls", dtype="float32").fit_transform(["K", "k", "L", "l"])
    for row, token in ((0, "K"), (1, "[UNK]"), (2, "L"), (3, "l")):
        expected = reference_states(weights, ["[CLS]", token, "[SEP]"])[0]
        np.testing.assert_allclose(block[row], expected, atol=1e-5)


def test_vocabulary_without_capitals_or_with_settings_is_read_as_these_say(folder):
    weights = write_clinical_bert(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    expected = reference_states(weights, ["[CLS]", "l", "[SEP]"])[0]
    lowered = TextEncoder(folder, pooling="cls", dtype="float32").fit_transform(["L"])[0]
    np.testing.assert_allclose(lowered, expected, atol=1e-5)
    (folder / "tokenizer_config.json").unlink()
    lower = [word if word.startswith("[") else f"_{word}_".lower() for word in VOCABULARY]
    lower[VOCABULARY.index("L")] = "l"
    (folder / "vocab.txt").write_text("\n".join(lower) + "\n")
    uncased = TextEncoder(folder, pooling="cls", dtype="float32").fit_transform(["L"])[0]
    expected = reference_states(weights, ["[CLS]", "L", "[SEP]"])[0]
    np.testing.assert_allclose(uncased, expected, atol=1e-5)


def test_heads_of_its_training_are_passed_over_and_a_missing_tensor_is_not(folder):
    weights = write_clinical_bert(folder)
    del weights["bert.encoder.layer.1.output.dense.weight"]
    tensors = {name: torch.from_numpy(values) for name, values in weights.items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"1 tensors.*layer\.1\.output\.dense\.weight"):
        TextEncoder(folder).fit_transform(["K"])
