"""What every encoder does with a column, on an encoder of four lines."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from medfusion_sdk import EmbeddingCache
from medfusion_sdk.encoders.base import BaseEncoder
from medfusion_sdk.exceptions import CellError, EncoderWarning, ParameterError


class Counter(BaseEncoder):
    """Encodes a word as its length and number of vowels; "bad" cells can't be read or encoded."""

    def __init__(self, scale=1.0, missing="nan", on_error="raise", cache=None):
        self.scale = scale
        self.missing = missing
        self.on_error = on_error
        self.cache = cache

    def _configuration(self):
        return {"scale": self.scale}

    def _weights_fingerprint(self):
        return "none"

    def _n_features(self):
        return 2

    def _item_digest(self, cell):
        if cell == "unreadable":
            raise CellError("can't be read")
        return hashlib.sha256(cell.encode()).digest()

    def _encode(self, cells, run):
        self.encoded_ = [*getattr(self, "encoded_", []), *cells]
        for start in range(0, len(cells), 2):
            batch = range(start, min(start + 2, len(cells)))
            good = [i for i in batch if cells[i] != "garbled"]
            for i in set(batch) - set(good):
                run.bad(i, CellError("is garbled"))
            vowels = [sum(c in "aeiou" for c in cells[i]) for i in good]
            yield (
                good,
                self.scale
                * np.array([[len(cells[i]), v] for i, v in zip(good, vowels, strict=True)])
                .reshape(-1, 2)
                .astype(np.float32),
            )


WORDS = pd.Series(["sinus", None, "normal", "sinus", "st"], index=list("abcde"), name="note")


def test_block_is_float32_with_missing_cells_as_nan():
    block = Counter().fit_transform(WORDS)
    expected = [[5, 2], [np.nan, np.nan], [6, 2], [5, 2], [2, 0]]
    np.testing.assert_array_equal(block, np.array(expected, dtype=np.float32))
    assert block.dtype == np.float32


def test_equal_cells_are_encoded_once():
    encoder = Counter()
    encoder.fit_transform(WORDS)
    assert sorted(encoder.encoded_) == ["normal", "sinus", "st"]


def test_missing_zero_and_mean_fill_the_block():
    assert (Counter(missing="zero").fit_transform(WORDS)[1] == 0).all()
    encoder = Counter(missing="mean").fit(WORDS)
    np.testing.assert_allclose(encoder.mean_embedding_, [4.5, 1.5])
    np.testing.assert_allclose(encoder.transform(pd.Series([None, "st"]))[0], [4.5, 1.5])


def test_mean_is_the_training_columns():
    encoder = Counter(missing="mean").fit(WORDS)
    encoder.transform(pd.Series(["a" * 50]))
    np.testing.assert_allclose(encoder.mean_embedding_, [4.5, 1.5])


@pytest.mark.parametrize("bad", ["unreadable", "garbled"])
def test_bad_cell_is_an_error_that_names_row_and_column(bad):
    with pytest.raises(CellError, match="row 'd', column 'note'") as caught:
        Counter().fit_transform(WORDS.replace("sinus", "x").where(WORDS.index != "d", bad))
    assert caught.value.row == "d"


@pytest.mark.parametrize("bad", ["unreadable", "garbled"])
def test_bad_cell_that_may_be_missing_is_listed_and_warned_of(bad):
    encoder = Counter(on_error="missing")
    cells = pd.Series([bad, "st", bad], index=list("xyz"), name="note")
    with pytest.warns(EncoderWarning, match="2 of 3 cells"):
        block = encoder.fit_transform(cells)
    assert np.isnan(block[:, 0]).tolist() == [True, False, True]
    assert list(encoder.errors_.index) == ["x", "z"]
    assert set(encoder.errors_["column"]) == {"note"}


def test_cached_vectors_are_the_encoded_ones_and_encode_nothing(tmp_path):
    cache = EmbeddingCache(tmp_path)
    first, second = Counter(cache=cache), Counter(cache=cache)
    expected = Counter().fit_transform(WORDS)
    np.testing.assert_array_equal(first.fit_transform(WORDS), expected)
    np.testing.assert_array_equal(second.fit_transform(WORDS[::-1]), expected[::-1])
    assert not hasattr(second, "encoded_")


def test_another_configuration_finds_no_vector_of_this_one(tmp_path):
    cache = EmbeddingCache(tmp_path)
    Counter(cache=cache).fit_transform(WORDS)
    other = Counter(scale=2.0, cache=cache)
    np.testing.assert_array_equal(other.fit_transform(WORDS)[0], [10, 4])
    assert len(other.encoded_) == 3


def test_bad_cell_is_never_stored(tmp_path):
    cache = EmbeddingCache(tmp_path)
    for _ in range(2):
        encoder = Counter(on_error="missing", cache=cache)
        with pytest.warns(EncoderWarning):
            encoder.fit_transform(pd.Series(["garbled", "st"]))
    assert encoder.encoded_ == ["garbled"]


def test_column_of_missing_cells_is_a_nan_block():
    assert np.isnan(Counter().fit_transform(pd.Series([None, np.nan]))).all()


def test_fingerprint_follows_configuration_and_class_alone():
    class Other(Counter):
        pass

    assert Counter().fingerprint() == Counter(missing="zero", on_error="missing").fingerprint()
    prints = {Counter().fingerprint(), Counter(scale=2.0).fingerprint(), Other().fingerprint()}
    assert len(prints) == 3


def test_feature_names_sort_in_order():
    assert list(Counter().get_feature_names_out()) == ["0000", "0001"]
    assert isinstance(Counter().set_output(transform="pandas").fit_transform(WORDS), pd.DataFrame)


@pytest.mark.parametrize("parameters", [{"missing": "drop"}, {"on_error": "ignore"}])
def test_unknown_setting_is_refused_by_name(parameters):
    with pytest.raises(ParameterError, match=next(iter(parameters))):
        clone(Counter(**parameters)).fit(WORDS)
