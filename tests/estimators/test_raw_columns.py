"""TGMM on raw columns: frozen encoders, and encoders of which a part learns along."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from medfusion_sdk import (
    ImageEncoder,
    LabTextEncoder,
    SignalEncoder,
    TextEncoder,
    TGMMClassifier,
    TGMMMultiTask,
    TGMMSurvival,
    load_estimator,
    make_modality_transformer,
    save_estimator,
)
from medfusion_sdk.estimators import _raw_columns
from medfusion_sdk.exceptions import (
    BackboneMismatchError,
    CellError,
    EncoderWarning,
    ModalityError,
    ParameterError,
)
from tests.st_mem_checkpoints import write_st_mem
from tests.text_checkpoints import write_checkpoint

WORDS = ["sinus", "rhythm", "normal", "st", "elevation", "acute", "change", "lead"]
OPTIONS = {"max_epochs": 2, "random_state": 0, "expert": False, "encoder_learning_rate": 1e-3}


@pytest.fixture(scope="module")
def cohort():
    """40 patients; a note and an image tell the class, a value does a little. Some lack one."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=40)
    notes = [" ".join(rng.permutation(WORDS)[: 4 + k].tolist()) for k in y]
    images = [rng.random((20, 20)) * (0.5 + 0.5 * k) for k in y]
    X = pd.DataFrame(
        {"note": notes, "cxr": images, "labs__k": rng.normal(y), "labs__crp": rng.normal(size=40)},
        index=[f"p{i}" for i in range(40)],
    )
    X["note"] = X["note"].astype(object)
    X.loc["p3", "note"] = None
    X.loc[["p4", "p5"], "cxr"] = None
    return X, y


def make(tuning="frozen", **changed):
    encoders = {
        "note": TextEncoder("standin-text", dtype="float32"),
        "cxr": ImageEncoder("standin-image", dtype="float32"),
    }
    return TGMMClassifier(**({"encoders": encoders, "encoder_tuning": tuning} | OPTIONS | changed))


@pytest.fixture(scope="module", params=[1, "lora"])
def tuned(request, cohort):
    return make(request.param).fit(*cohort)


# -- frozen --------------------------------------------------------------------------------------


def test_frozen_encoders_are_the_modality_transformers(cohort):
    X, y = cohort
    encoders = make().encoders
    encode = make_modality_transformer(
        note=(encoders["note"], "note"),
        cxr=(encoders["cxr"], "cxr"),
        labs=("passthrough", ["labs__k", "labs__crp"]),
    )
    columns = {"note": "note__", "cxr": "cxr__", "labs": "labs__"}
    table = encode.fit_transform(X).rename(columns=lambda name: name.replace("labs__labs", "labs"))
    # Folds of the calibration are drawn by what a table holds.
    plain = TGMMClassifier(modalities=columns, calibrate=False, **OPTIONS).fit(table, y)
    model = make(calibrate=False).fit(X, y)
    assert model.modalities_ == ["cxr", "labs", "note"]
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(table))
    assert model.feature_names_in_.tolist() == list(X.columns)


def test_calibrated_fit_reads_raw_columns_once(cohort, monkeypatch):
    X, y = cohort
    read, whole = [], TextEncoder.transform
    monkeypatch.setattr(
        TextEncoder, "transform", lambda self, X: read.append(len(X)) or whole(self, X)
    )
    logits = make(calibrate=False).fit(X, y).decision_function(X)
    at_once = read.copy()
    read.clear()
    model = make().fit(X, y)
    assert model.calibration_ is not None
    assert read == at_once[: len(read)]
    shift = np.diff(model.calibration_.shift)
    np.testing.assert_allclose(
        model.decision_function(X), logits / model.calibration_.temperature + shift, rtol=1e-5
    )


def test_encoder_of_several_columns_is_given_with_them(cohort):
    X, y = cohort
    labs = LabTextEncoder({"k": ("mmol/L", 3, 5), "crp": ("mg/L",)}, backbone="standin-text")
    table = X.rename(columns={"labs__k": "k", "labs__crp": "crp"}).drop(columns="cxr")
    encoders = {"note": TextEncoder("standin-text"), "values": (labs, ["k", "crp"])}
    model = make(1, encoders=encoders).fit(table, y)
    assert model.modalities_ == ["note", "values"]
    assert model.tuned_ == {"note": 1, "values": 1}
    assert model.predict_proba(table).shape == (40, 2)


# -- what learns ---------------------------------------------------------------------------------


def test_state_holds_what_learns_and_nothing_else(cohort):
    X, y = cohort
    frozen, one, two, lora = (make(t).fit(X, y).state_ for t in ("frozen", 1, 2, "lora"))
    encoders = {
        kind: {name for name in state if name.startswith("encoders.")}
        for kind, state in (("one", one), ("two", two), ("lora", lora))
    }
    assert not any(name.startswith("encoders.") for name in frozen)
    assert {name.removeprefix("tasks.") for name in set(one) - encoders["one"]} == set(frozen)
    assert encoders["one"] < encoders["two"]
    assert all("layer.1." in name or "layers.1." in name for name in encoders["one"])
    assert all("lora_" in name for name in encoders["lora"])


def test_tuning_by_modality_leaves_the_others_frozen(cohort):
    model = make({"cxr": 2}).fit(*cohort)
    assert model.tuned_ == {"cxr": 2}
    assert {name.split(".")[1] for name in model.state_ if "encoders." in name} == {"0"}


def test_encoders_without_a_transformer_stay_frozen(cohort):
    X, y = cohort
    ecg = pd.Series(list(np.random.default_rng(0).standard_normal((40, 2, 100))), index=X.index)
    encoders = make().encoders | {"ecg": SignalEncoder(n_features=84)}
    model = make(1, encoders=encoders).fit(X.assign(ecg=ecg), y)
    assert model.tuned_ == {"note": 1, "cxr": 1}
    assert "ecg" in model.modalities_


def test_training_moves_the_encoder_from_where_the_frozen_one_is(cohort):
    X, y = cohort
    slow, fast = (
        make(1, encoder_learning_rate=rate, clip=None).fit(X, y) for rate in (1e-12, 1e-3)
    )
    names = [name for name in fast.state_ if name.startswith("encoders.") and "weight" in name]
    moved = [np.abs(fast.state_[name] - slow.state_[name]).max() for name in names]
    assert min(moved) > 1e-4
    # At a rate of nothing the blocks are the frozen embeddings, scaled and in their places.
    batch = slow._inputs(slow._validate(X), X.index)
    with torch.no_grad():
        computed = slow._network()._computed(batch)["x"]
        other = fast._network()._computed(batch)["x"]
    np.testing.assert_allclose(computed, batch["x"], atol=1e-5)
    bounds = np.cumsum([0, *slow._scaling.dims])
    blocks = {name: slice(bounds[m], bounds[m + 1]) for m, name in enumerate(slow.modalities_)}
    for name, block in blocks.items():
        same = torch.equal(other[:, block], batch["x"][:, block])
        assert same == (name == "labs"), name
    # Where a modality is missing its block stays zero.
    assert not other[3, blocks["note"]].any()


def test_st_mem_learns_along(cohort, tmp_path):
    X, y = cohort
    rng = np.random.default_rng(0)
    ecg = pd.Series(list(rng.standard_normal((40, 1, 2300))), index=X.index)
    ecg.iloc[:20] = None
    encoder = SignalEncoder(
        "st-mem", weights=write_st_mem(tmp_path / "e.pth"), leads=("II",), source_fs=250
    )
    table = X[["labs__k", "labs__crp"]].assign(ecg=ecg)
    model = make(1, encoders={"ecg": encoder}).fit(table, y)
    assert all("block1." in name for name in model.state_ if name.startswith("encoders."))
    single = np.vstack([model.predict_proba(table.iloc[[i]]) for i in (0, 25, 39)])
    np.testing.assert_allclose(single, model.predict_proba(table)[[0, 25, 39]], atol=1e-5)


# -- as every estimator ----------------------------------------------------------------------------


def test_prediction_depends_on_no_other_row_nor_on_the_batch(cohort, tuned):
    X, _ = cohort
    proba = tuned.predict_proba(X)
    single = np.vstack([tuned.predict_proba(X.iloc[[i]]) for i in range(0, 40, 7)])
    np.testing.assert_allclose(single, proba[::7], atol=1e-5)
    turned = clone(tuned).set_params(batch_size=3)
    turned.__setstate__(tuned.__getstate__() | {"batch_size": 3})
    np.testing.assert_allclose(turned.predict_proba(X.iloc[::-1])[::-1], proba, atol=1e-5)


def test_same_seed_is_bit_identical_whatever_the_global_one(cohort, tuned):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = clone(tuned).fit(*cohort)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.state_.keys() == tuned.state_.keys()
    for name, values in tuned.state_.items():
        np.testing.assert_array_equal(again.state_[name], values)


def test_pickle_and_saved_model_are_small_and_predict_alike(cohort, tuned, tmp_path):
    X, _ = cohort
    proba = tuned.predict_proba(X)
    stored = pickle.dumps(tuned)
    weights = sum(values.nbytes for values in tuned.state_.values())
    assert len(stored) < weights + 60_000
    np.testing.assert_allclose(pickle.loads(stored).predict_proba(X), proba, atol=1e-6)
    save_estimator(tuned, tmp_path / "model")
    np.testing.assert_allclose(
        load_estimator(tmp_path / "model").predict_proba(X), proba, atol=1e-6
    )


def test_explanation_has_every_modality_and_its_drop(cohort, tuned):
    X, _ = cohort
    told = tuned.explain(X.head(6))
    gates = told[told["quantity"] == "gate"].pivot(index="row", columns="modality", values="value")
    np.testing.assert_allclose(gates.sum(axis=1), 1, atol=1e-5)
    assert gates.loc["p3", "note"] == 0
    drops = told[(told["quantity"] == "drop_one") & (told["label"] == 1)]
    changes = drops.pivot(index="row", columns="modality", values="value")
    assert changes.loc["p3", "note"] == 0
    lacking = X.head(1).assign(note=None)
    expected = tuned.predict_proba(X.head(1))[0, 1] - tuned.predict_proba(lacking)[0, 1]
    assert changes.loc["p0", "note"] == pytest.approx(expected, abs=1e-5)


def test_missing_cells_are_missing_modalities_and_a_bad_one_may_be(cohort):
    X, y = cohort
    encoders = make().encoders
    encoders["cxr"].set_params(on_error="missing")
    bad = X.copy()
    bad.at["p0", "cxr"] = np.full((20, 20), np.nan)
    with pytest.raises(CellError, match=r"row 'p0', column 'cxr'"):
        make(1).fit(bad, y)
    with pytest.warns(EncoderWarning, match="1 of 40 cells"):
        model = make(1, encoders=encoders).fit(bad, y)
    without = X.copy()
    without.at["p0", "cxr"] = None
    with pytest.warns(EncoderWarning):
        proba = model.predict_proba(bad.head(2))
    np.testing.assert_allclose(proba, model.predict_proba(without.head(2)), atol=1e-6)


def test_rows_of_weight_zero_are_as_good_as_removed(cohort):
    X, y = cohort
    weight = np.ones(40)
    weight[::3] = 0
    weighted = make(1).fit(X, y, sample_weight=weight)
    removed = make(1).fit(X[weight > 0], y[weight > 0])
    for name, values in removed.state_.items():
        np.testing.assert_array_equal(weighted.state_[name], values)


def test_images_that_would_be_too_much_are_read_batch_by_batch_to_the_same_end(cohort, monkeypatch):
    X, y = cohort
    whole = make(1).fit(X, y)
    monkeypatch.setattr(_raw_columns, "_AT_ONCE", 1000)
    lazy = make(1).fit(X, y)
    for name, values in whole.state_.items():
        np.testing.assert_array_equal(lazy.state_[name], values)
    np.testing.assert_array_equal(lazy.predict_proba(X), whole.predict_proba(X))


def test_search_over_what_learns_runs_and_early_stopping_holds_rows_out(cohort):
    X, y = cohort
    search = GridSearchCV(make(), {"encoder_tuning": ["frozen", 1]}, cv=2).fit(X, y)
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()
    stopped = make(1, early_stopping=True).fit(X, y)
    assert "valid_loss" in stopped.history_


def test_pipeline_of_one_hands_raw_columns_through(cohort):
    X, y = cohort
    pipeline = make_pipeline(make(1)).fit(X, y)
    np.testing.assert_array_equal(pipeline.predict_proba(X), make(1).fit(X, y).predict_proba(X))


def test_other_weights_under_the_same_name_are_refused(cohort, tmp_path):
    X, y = cohort
    folder = write_checkpoint(tmp_path / "bert", "bert")
    encoders = {"note": TextEncoder(folder, dtype="float32")}
    model = make(1, encoders=encoders).fit(X.drop(columns="cxr"), y)
    stored = pickle.dumps(model)
    write_checkpoint(folder, "bert", seed=1)
    with pytest.raises(BackboneMismatchError, match="note"):
        pickle.loads(stored).predict(X.drop(columns="cxr"))


# -- what doesn't go together ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder_tuning": 3}, "'cxr' has 2 transformer blocks|'note' has 2 transformer blocks"),
        ({"encoder_tuning": 0}, "encoder_tuning must be a whole number >= 1, 'frozen'"),
        ({"encoder_tuning": {"ecg": 1}}, r"encoder_tuning names \['ecg'\]"),
        ({"encoder_tuning": 1, "encoders": None}, "no encoder here can learn"),
        ({"encoders": {"note": "minilm"}}, "encoders must be a mapping"),
        ({"encoders": {"note": ("minilm", "note")}}, r"encoders\['note'\] must be an encoder"),
        (
            {
                "encoders": {"note": TextEncoder("standin-text", missing="zero")},
                "encoder_tuning": 1,
            },
            "missing='zero'",
        ),
        (
            {"encoders": {"cxr": SignalEncoder()}, "encoder_tuning": {"cxr": 1}},
            "no transformer that could learn",
        ),
        ({"encoder_learning_rate": 0}, "encoder_learning_rate must be a number > 0"),
        ({"token_shapes": {"note": (1, 64)}, "encoder_tuning": 1}, "token_shapes names"),
    ],
    ids=str,
)
def test_parameters_that_do_not_go_together_are_refused(cohort, changed, message):
    with pytest.raises(ParameterError, match=message):
        make(**changed).fit(*cohort)


def test_tables_that_do_not_fit_are_refused(cohort):
    X, y = cohort
    with pytest.raises(ModalityError, match=r"encoders\['cxr'\]: there is no column \['cxr'\]"):
        make().fit(X.drop(columns="cxr"), y)
    with pytest.raises(ModalityError, match="has to be a DataFrame"):
        make().fit(X.to_numpy(), y)
    with pytest.raises(ModalityError, match="columns of that prefix"):
        make().fit(X.assign(note__length=1.0), y)
    model = make().fit(X, y)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns={"labs__k": "labs__na"}))


# -- a prognosis -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tuning", ["frozen", 1])
def test_survival_reads_raw_columns_too(cohort, tuning):
    X, risk = cohort
    rng = np.random.default_rng(1)
    y = pd.DataFrame({"event": rng.random(40) < 0.7, "time": rng.exponential(2.0 - risk) + 0.1})
    model = TGMMSurvival(
        encoders=make().encoders,
        encoder_tuning=tuning,
        encoder_learning_rate=1e-3,
        max_epochs=2,
        random_state=0,
    ).fit(X, y)
    curves = model.predict_survival_function(X, return_array=True)
    assert curves.shape[0] == 40
    assert model.tuned_ == ({} if tuning == "frozen" else {"note": 1, "cxr": 1})
    single = [model.predict(X.iloc[[i]])[0] for i in (0, 3, 5)]
    np.testing.assert_allclose(single, model.predict(X)[[0, 3, 5]], atol=1e-5)


def test_both_tasks_at_once_read_raw_columns_too(cohort):
    X, risk = cohort
    rng = np.random.default_rng(1)
    y = pd.DataFrame({"hf": risk.astype(float), "event": rng.random(40) < 0.7})
    y["time"] = rng.exponential(2.0 - risk) + 0.1
    y.loc[:9, "hf"] = np.nan
    model = TGMMMultiTask(
        encoders=make().encoders, encoder_tuning={"note": "lora"}, max_epochs=2, random_state=0
    ).fit(X, y)
    assert model.tuned_ == {"note": "lora"}
    answers = model.predict(X)
    np.testing.assert_allclose(
        model.predict(X.iloc[[3]])["log_risk"], answers["log_risk"].iloc[[3]], atol=1e-5
    )
