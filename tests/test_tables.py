"""The two tables: encoding a cohort table, grouping columns, presence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import EmbeddingCache, SkipMissing, make_modality_transformer
from medfusion_sdk.exceptions import ModalityError, ModalityWarning
from medfusion_sdk.tables import group_blocks, presence_mask

COHORT = pd.DataFrame(
    {
        "note": ["sinus rhythm", "st elevation", "sinus"],
        "age": [61.0, 48.0, 70.0],
        "weight": [80.0, 70.0, np.nan],
        "id": ["a", "b", "c"],
    },
    index=["x", "y", "z"],
)


class Encoder(TransformerMixin, BaseEstimator):
    """Something with a cache and a fingerprint, as our encoders are."""

    def __init__(self, cache=None):
        self.cache = cache

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    def get_feature_names_out(self, input_features=None):
        return input_features

    def fingerprint(self):
        return "00"


class OtherCache(StandardScaler):
    """A transformer with a parameter called cache that is no business of ours."""

    def __init__(self, cache=None):
        super().__init__()
        self.cache = cache


# -- make_modality_transformer ------------------------------------------------------------------


def test_transformer_is_an_ordinary_one_with_names_and_index():
    encode = make_modality_transformer(
        note=(TfidfVectorizer(), "note"), labs=(StandardScaler(), ["age", "weight"])
    )
    blocks = encode.fit_transform(COHORT)
    assert isinstance(encode, ColumnTransformer)
    assert list(blocks.index) == ["x", "y", "z"]
    words = ["elevation", "rhythm", "sinus", "st"]
    assert list(blocks) == [*(f"note__{word}" for word in words), "labs__age", "labs__weight"]


def test_sparse_block_becomes_dense_columns():
    encode = make_modality_transformer(note=(TfidfVectorizer(), "note"))
    assert not any(isinstance(kind, pd.SparseDtype) for kind in encode.fit_transform(COHORT).dtypes)


def test_text_pipeline_of_scikit_learn_serves_as_it_is_with_missing_notes():
    ngrams = make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0))
    encode = make_modality_transformer(note=(ngrams, "note"), words=(CountVectorizer(), "note"))
    blocks = encode.fit_transform(COHORT.assign(note=["sinus rhythm", None, "st elevation"]))
    assert blocks.isna().all(axis=1).tolist() == [False, True, False]
    assert [name.split("__")[0] for name in blocks] == ["note"] * 2 + ["words"] * 4


def test_dropped_modality_leaves_no_column():
    encode = make_modality_transformer(
        note=(TfidfVectorizer(), "note"), labs=(StandardScaler(), ["age"])
    )
    blocks = encode.set_params(note="drop").fit_transform(COHORT)
    assert list(blocks) == ["labs__age"]


def test_transformer_survives_clone():
    encode = clone(make_modality_transformer(labs=(StandardScaler(), ["age"])))
    assert isinstance(encode.fit_transform(COHORT), pd.DataFrame)


def test_no_modality_is_refused_with_an_example():
    with pytest.raises(ModalityError, match="TextEncoder"):
        make_modality_transformer()


@pytest.mark.parametrize("entry", [StandardScaler(), (StandardScaler(),), ["a", "b"]])
def test_entry_that_is_no_pair_is_refused_by_name(entry):
    with pytest.raises(ModalityError, match="'labs'"):
        make_modality_transformer(labs=entry)


def test_cache_reaches_encoders_also_within_pipelines(tmp_path):
    encode = make_modality_transformer(
        cache=EmbeddingCache(tmp_path),
        note=(Encoder(), "note"),
        other=(make_pipeline(Encoder(), StandardScaler()), "note"),
        labs=(OtherCache(), ["age"]),
    )
    parameters = encode.get_params()
    assert isinstance(parameters["note__cache"], EmbeddingCache)
    assert isinstance(parameters["other__encoder__cache"], EmbeddingCache)
    assert parameters["labs__cache"] is None


def test_encoder_with_a_cache_of_its_own_keeps_it(tmp_path):
    own, given_encoder = EmbeddingCache(tmp_path / "own"), Encoder()
    encode = make_modality_transformer(
        cache=EmbeddingCache(tmp_path / "shared"),
        first=(Encoder(own), "note"),
        second=(given_encoder, "note"),
    )
    assert encode.get_params()["first__cache"] is own
    assert given_encoder.cache is None  # the caller's object isn't touched


# -- group_blocks -------------------------------------------------------------------------------


def groups(*arguments):
    return {name: list(columns) for name, columns in group_blocks(*arguments).items()}


def test_columns_group_by_what_stands_before_the_first_separator():
    names = ["ecg__0", "labs__age", "ecg__1", "note__a__b", "plain", "__odd"]
    expected = {"ecg": [0, 2], "labs": [1], "note": [3], "features": [4, 5]}
    assert groups(names, 6) == expected


def test_bare_array_is_one_block():
    assert groups(None, 3) == {"features": [0, 1, 2]}


def test_wide_array_without_names_warns_how_to_name_them():
    with pytest.warns(ModalityWarning, match="set_output"):
        group_blocks(None, 11)


@pytest.mark.parametrize(
    ("spec", "columns"),
    [
        (["ecg__1", "ecg__0"], [1, 0]),
        ([0, -1], [0, 2]),
        (slice(0, 2), [0, 1]),
        ("ecg", [0, 1]),
        ("labs__age", [2]),
    ],
)
def test_mapping_takes_names_positions_slices_and_prefixes(spec, columns):
    assert groups(["ecg__0", "ecg__1", "labs__age"], 3, {"m": spec}) == {"m": columns}


def test_prefix_is_that_of_a_modality_and_not_of_another_with_a_longer_name():
    names = ["label__0", "lab__0", "lab__1", "labs", "lab_x", "pixel0", "pixel1"]
    assert groups(names, 7, {"lab": "lab", "label": "label"}) == {"lab": [1, 2], "label": [0]}
    assert groups(names, 7, {"m": "pixel"}) == {"m": [5, 6]}
    assert groups(names, 7, {"m": "lab__"}) == {"m": [1, 2]}
    with pytest.raises(ModalityError, match="'labe'"):
        groups(names, 7, {"m": "labe"})


@pytest.mark.parametrize(
    ("modalities", "complaint"),
    [
        ("blocks", '"auto"'),
        ({}, "empty mapping"),
        ({"m": ["xray__0"]}, "'xray__0'"),
        ({"m": "xray"}, "'xray'"),
        ({"m": [3]}, "position 3"),
        ({"m": []}, "no column"),
        ({"a": ["ecg__0"], "b": "ecg"}, r"'ecg__0'.*\['a', 'b'\]"),
    ],
)
def test_mapping_that_does_not_fit_is_refused(modalities, complaint):
    with pytest.raises(ModalityError, match=complaint):
        group_blocks(["ecg__0", "ecg__1", "labs__age"], 3, modalities)


def test_prefix_without_names_asks_for_positions():
    with pytest.raises(ModalityError, match="give positions"):
        group_blocks(None, 3, {"m": "ecg"})


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 99)), min_size=1, unique=True),
)
@settings(max_examples=50, deadline=None)
def test_every_named_column_belongs_to_exactly_one_block(parts):
    names = [f"{prefix}__{number}" for prefix, number in parts]
    blocks = group_blocks(names, len(names))
    assert sorted(np.concatenate(list(blocks.values()))) == list(range(len(names)))
    for name, columns in blocks.items():
        assert {names[column].split("__")[0] for column in columns} == {name}


# -- presence_mask ------------------------------------------------------------------------------

BLOCKS = {"ecg": np.array([0, 1]), "labs": np.array([2])}


def test_modality_is_present_unless_all_of_it_is_missing():
    X = np.array([[1.0, np.nan, np.nan], [np.nan, np.nan, 0.0], [0.0, 0.0, 0.0]])
    assert presence_mask(X, BLOCKS).tolist() == [[True, False], [False, True], [True, True]]


def test_row_without_anything_is_named():
    X = np.zeros((9, 3))
    X[[4, 7]] = np.nan
    with pytest.raises(ModalityError, match=r"2 row\(s\).*: 4, 7\."):
        presence_mask(X, BLOCKS)
    labels = pd.Index([f"p{i}" for i in range(9)])
    with pytest.raises(ModalityError, match=r"2 row.*: 'p4', 'p7'"):
        presence_mask(X, BLOCKS, labels)


def test_long_list_of_empty_rows_is_cut_short():
    with pytest.raises(ModalityError, match=r"20 row\(s\).*: 0, 1, 2, 3, 4, \.\.\.\."):
        presence_mask(np.full((20, 3), np.nan), BLOCKS)


def test_skipped_missing_note_is_an_absent_modality():
    cohort = COHORT.assign(note=["sinus rhythm", None, "sinus"])
    encode = make_modality_transformer(
        note=(SkipMissing(TfidfVectorizer()), "note"), labs=(StandardScaler(), ["age"])
    )
    X = encode.fit_transform(cohort)
    mask = presence_mask(X.to_numpy(), group_blocks(list(X), X.shape[1]))
    assert mask.tolist() == [[True, True], [False, True], [True, True]]
