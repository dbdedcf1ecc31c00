"""BrainAdapterClassifier on cohort tables: which columns, reading them, missing modalities."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict

from medfusion_sdk import (
    TextEncoder,
)
from medfusion_sdk.datasets import make_volume_cohort
from medfusion_sdk.encoders import _volume_inputs
from medfusion_sdk.exceptions import (
    CellFileNotFoundError,
    EncoderWarning,
    ModalityError,
    ModalityWarning,
    ParameterError,
    VolumeError,
)
from tests.estimators.brain_models import brain, volumes_and_reports


@pytest.fixture(scope="module")
def cohort():
    return volumes_and_reports()


@pytest.fixture(scope="module")
def fitted(cohort):
    return brain().fit(*cohort)


# -- which columns ------------------------------------------------------------------------------


def test_finds_its_columns_and_says_what_it_leaves_unread(cohort, fitted):
    X, y = cohort
    assert (fitted.volume_column_, fitted.report_column_) == ("mri", "report")
    assert fitted.modalities_ == ("image", "text")
    with pytest.warns(ModalityWarning, match="'age'"):
        brain().fit(X.assign(age=70.0), y)


def test_asks_which_column_where_it_could_be_two(cohort):
    X, y = cohort
    two = X.assign(follow_up=X["mri"])
    with pytest.raises(ModalityError, match="volume='mri'"):
        brain().fit(two, y)
    with pytest.raises(ModalityError, match="report='report'"):
        brain().fit(X.assign(summary=X["report"]), y)
    chosen = brain(volume="follow_up").fit(two, y)
    np.testing.assert_array_equal(chosen.predict_proba(two), brain().fit(X, y).predict_proba(X))
    with pytest.raises(ModalityError, match="no such column"):
        brain(report="note").fit(X, y)
    with pytest.raises(ModalityError, match="neither a volume nor a report"):
        brain().fit(X.assign(mri=None, report=None), y)


def test_one_modality_alone_can_be_learnt_from(cohort):
    X, y = cohort
    for column, modality, inputs in (("mri", "image", "image"), ("report", "text", "text")):
        alone = brain().fit(X[[column]], y)
        assert alone.modalities_ == (modality,)
        chosen = brain(inputs=inputs).fit(X, y)
        np.testing.assert_array_equal(alone.predict_proba(X[[column]]), chosen.predict_proba(X))
    with pytest.raises(ModalityError, match="neither a volume"):
        brain(inputs="image").fit(X[["report"]], y)
    with pytest.raises(ModalityError, match=r"inputs='image'.*volume_shape="):
        brain(inputs="image").fit(np.zeros((12, 4)), y)
    with pytest.raises(ModalityError, match="no report in any row"):
        brain(report="report").fit(X.assign(report=None), y)
    with pytest.raises(ModalityError, match="no volume that can be used"):
        brain(volume="mri").fit(X.assign(mri=None), y)


def test_image_alone_ignores_reports_entirely(cohort):
    X, y = cohort
    model = brain(inputs="image").fit(X, y)
    other = X.assign(report=[None, 3, *["anything"] * 10])
    np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(X))
    again = brain(inputs="image").fit(other, y)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_reports_encoded_before_are_the_same_reports(cohort, fitted):
    X, y = cohort
    encoder = TextEncoder("standin-text", pooling="mean", normalize=False, dtype="float32")
    names = [f"note__{i:04d}" for i in range(64)]
    block = pd.DataFrame(encoder.transform(X["report"]), columns=names, index=X.index)
    before = pd.concat([X[["mri"]], block], axis=1)
    model = brain(report="note").fit(before, y)
    np.testing.assert_allclose(
        model.decision_function(before), fitted.decision_function(X), atol=1e-5
    )
    named = brain(report=names).fit(before, y)
    np.testing.assert_array_equal(named.predict_proba(before), model.predict_proba(before))


def test_flattened_volumes_are_the_volumes(cohort, fitted):
    X, y = cohort
    flat = np.stack([volume.ravel() for volume in X["mri"]])
    names = [f"mri__{i}" for i in range(flat.shape[1])]
    block = pd.DataFrame(flat, columns=names, index=X.index).assign(report=X["report"])
    model = brain(volume="mri", volume_shape=(16, 32, 32)).fit(block, y)
    np.testing.assert_allclose(model.predict_proba(block), fitted.predict_proba(X), atol=1e-6)
    numbers = brain(volume_shape=(16, 32, 32)).fit(flat, y)
    alone = brain(inputs="image", dtype="float64").fit(X, y)
    np.testing.assert_allclose(numbers.predict_proba(flat), alone.predict_proba(X), atol=1e-5)
    with pytest.raises(ParameterError, match="volume_shape"):
        brain(volume_shape=(16, 32, 31)).fit(flat, y)


# -- reading ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bids")
    made = make_volume_cohort(12, size=(16, 32, 32), random_state=0, folder=folder)
    return made.data[["mri", "report"]]


def test_nifti_files_in_any_layout_are_the_arrays_that_they_hold(cohort, fitted, files):
    np.testing.assert_allclose(
        fitted.predict_proba(files), fitted.predict_proba(cohort[0]), atol=1e-5
    )


def test_reading_batch_by_batch_or_from_a_cache_gives_the_same_bits(
    cohort, files, monkeypatch, tmp_path
):
    kept = brain(batch_size=4).fit(files, cohort[1])
    monkeypatch.setattr(_volume_inputs, "KEPT_BYTES", 0)
    most = []
    read = _volume_inputs.VolumeInputs.read

    def counted(self, column, rows):
        most.append(len(rows))
        return read(self, column, rows)

    monkeypatch.setattr(_volume_inputs.VolumeInputs, "read", counted)
    lazy = brain(batch_size=4).fit(files, cohort[1])
    assert max(most) == 4
    assert sum(most) == 12 * 3  # two epochs, and once before for the scale of the read-outs
    cached = brain(batch_size=4, cache=tmp_path / "cache").fit(files, cohort[1])
    for other in (lazy, cached):
        assert all(np.array_equal(kept.state_[k], v) for k, v in other.state_.items())
    found = cached.predict_proba(files)
    np.testing.assert_array_equal(found, kept.predict_proba(files))
    monkeypatch.setattr(_volume_inputs, "read_volume", None)  # nothing is read again
    np.testing.assert_array_equal(cached.predict_proba(files), found)


def test_bad_volumes_are_told_before_training_or_count_as_missing(cohort, files, tmp_path):
    y = cohort[1]
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(Path(files["mri"].iloc[0]).read_bytes()[:500])
    bad = files.copy()
    bad.index = [f"p{i}" for i in range(12)]
    bad.loc["p3", "mri"] = str(cut)
    with pytest.raises(VolumeError, match=r"row 'p3', column 'mri'.*cut off"):
        brain().fit(bad, y)
    bad.loc["p7", "mri"] = str(tmp_path / "gone.nii")
    with pytest.raises(CellFileNotFoundError, match="row 'p7'"):
        brain().fit(bad.drop("p3"), np.delete(y, 3))
    with pytest.warns(EncoderWarning, match="2 of 12 cells"):
        model = brain(on_error="missing").fit(bad, y)
    assert model.errors_.index.tolist() == ["p3", "p7"]
    assert model.errors_["error"].tolist() == ["VolumeError", "CellFileNotFoundError"]
    none = bad.assign(mri=bad["mri"].where(~bad.index.isin(["p3", "p7"]), None))
    without = brain().fit(none, y)
    np.testing.assert_array_equal(without.predict_proba(none), model.predict_proba(none))


def test_volumes_of_other_sizes_are_refused_until_a_size_is_set(cohort):
    X, y = cohort
    odd = X.copy()
    odd.at[5, "mri"] = np.asarray(X["mri"].iloc[5])[:, :30]
    with pytest.raises(VolumeError, match=r"row 5.*\(16, 32, 32\).*\(16, 30, 32\).*volume_size="):
        brain().fit(odd, y)
    model = brain(volume_size=(20, 32, 36)).fit(odd, y)
    assert model.architecture_["network"]["volume_size"] == (20, 32, 36)
    with pytest.raises(ParameterError, match=r"volume_size=\(8, 32, 32\) must be at least"):
        brain(volume_size=(8, 32, 32)).fit(X, y)


def test_volumes_smaller_than_the_encoder_reads_are_enlarged(cohort):
    X, y = cohort
    small = X.assign(mri=[np.asarray(volume)[::2] for volume in X["mri"]])
    model = brain().fit(small, y)
    assert model.architecture_["network"]["volume_size"] == (16, 32, 32)


# -- rows ---------------------------------------------------------------------------------------


def test_predictions_depend_on_the_row_alone(cohort, fitted):
    X = cohort[0]
    whole = fitted.predict_proba(X)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(fitted.predict_proba(X.iloc[order]), whole[order], atol=1e-5)
    one_by_one = [fitted.predict_proba(X.iloc[[i]])[0] for i in range(4)]
    np.testing.assert_allclose(one_by_one, whole[:4], atol=1e-5)
    small = pickle.loads(pickle.dumps(fitted)).set_params(batch_size=5)
    np.testing.assert_allclose(small.predict_proba(X), whole, atol=1e-5)


def test_rows_may_lack_a_modality_but_not_both(cohort, fitted):
    X, y = cohort
    whole = fitted.predict_proba(X)
    lacking = X.copy()
    lacking.loc[0, "report"] = None
    lacking.at[1, "mri"] = None
    found = fitted.predict_proba(lacking)
    assert np.abs(found[:2] - whole[:2]).max() > 1e-4
    np.testing.assert_allclose(found[2:], whole[2:], atol=1e-5)
    learnt = brain().fit(lacking, y)
    names = {f"network.absences.{name}" for name in ("image", "text")}
    assert names <= set(learnt.state_)
    assert all(np.abs(learnt.state_[name]).max() > 0 for name in names)
    assert np.isfinite(learnt.predict_proba(X)).all()
    for column in X.columns:
        with pytest.warns(ModalityWarning, match=column):
            fitted.predict(X.head(4).assign(**{column: None}))
    lacking.at[0, "mri"] = None
    with pytest.raises(ModalityError, match="neither volume nor report: 0"):
        fitted.predict_proba(lacking)
    with pytest.raises(ModalityError, match="no volume: 1"):
        brain(inputs="image").fit(lacking.iloc[1:], y[1:])


def test_rows_of_one_person_are_told_apart_only_without_a_subject(cohort):
    X, y = cohort
    named = X.assign(person=[f"p{i // 4}" for i in range(12)])
    apart = brain(subject="person").fit(named, y)
    plain = brain().fit(X, y)
    assert apart.history_["train_contrastive"].iloc[0] < plain.history_["train_contrastive"].iloc[0]
    everyone = brain(subject="person").fit(named.assign(person="p0"), y)
    np.testing.assert_allclose(everyone.history_["train_contrastive"], 0, atol=1e-7)
    nobody = brain(subject="person").fit(named.assign(person=None), y)
    np.testing.assert_array_equal(
        nobody.predict_proba(named.assign(person=None)), plain.predict_proba(X)
    )
    with pytest.raises(ModalityError, match="no such column"):
        brain(subject="nobody").fit(X, y)


def test_runs_in_a_grid_search_and_cross_validation(cohort):
    X, y = cohort
    quick = brain(adapter="none", max_epochs=1)
    search = GridSearchCV(quick, {"proj_dim": [4, 8]}, cv=2, n_jobs=2).fit(X, y)
    assert search.cv_results_["mean_test_score"].shape == (2,)
    labels = np.column_stack([y, 1 - y, np.arange(12) % 2])
    proba = cross_val_predict(quick, X, labels, cv=2, method="predict_proba")
    assert proba.shape == (12, 3)
    assert clone(quick).get_params() == quick.get_params()


def test_tables_that_do_not_fit_the_fitted_one_are_refused(fitted):
    with pytest.raises(ModalityError, match="DataFrame"):
        fitted.predict(np.zeros((2, 2)))
