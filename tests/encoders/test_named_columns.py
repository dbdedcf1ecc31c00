"""Transformers with sparse output, or output without names, as modalities."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomTreesEmbedding
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, OneHotEncoder

from medfusion_sdk import SkipMissing, make_modality_transformer
from medfusion_sdk.encoders.named_columns import NamedColumns
from medfusion_sdk.exceptions import ModalityError

X = pd.DataFrame(
    {
        "ward": ["icu", "er", "icu", "er"],
        "age": [40.0, 50.0, 60.0, 70.0],
        "flag": [True, False, True, True],
        "note": ["st elevation", "sinus rhythm", "sinus", "st"],
    },
    index=list("abcd"),
)


class Halves(TransformerMixin, BaseEstimator):
    """Somebody's transformer: an array, and no names."""

    def __init__(self, sparse=False):
        self.sparse = sparse

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        values = np.column_stack([np.asarray(X, dtype=float)[:, 0] / 2] * 2)
        return sp.csr_matrix(values) if self.sparse else values


def plain(function):
    return FunctionTransformer(function)


def svd(first):
    return make_pipeline(first, TruncatedSVD(2, random_state=0))


WORDS = ["elevation", "rhythm", "sinus", "st"]
CASES = {
    "one-hot": (OneHotEncoder(), ["ward"], ["ward_er", "ward_icu"]),
    "one-hot of categories": (OneHotEncoder(), ["kind"], ["kind_er", "kind_icu"]),
    "bins": (KBinsDiscretizer(2, quantile_method="averaged_inverted_cdf"), ["age"], None),
    "imputer and one-hot": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
        ["ward"],
        ["ward_er", "ward_icu"],
    ),
    "one-hot and SVD": (svd(OneHotEncoder()), ["ward"], ["truncatedsvd0", "truncatedsvd1"]),
    "trees": (RandomTreesEmbedding(2, max_depth=1, random_state=0), ["age"], None),
    "tfidf": (TfidfVectorizer(), "note", WORDS),
    "counts": (CountVectorizer(), "note", WORDS),
    "hashed": (HashingVectorizer(n_features=4), "note", ["0000", "0001", "0002", "0003"]),
    "hashed and SVD": (svd(HashingVectorizer()), "note", ["0000", "0001"]),
    "tfidf and SVD": (svd(TfidfVectorizer()), "note", ["truncatedsvd0", "truncatedsvd1"]),
    "function, array": (plain(lambda d: d.to_numpy() * 2), ["age"], ["0000"]),
    "function, table": (plain(lambda d: d * 2), ["age"], ["age"]),
    "function, sparse": (plain(lambda d: sp.csr_matrix(d.to_numpy())), ["age"], ["0000"]),
    "function behind others": (
        make_pipeline(SimpleImputer(), plain(lambda d: np.log1p(np.asarray(d)))),
        ["age"],
        ["0000"],
    ),
    "somebody's": (Halves(), ["age"], ["0000", "0001"]),
    "somebody's, sparse": (Halves(sparse=True), ["age"], ["0000", "0001"]),
    "flag": ("passthrough", ["flag"], ["flag"]),
}


@pytest.mark.parametrize("name", CASES)
def test_any_transformer_keeps_its_modality_named_dense_and_right(name):
    transformer, columns, expected = CASES[name]
    table = X.assign(kind=X["ward"].astype("category"))
    encode = make_modality_transformer(
        mine=(transformer, columns), labs=("passthrough", ["age", "flag"])
    )
    blocks = encode.fit_transform(table)
    assert blocks.index.tolist() == list("abcd")
    assert not any(isinstance(dtype, pd.SparseDtype) for dtype in blocks.dtypes)
    own = [column.partition("__")[2] for column in blocks if column.startswith("mine__")]
    assert len(own) == blocks.shape[1] - 2
    if expected is not None:
        assert own == expected
    if transformer != "passthrough":
        alone = clone(transformer).fit_transform(table[columns])
        alone = alone.toarray() if sp.issparse(alone) else np.asarray(alone)
        np.testing.assert_allclose(blocks.filter(like="mine__"), alone)
    pd.testing.assert_frame_equal(encode.transform(table), blocks)
    pd.testing.assert_frame_equal(clone(encode).fit(table).transform(table), blocks)


@pytest.mark.parametrize(
    ("transformer", "columns"),
    [(HashingVectorizer(), "note"), (OneHotEncoder(), ["id"]), (CountVectorizer(), "id")],
)
def test_output_of_gigabytes_is_refused_with_what_to_do(transformer, columns):
    table = pd.DataFrame({"id": [f"p{i}" for i in range(70_000)]}).assign(note="sinus rhythm")
    with pytest.raises(ModalityError, match=r"TruncatedSVD"):
        make_modality_transformer(m=(transformer, columns)).fit_transform(table)


def test_output_of_other_columns_than_in_training_is_refused():
    def dummies(table):
        return pd.get_dummies(table, dtype=float)

    encode = make_modality_transformer(ward=(FunctionTransformer(dummies), ["ward"])).fit(X)
    with pytest.raises(ModalityError, match="in training 2"):
        encode.transform(X.iloc[:1])


def test_output_that_is_no_table_is_refused():
    with pytest.raises(ModalityError, match="shape"):
        NamedColumns(FunctionTransformer(lambda d: np.zeros((len(d), 2, 2)))).fit(X[["age"]])


def test_skipped_rows_of_a_transformer_without_names_are_missing():
    blocks = make_modality_transformer(
        note=(SkipMissing(HashingVectorizer(n_features=4)), "note"), labs=("passthrough", ["age"])
    ).fit_transform(X.assign(note=["st", None, "sinus", None]))
    assert blocks.filter(like="note__").isna().all(axis=1).tolist() == [False, True, False, True]
