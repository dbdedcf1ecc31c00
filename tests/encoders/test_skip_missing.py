"""A transformer that can't take missing cells, on the rows that are there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_regression

from medfusion_sdk import SkipMissing
from medfusion_sdk.exceptions import ModalityError

NOTES = pd.Series(["sinus rhythm", None, "st elevation", np.nan, "sinus"], name="note")
PRESENT = NOTES.notna().to_numpy()


class Nameless(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.asarray(X, dtype=float)


def test_present_rows_are_what_the_transformer_makes_of_them_alone():
    block = SkipMissing(TfidfVectorizer()).fit_transform(NOTES)
    alone = TfidfVectorizer().fit_transform(NOTES[PRESENT]).toarray()
    np.testing.assert_allclose(block[PRESENT], alone)
    assert np.isnan(block[~PRESENT]).all()


@pytest.mark.parametrize(
    "column",
    [
        NOTES.to_list(),
        NOTES.to_numpy(),
        NOTES.astype("string"),
        NOTES.where(PRESENT, pd.NA),
    ],
    ids=["list", "array", "string", "pd.NA"],
)
def test_column_in_any_coat_gives_the_same_block(column):
    expected = SkipMissing(CountVectorizer()).fit_transform(NOTES)
    np.testing.assert_array_equal(SkipMissing(CountVectorizer()).fit_transform(column), expected)


def test_rows_of_a_table_are_missing_when_all_of_it_is():
    table = pd.DataFrame({"age": [61.0, np.nan, 50.0], "bmi": [25.0, np.nan, 30.0]})
    block = SkipMissing(PCA(1)).fit_transform(table)
    assert np.isnan(block[:, 0]).tolist() == [False, True, False]
    np.testing.assert_allclose(block[[0, 2]], PCA(1).fit_transform(table.iloc[[0, 2]]))


def test_targets_of_missing_rows_are_left_out_of_the_fit():
    table = pd.DataFrame({"a": [0.0, 1, 2, 3, np.nan], "b": [0.0, 2, 1, 3, np.nan]})
    y = [0.0, 1.1, 2.0, 3.1, -50.0]
    block = SkipMissing(SelectKBest(f_regression, k=1)).fit(table, y).transform(table)
    np.testing.assert_array_equal(block[:, 0], table["a"])


def test_column_missing_altogether_is_nan_at_transform_and_refused_at_fit():
    wrapper = SkipMissing(CountVectorizer()).fit(NOTES)
    block = wrapper.transform(pd.Series([None, None]))
    assert block.shape == (2, len(wrapper.get_feature_names_out()))
    assert np.isnan(block).all()
    with pytest.raises(ModalityError, match="all 2 rows"):
        SkipMissing(CountVectorizer()).fit(pd.Series([None, None]))


def test_names_are_the_wrapped_transformers():
    wrapper = SkipMissing(CountVectorizer()).fit(NOTES)
    assert list(wrapper.get_feature_names_out()) == ["elevation", "rhythm", "sinus", "st"]


def test_wrapper_of_a_nameless_transformer_numbers_its_columns():
    table = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])
    wrapper = SkipMissing(Nameless()).fit(table)
    names = list(wrapper.get_feature_names_out())
    assert len(set(names)) == len(names) == wrapper.transform(table).shape[1] == 2


def test_wrapped_transformer_is_cloned_and_its_parameters_reach_through():
    inner = CountVectorizer()
    wrapper = clone(SkipMissing(inner)).set_params(transformer__lowercase=False)
    wrapper.fit(NOTES)
    assert wrapper.transformer_.lowercase is False
    assert not hasattr(inner, "vocabulary_")


def test_transform_before_fit_is_refused():
    with pytest.raises(NotFittedError):
        SkipMissing(CountVectorizer()).transform(NOTES)
