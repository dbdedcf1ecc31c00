"""The small model on raw columns of a cohort table."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import skops.io
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from medfusion_sdk import SmallMultimodalClassifier, load_estimator, save_estimator
from medfusion_sdk.datasets import (
    load_ptbxl,
    make_icu_cohort,
    make_multimodal_cohort,
)
from medfusion_sdk.estimators import _small_cells
from medfusion_sdk.estimators._column_kinds import find_kind
from medfusion_sdk.exceptions import CellError, ModalityError, ModalityWarning, ParameterError
from medfusion_sdk.metrics import macro_auroc

FUSIONS = ("joint", "early", "late")


def small(**parameters):
    quick = {"embed_size": 8, "max_epochs": 2, "series_steps": 16, "random_state": 0}
    return SmallMultimodalClassifier(**quick | parameters)


def mixed(n_samples=24, seed=0):
    """A column of each kind; cells of the first rows are missing in turn."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_samples) % 2
    words = np.where(y, "marked effusion", "no effusion")
    table = pd.DataFrame(
        {
            "vitals": [rng.normal(t, 1, (2, 20 + i % 5)) for i, t in enumerate(y)],
            "note": [f"{word} seen {i}" for i, word in enumerate(words)],
            "photo": [rng.integers(0, 100 + 150 * t, (20, 16, 3), dtype=np.uint8) for t in y],
            "scan": [rng.random((9, 8, 7)) ** (1 + t) for t in y],
            "labs__a": rng.normal(y),
            "labs__b": rng.normal(size=n_samples),
        },
        index=[f"p{i}" for i in range(n_samples)],
    )
    for i, column in enumerate(["vitals", "note", "photo", "scan"]):
        table.at[f"p{i}", column] = None
    table.loc["p5", ["labs__a", "labs__b"]] = np.nan
    return table, y


@pytest.fixture(scope="module")
def table():
    return mixed()


@pytest.fixture(scope="module")
def fitted(table):
    return small().fit(*table)


# -- what is read ---------------------------------------------------------------------------------


def test_each_raw_column_and_each_prefix_is_a_modality(table, fitted):
    assert fitted.modalities_ == ["vitals", "note", "photo", "scan", "labs"]
    assert fitted.architecture_["kinds"] == ["series", "text", "image", "volume", "block"]
    assert fitted.architecture_["dtype"] == "float32"
    assert fitted.transform(table[0]).shape == (24, 5 * 8)
    assert fitted.transform(table[0]).shape[1] == fitted.architecture_["embed_width"]
    assert len(fitted.get_feature_names_out()) == 40
    assert "SmallMultimodalClassifier" in fitted._repr_html_()


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        (np.zeros((2, 9)), "series"),
        ([1.0, 2.0], "series"),
        ("sinus rhythm", "text"),
        ("folder/scan.nii.gz", "volume"),
        ("xray.JPG", "image"),
        ("record.hea", "series"),
        (np.zeros((5, 6, 3), np.uint8), "image"),
        (np.zeros((5, 6, 7)), "volume"),
        (np.zeros((1, 5, 6, 7)), "volume"),
    ],
)
def test_kind_of_a_column_is_found(cell, kind):
    assert find_kind(pd.Series([None, cell], dtype=object)) == kind


@pytest.mark.parametrize(
    "cell",
    ["woman", np.zeros((5, 6), np.uint8), np.zeros((3, 5, 6)), np.zeros((5, 6, 3)), {"a": 1}],
    ids=["word", "grey", "channels-first", "float-colour", "dict"],
)
def test_kind_that_is_not_clear_is_asked_for(cell):
    with pytest.raises(ModalityError, match=r"column 'x' holds.*column_kinds=\{'x': kind\}"):
        find_kind(pd.Series([cell], name="x", dtype=object))


def test_kind_of_npy_files_is_that_of_their_arrays(tmp_path):
    np.save(tmp_path / "scan.npy", np.zeros((5, 6, 7)))
    assert find_kind(pd.Series([str(tmp_path / "scan.npy")])) == "volume"


def test_column_kinds_settle_what_is_not_clear_and_leave_columns_unread(table):
    X = table[0].assign(sex=["female", "male"] * 12)
    with pytest.raises(ModalityError, match="column 'sex' holds single words"):
        small().fit(X, table[1])
    kinds = {"sex": "text", "photo": "ignore", "labs__b": "ignore", "labs__a": "table"}
    model = small(column_kinds=kinds).fit(X, table[1])
    assert model.modalities_ == ["vitals", "note", "scan", "labs", "sex"]
    assert model.architecture_["dims"][3] == 1
    unread = X.assign(photo="?", labs__b=-7.0)
    np.testing.assert_array_equal(model.predict_proba(unread), model.predict_proba(X))


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"column_kinds": {"pulse": "series"}}, ModalityError, r"column_kinds names \['pulse'\]"),
        ({"column_kinds": {"labs__a": "text"}}, ModalityError, "'labs__a'.*holds numbers"),
        ({"column_kinds": {"note": "table"}}, ModalityError, "'note'.*holds no numbers"),
        ({"column_kinds": {"note": "words"}}, ParameterError, "column_kinds must"),
        ({"embed_size": 7}, ParameterError, "embed_size=7 must be even"),
        ({"series_steps": 0}, ParameterError, "series_steps"),
        ({"scaling": {"vitals": "block"}}, ParameterError, r"scaling names \['vitals'\]"),
        ({"modalities": {"pulse": "heart"}}, ModalityError, "'heart'|pulse"),
    ],
)
def test_parameters_that_do_not_fit_the_table_are_refused(table, parameters, error, message):
    with pytest.raises(error, match=message):
        small(**parameters).fit(*table)


def test_mapping_of_modalities_names_raw_columns_and_leaves_others_out(table):
    named = {"numbers": ["labs__a"], "report": "note"}
    model = small(modalities=named).fit(table[0].drop(index="p1"), np.delete(table[1], 1))
    assert model.modalities_ == ["numbers", "report"]


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("vitals", np.zeros((3, 20)), "row 'p7', column 'vitals'.*3 channels"),
        ("vitals", np.full((2, 9), np.inf), "row 'p7', column 'vitals'.*infinity"),
        ("vitals", "gone.hea", "row 'p7', column 'vitals'.*no signal file"),
        ("note", 3.5, "row 'p7', column 'note'.*expected text, found a float"),
        ("photo", np.zeros((4, 4, 2)), "row 'p7', column 'photo'.*shape"),
        ("photo", "gone.png", "row 'p7', column 'photo'"),
        ("scan", np.full((4, 4, 4), np.nan), "row 'p7', column 'scan'.*NaN"),
        ("labs__a", np.inf, "row 'p7', column 'labs__a': found inf"),
    ],
)
def test_bad_cell_is_named_at_fit_and_at_predict(table, fitted, column, cell, message):
    X = table[0].copy()
    X.at["p7", column] = cell
    for call in (lambda: fitted.predict(X), lambda: small().fit(X, table[1])):
        with pytest.raises(CellError, match=message):
            call()


def test_row_without_any_modality_is_named(table, fitted):
    X = table[0].copy()
    X.loc["p8"] = [None, None, None, None, np.nan, np.nan]
    with pytest.raises(ModalityError, match=r"1 row\(s\) have none.*'p8'"):
        fitted.predict(X)


def test_modality_without_a_row_is_refused_at_fit_and_told_at_predict(table, fitted):
    X = table[0].assign(vitals=[None] * 24)
    with pytest.raises(ModalityError, match="column 'vitals' has no cell"):
        small().fit(X, table[1])
    with pytest.warns(ModalityWarning, match=r"\['vitals'\]"):
        fitted.predict(X.drop(index="p0"))


def test_numbers_alone_are_refused_by_a_model_of_raw_columns(fitted):
    with pytest.raises((ModalityError, ValueError), match="DataFrame"):
        fitted.predict(np.zeros((3, 6)))


def test_files_are_read_as_the_arrays_in_them(tmp_path, table, fitted):
    X = table[0].iloc[6:12].copy()
    files = X.copy()
    for name, row in X.iterrows():
        np.save(tmp_path / f"{name}.npy", row["scan"])
        np.save(tmp_path / f"{name}-vitals.npy", row["vitals"])
        Image.fromarray(row["photo"]).save(tmp_path / f"{name}.png")
        files.at[name, "scan"] = str(tmp_path / f"{name}.npy")
        files.at[name, "vitals"] = tmp_path / f"{name}-vitals.npy"
        files.at[name, "photo"] = str(tmp_path / f"{name}.png")
    np.testing.assert_array_equal(fitted.predict_proba(files), fitted.predict_proba(X))


def test_pictures_that_do_not_fit_into_memory_are_read_batch_by_batch(table, monkeypatch):
    expected = small().fit(*table)
    monkeypatch.setattr(_small_cells, "KEPT_BYTES", 0)
    monkeypatch.setattr("medfusion_sdk.encoders._volume_inputs.KEPT_BYTES", 0)
    lazy = small().fit(*table)
    for name, values in expected.state_.items():
        np.testing.assert_array_equal(lazy.state_[name], values)
    np.testing.assert_array_equal(lazy.predict_proba(table[0]), expected.predict_proba(table[0]))


def test_long_series_are_averaged_over_equal_spans():
    cells = pd.Series([np.array([[1.0, 3.0, np.nan, np.nan, 9.0]]), None])
    steps = _small_cells.average_steps(_small_cells.read_signals(cells, None), 2)
    np.testing.assert_array_equal(steps[0], [[2.0, np.nan, 9.0]])
    assert steps[1] is None


def test_series_are_standardised_by_what_training_observed_and_marked_where_it_had_gaps():
    nan = np.nan
    X = pd.DataFrame({"vitals": [np.array([[nan, 80.0, nan, 100.0]]), np.array([[80.0, 100.0]])]})
    model = small(max_epochs=1).fit(X, [0, 1])
    rows = model._inputs(X, X.index)["raw 0"]
    assert rows.lengths.tolist() == [4, 2]
    np.testing.assert_array_equal(
        rows.values.numpy(), [[0, 0], [-1, 1], [-1, 0], [1, 1], [-1, 1], [1, 1]]
    )


def test_words_have_the_same_numbers_in_another_process():
    told = "from medfusion_sdk.estimators._small_cells import _hashed; print(_hashed('No ST-T?'))"
    other = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    own = _small_cells._hashed("no st-t?")
    assert other.stdout.strip() == str(own)
    assert len(own) == 5
    assert _small_cells._hashed(" ") == [0]


# -- invariants -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
def test_contributions_sum_to_the_scores_and_head_reads_the_embedding(table, fusion):
    X, y = table
    model = small(fusion=fusion).fit(X, y)
    sums = model.explain(X).groupby(["row", "label"], sort=False)["contribution"].sum().unstack()
    np.testing.assert_allclose(softmax(sums, axis=1), model.predict_proba(X), atol=1e-6)
    scores = model.transform(X) @ model.state_["head.weight"].T + model.state_["head.bias"]
    if model.calibration_ is not None:
        scores = model.calibration_(scores)
    np.testing.assert_allclose(softmax(scores, axis=1), model.predict_proba(X), atol=1e-6)


def test_row_alone_in_any_order_and_batch_gets_the_same(table, fitted):
    X = table[0]
    expected = fitted.predict_proba(X)
    alone = np.concatenate([fitted.predict_proba(X.iloc[[i]]) for i in range(len(X))])
    np.testing.assert_allclose(alone, expected, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(fitted.predict_proba(X.iloc[order]), expected[order], atol=1e-6)
    other = pickle.loads(pickle.dumps(fitted)).set_params(batch_size=5)
    np.testing.assert_allclose(other.predict_proba(X), expected, atol=1e-6)


def test_equal_seeds_give_equal_bits_and_rows_of_no_weight_leave_no_trace(table, fitted):
    X, y = table
    wild = X.iloc[6:9].copy()
    wild["vitals"] = [cell * 1e3 for cell in wild["vitals"]]
    weight = np.repeat([1.0, 0.0], [24, 3])
    with_wild = small().fit(pd.concat([X, wild]), np.append(y, [0, 0, 0]), sample_weight=weight)
    for model in (small().fit(X, y), with_wild):
        for name, values in fitted.state_.items():
            np.testing.assert_array_equal(model.state_[name], values)


def test_modality_that_training_never_lacked_counts_as_its_mean_embedding(table):
    X, y = table[0].iloc[6:], table[1][6:]
    model = small().fit(X[["vitals", "labs__a"]], y)
    means = model.transform(X[["vitals", "labs__a"]])[:, :8].mean(axis=0)
    gone = X[["vitals", "labs__a"]].iloc[[0]].assign(vitals=[None])
    np.testing.assert_allclose(model.transform(gone)[0, :8], means, atol=1e-6)


def test_fitted_model_survives_pickle_skops_and_a_folder(table, fitted, tmp_path):
    expected = fitted.predict_proba(table[0])
    content = skops.io.dumps(fitted)
    trusted = skops.io.get_untrusted_types(data=content)
    assert all(name.startswith("medfusion_sdk.") for name in trusted)
    save_estimator(fitted, tmp_path / "model")
    for again in (
        pickle.loads(pickle.dumps(fitted)),
        skops.io.loads(content, trusted=trusted),
        load_estimator(tmp_path / "model"),
    ):
        assert getattr(again, "_module", None) is None
        np.testing.assert_array_equal(again.predict_proba(table[0]), expected)


def test_early_stopping_learns_nothing_from_rows_held_out(table):
    X, y = table
    model = small(early_stopping=True, validation_fraction=0.25, max_epochs=3).fit(X, y)
    assert "valid_loss" in model.history_
    held = model._held_out(np.arange(24), y)
    changed = X.copy()
    for i in held:
        if changed["vitals"].iloc[i] is not None:
            changed.at[X.index[i], "vitals"] = X["vitals"].iloc[i] * 100
    again = small(early_stopping=True, validation_fraction=0.25, max_epochs=3).fit(changed, y)
    np.testing.assert_array_equal(
        again._reading.series[0].prepare.mean_["series"],
        model._reading.series[0].prepare.mean_["series"],
    )


def test_warm_start_goes_on_from_the_last_weights(table):
    X, y = table
    model = small(warm_start=True).fit(X, y)
    first = model.history_["train_loss"].iloc[-1]
    assert model.fit(X, y).history_["train_loss"].iloc[0] < first * 1.05


def test_grid_search_and_pipeline_take_raw_tables(table):
    search = GridSearchCV(make_pipeline(small()), {"smallmultimodalclassifier__alpha": [0, 1]})
    search.set_params(cv=2).fit(*table)
    assert search.predict(table[0]).shape == (24,)


# -- learning -------------------------------------------------------------------------------------


def halves(X, y, column, **parameters):
    """AUROC on the second half of the rows that have a cell, learnt from the first."""
    there = X[column].notna().to_numpy()
    X, y = X.loc[there, [column]], np.asarray(y)[there]
    middle = len(X) // 2
    settings = {"embed_size": 32, "random_state": 0} | parameters
    model = SmallMultimodalClassifier(**settings).fit(X.iloc[:middle], y[:middle])
    return roc_auc_score(y[middle:], model.predict_proba(X.iloc[middle:])[:, 1])


def test_series_alone_beat_chance():
    cohort = make_icu_cohort(400, random_state=0)
    scores = {c: halves(cohort.data, cohort.target, c) for c in ("vitals", "labs")}
    assert max(scores.values()) > 0.65, scores


def test_text_alone_beats_chance():
    cohort = make_multimodal_cohort(300, as_raw=True, noise=0.2, private=2.0, random_state=0)
    assert halves(cohort.data, cohort.target, "note") > 0.75


def test_images_alone_beat_chance():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 160)
    images = [rng.integers(0, 120, (32, 32, 3), dtype=np.uint8) for _ in y]
    for image, label in zip(images, y, strict=True):  # a bar that lies or stands, anywhere
        at = rng.integers(0, 26)
        place = (slice(None), slice(at, at + 5))[:: 1 if label else -1]
        image[place] += np.uint8(60)
    assert halves(pd.DataFrame({"photo": images}), y, "photo") > 0.85


def test_volumes_alone_beat_chance():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100)
    volumes = [rng.random((12, 12, 12), dtype=np.float32) for _ in y]
    for volume, label in zip(volumes, y, strict=True):  # a plate that lies or stands, anywhere
        at = rng.integers(0, 10)
        place = (slice(None), slice(None), slice(at, at + 2))[:: 1 if label else -1]
        volume[place] += 0.5
    assert halves(pd.DataFrame({"scan": volumes}), y, "scan", max_epochs=8) > 0.85


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns_real_ecgs_and_reports(fusion):
    ptbxl = load_ptbxl()
    X = ptbxl.data[["ecg", "report", "age"]]
    train = np.arange(len(X)) % 3 > 0
    model = SmallMultimodalClassifier(
        fusion=fusion, embed_size=32, series_steps=64, max_epochs=20, random_state=0
    ).fit(X[train], ptbxl.target[train])
    assert macro_auroc(ptbxl.target[~train], model.predict_proba(X[~train])) > 0.65


@pytest.mark.parametrize(("n_rows", "epochs"), [(40, 30), (2000, 8), (100_000, 5)])
def test_raw_encoders_learn_for_about_as_many_steps_from_any_number_of_rows(n_rows, epochs):
    model = SmallMultimodalClassifier()
    model.architecture_ = {"kinds": ["block", "series"]}
    assert model._config(n_rows).max_epochs == epochs
    model.architecture_ = {"kinds": ["block"]}
    assert model._config(n_rows).max_epochs == 100
