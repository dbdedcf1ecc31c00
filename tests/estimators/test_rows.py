"""Messages name rows and columns as the user's table does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk import (
    DualAdapterClassifier,
    DualAdapterEmbedder,
    TGMMClassifier,
    TGMMRetriever,
)
from medfusion_sdk.exceptions import CellError, ModalityError
from tests.estimators.cohorts import adacomed, cohort, small

BOTH = pytest.mark.parametrize("make", [small, adacomed], ids=["small", "adacomed"])


def dual(**parameters):
    quick = {"backbone": "standin-text", "max_epochs": 1, "random_state": 0}
    return DualAdapterClassifier(**quick | parameters)


@pytest.fixture
def table():
    X, y = cohort()
    return X.set_axis([f"p{i}" for i in range(len(X))]), y


@pytest.fixture
def notes():
    """Patients with a signal's embedding and a note."""
    rng = np.random.default_rng(0)
    columns = [f"ecg__{i}" for i in range(3)]
    X = pd.DataFrame(rng.normal(size=(12, 3)), columns=columns).assign(note="sinus rhythm")
    return X.set_axis([f"p{i}" for i in range(12)]), np.arange(12) % 2


# The table's columns as an array, on purpose.
NAMELESS = pytest.mark.filterwarnings("ignore:.*columns without names")

# -- rows without anything ----------------------------------------------------------------------


@BOTH
@NAMELESS
def test_empty_row_is_named_by_its_label(make, table):
    X, y = table
    model = make().fit(X, y)
    X.loc[["p4", "p7"]] = np.nan
    for call in (lambda: make().fit(X, y), lambda: model.predict(X)):
        with pytest.raises(ModalityError, match=r"2 row\(s\) have none of .*: 'p4', 'p7'\."):
            call()
    with pytest.raises(ModalityError, match=r": 104, 107\."):
        make().fit(X.set_axis(range(100, 160)), y)
    with pytest.raises(ModalityError, match=r": 4, 7\."):
        make().fit(X.to_numpy(), y)


@BOTH
@NAMELESS
def test_rows_of_weight_zero_may_be_empty_and_shift_no_label(make, table):
    X, y = table
    X.loc[["p4", "p7"]] = np.nan
    weight = np.ones(len(y))
    weight[:5] = 0
    for given, named in ((X, "'p7'"), (X.to_numpy(), "7")):
        with pytest.raises(ModalityError, match=rf"1 row\(s\) .*: {named}\."):
            make().fit(given, y, sample_weight=weight)
    weight[7] = 0
    make().fit(X, y, sample_weight=weight)


def test_row_that_no_path_reads_is_named_before_the_small_model_is_trained(table, monkeypatch):
    X, y = table
    X.loc["p9", [name for name in X if name.startswith("ecg")]] = np.nan
    trained = []
    monkeypatch.setattr(type(small()), "fit", lambda *args, **kwargs: trained.append(args))
    model = adacomed(large_modalities=["ecg"], small_modalities=["ecg"])
    with pytest.raises(ModalityError, match=r"\['ecg'\]: 'p9'\."):
        model.fit(X, y)
    assert not trained


def test_row_with_neither_signal_nor_text_is_named_by_its_label(notes):
    X, y = notes
    roles = {"signal": "ecg", "text": "note"}
    model = dual(**roles).fit(X, y)
    X.loc[["p1", "p8"], :] = None
    weight = np.r_[np.zeros(3), np.ones(9)]
    with pytest.raises(ModalityError, match=r"1 row\(s\) have neither signal nor text: 'p8'\."):
        dual(**roles).fit(X, y, sample_weight=weight)
    for call in (
        lambda: model.predict(X),
        lambda: model.explain(X),
        lambda: DualAdapterEmbedder("standin-text", **roles).fit(X),
    ):
        with pytest.raises(ModalityError, match=r"2 row\(s\) .*: 'p1', 'p8'\."):
            call()


def test_row_of_an_array_is_named_by_its_place_in_it(notes):
    X, y = notes
    X = X.drop(columns="note").to_numpy()
    X[[1, 8]] = np.nan
    weight = np.r_[np.zeros(3), np.ones(9)]
    with pytest.raises(ModalityError, match=r"1 row\(s\) .*: 8\."):
        dual().fit(X, y, sample_weight=weight)
    with pytest.raises(ModalityError, match=r"2 row\(s\) .*: 1, 8\."):
        DualAdapterEmbedder("standin-text").fit(X)


# -- infinity -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [small, adacomed, dual], ids=["small", "adacomed", "dual"])
@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_infinity_is_named_by_row_and_column(make, table, infinity):
    X, y = table
    X = X.fillna(0.0)
    model = make().fit(X, y)
    X.loc["p6", "labs__0001"] = infinity
    X.loc["p8", "ecg__0000"] = infinity
    for call in (lambda: make().fit(X, y), lambda: model.predict(X)):
        with pytest.raises(CellError, match=f"^row 'p6', column 'labs__0001': found {infinity}; "):
            call()
    column = list(X).index("labs__0001")
    with pytest.raises(CellError, match=f"^row 6, column {column}: found"):
        make().fit(X.to_numpy(), y)


def test_infinity_beside_a_text_is_named_too(notes):
    X, y = notes
    X.loc["p5", "ecg__2"] = np.inf
    with pytest.raises(CellError, match=r"^row 'p5', column 'ecg__2': found inf"):
        dual(signal="ecg", text="note").fit(X, y)


# -- cells that aren't numbers ------------------------------------------------------------------

BLOCK_TABLES = pytest.mark.parametrize(
    "make",
    [
        small,
        lambda: TGMMClassifier(max_epochs=1, random_state=0),
        lambda: TGMMRetriever(max_epochs=1, random_state=0),
    ],
    ids=["small", "tgmm", "retriever"],
)


@BLOCK_TABLES
def test_missing_cells_of_any_kind_and_numbers_of_any_type_are_read_alike(make, table):
    X, y = table
    X["labs__0000"] = X["labs__0000"].round().fillna(0.0)
    expected = make().fit(X, y).transform(X)
    for other in (
        X.astype(object).where(X.notna(), pd.NA),
        X.astype(object).where(X.notna(), None),
        X.convert_dtypes(),
        X.assign(labs__0000=pd.Categorical(X["labs__0000"])),
    ):
        np.testing.assert_array_equal(make().fit(other, y).transform(other), expected)


@BLOCK_TABLES
@pytest.mark.parametrize("cell", ["male", pd.Timestamp("2020-01-01")], ids=["text", "date"])
def test_cell_that_is_no_number_is_named_by_row_and_column(make, table, cell):
    X, y = table
    model = make().fit(X, y)
    X["labs__0001"] = X["labs__0001"].astype(object)
    X.loc["p6", "labs__0001"] = cell
    whole = X.assign(labs__0001=cell)
    for given, row in ((X, "p6"), (whole, "p0")):
        with pytest.raises(CellError, match=f"^row '{row}', column 'labs__0001': found"):
            model.transform(given)
    with pytest.raises(CellError, match=r"^row 'p6', column 'labs__0001': found"):
        make().fit(X, y)
    # A whole column of something else is an error too; the small model asks what it is.
    with pytest.raises((CellError, ModalityError), match="column 'labs__0001'"):
        make().fit(whole, y)


# -- parameters that the table decides on -------------------------------------------------------


@BOTH
def test_scaling_of_a_modality_that_is_not_there_is_refused(make, table):
    with pytest.raises(ValueError, match=r"scaling names \['nots'\]; .* \['ecg', 'note', 'labs'\]"):
        make(scaling={"nots": "block"}).fit(*table)


def test_scaling_by_name_serves_both_paths(table):
    scaling = {"ecg": "block", "labs": "none"}
    model = adacomed(small=None, small_modalities=["labs"], scaling=scaling).fit(*table)
    assert model.small_.scaling == {"labs": "none"}


@pytest.mark.parametrize(
    ("make", "plain"),
    [
        (small, {"embed_size": 8, "alpha": 0.25, "max_epochs": 3, "batch_size": 16}),
        (adacomed, {"hidden_dim": 8, "n_heads": 2, "temperature": 0.125, "share_head": True}),
        (dual, {"adapter_len": 3, "alpha": 8.0, "learning_rate": 0.0078125, "probe": False}),
    ],
    ids=["small", "adacomed", "dual"],
)
def test_numpy_scalars_fit_like_pythons_own(make, plain, table):
    X, y = table
    kinds = {int: np.int64, float: np.float32, bool: np.bool_}
    scalars = {name: kinds[type(value)](value) for name, value in plain.items()}
    first, second = (make(**given).fit(X, y).predict_proba(X) for given in (plain, scalars))
    np.testing.assert_array_equal(first, second)
