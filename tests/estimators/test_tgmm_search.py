"""Searching by TGMMRetriever: what is found, in which order, and what never is."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from medfusion_sdk.exceptions import DataError
from tests.estimators.retrievers import labelled_table
from tests.estimators.retrievers import quick_retriever as retriever


@pytest.fixture(scope="module")
def table():
    return labelled_table()


@pytest.fixture(scope="module")
def fitted(table):
    X, _, patients = table
    return retriever().fit(X, groups=patients)


def test_neighbours_equal_scikit_learns_on_the_places(fitted, table):
    X = table[0]
    has = X["note__0000"].notna().to_numpy()
    distances, indices = fitted.kneighbors(X[:20], 7, query="ecg", target="note")
    brute = NearestNeighbors(metric="cosine", algorithm="brute")
    brute.fit(fitted.transform(X[has], "note"))
    expected = brute.kneighbors(fitted.transform(X[:20], "ecg"), 7)
    np.testing.assert_array_equal(indices, np.flatnonzero(has)[expected[1]])
    np.testing.assert_allclose(distances, expected[0], atol=1e-6)
    only = fitted.kneighbors(X[:20], 7, query="ecg", target="note", return_distance=False)
    np.testing.assert_array_equal(only, indices)


def test_row_without_the_target_is_never_found(fitted, table):
    X = table[0]
    n_notes = int(X["note__0000"].notna().sum())
    indices = fitted.kneighbors(X, n_notes, query="ecg", target="note", return_distance=False)
    assert X["note__0000"].iloc[indices.ravel()].notna().all()
    with pytest.raises(DataError, match=rf"row 'r0' has {n_notes} rows to find"):
        fitted.kneighbors(X, n_notes + 1, query="ecg", target="note")


def test_query_without_the_modality_is_named(fitted, table):
    X = table[0]
    first = X.index[X["note__0000"].isna()][0]
    with pytest.raises(DataError, match=rf"lack what is searched with: '{first}'"):
        fitted.kneighbors(X, query="note", target="ecg")


def test_gallery_searched_by_itself_never_finds_the_same_row(fitted, table):
    found = fitted.kneighbors(return_distance=False)
    assert (found != np.arange(90)[:, None]).all()
    itself = fitted.kneighbors(exclude_self=False, return_distance=False)
    np.testing.assert_array_equal(itself[:, 0], np.arange(90))


def test_exclude_self_goes_by_index_label(fitted, table):
    X = table[0]
    own = np.array([40, 3, 77])
    some = X.iloc[own]
    found = fitted.kneighbors(some, return_distance=False)
    np.testing.assert_array_equal(found[:, 0], own)
    others = fitted.kneighbors(some, exclude_self=True, return_distance=False)
    assert (others != own[:, None]).all()
    renamed = some.set_axis(["a", "b", "c"])
    np.testing.assert_array_equal(
        fitted.kneighbors(renamed, exclude_self=True, return_distance=False), found
    )


def test_exclude_self_refuses_labels_that_occur_twice(table):
    X = table[0].set_axis([f"r{i // 2}" for i in range(90)])
    with pytest.raises(DataError, match="pass groups"):
        retriever().fit(X).kneighbors(X, exclude_self=True)


def test_rows_of_the_querys_patient_are_never_found(fitted, table):
    X, _, patients = table
    found = fitted.kneighbors(X, 20, groups=patients, return_distance=False)
    assert (patients[found] != patients[:, None]).all()
    # A patient that the gallery doesn't know finds everything.
    stranger = fitted.kneighbors(X[:1], 1, groups=[-1], return_distance=False)
    assert stranger[0, 0] == 0
    with pytest.raises(DataError, match="the gallery has none"):
        retriever().fit(X).kneighbors(X, groups=patients)


def test_index_gives_other_rows_to_find(table):
    X = table[0]
    model = retriever(keep_gallery=False).fit(X[:60])
    with pytest.raises(DataError, match="index"):
        model.kneighbors(X[:1])
    found = model.index(X[60:]).kneighbors(X[60:], 1, return_distance=False)
    np.testing.assert_array_equal(found[:, 0], np.arange(30))
    assert model.gallery_.rows[found[3, 0]] == "r63"
    refitted = model.fit(X[:60])
    with pytest.raises(DataError, match="no gallery"):
        refitted.kneighbors(X[:1])


def test_equally_near_rows_come_in_the_gallerys_order(table):
    X = table[0].copy()
    columns = [X.columns.get_loc(name) for name in X if name.startswith("ecg__")]
    same = np.array([5, 20, 33, 71])
    X.iloc[same, columns] = X.iloc[20, columns].to_numpy()
    found = retriever().fit(X).kneighbors(X.iloc[[33]], 4, query="ecg", target="ecg")
    np.testing.assert_array_equal(found[1][0], same)
    np.testing.assert_allclose(found[0], 0, atol=1e-6)


def test_similarity_is_what_the_search_sorts(fitted, table):
    X = table[0]
    cosines = fitted.similarity(X[:20], query="ecg", target="note")
    np.testing.assert_array_equal(np.isnan(cosines[0]), X["note__0000"].isna())
    distances, indices = fitted.kneighbors(X[:20], 9, query="ecg", target="note")
    order = np.argsort(-np.nan_to_num(cosines, nan=-2), axis=1, kind="stable")[:, :9]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(1 - np.take_along_axis(cosines, order, 1), distances, atol=1e-12)
    np.testing.assert_array_equal(fitted.similarity(X[:20], X, query="ecg", target="note"), cosines)
    assert np.isnan(fitted.similarity(X, query="note", target="ecg")[np.isnan(cosines[0])]).all()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_search_does_not_depend_on_batches_or_company(fitted, table, size):
    X = table[0]
    expected = fitted.kneighbors(X, query="ecg", target="labs")
    batched = pickle.loads(pickle.dumps(fitted)).set_params(batch_size=size)
    distances, indices = batched.kneighbors(X, query="ecg", target="labs")
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_allclose(distances, expected[0], atol=1e-6)
    alone = [batched.kneighbors(X.iloc[[i]], query="ecg", target="labs")[1][0] for i in range(9)]
    np.testing.assert_array_equal(alone, expected[1][:9])
