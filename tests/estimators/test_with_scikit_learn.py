"""The estimators inside scikit-learn's tools, and against the known optimum of a cohort."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.inspection import permutation_importance
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import SkipMissing, make_modality_transformer
from medfusion_sdk.datasets import make_multimodal_cohort
from tests.estimators.cohorts import adacomed, cohort, small

BOTH = pytest.mark.parametrize("make", [small, adacomed], ids=["small", "adacomed"])


@pytest.fixture(scope="module")
def patients():
    """Cohort table of notes and numbers, several rows a patient, some notes missing."""
    rng = np.random.default_rng(0)
    y = np.repeat(rng.integers(0, 2, 30), 2)
    words = np.where(y[:, None] == 1, ["st elevation", "ischemia"], ["sinus rhythm", "normal"])
    notes = [" ".join(rng.permutation([*row, "twelve leads"])) for row in words]
    X = pd.DataFrame({"note": notes, "age": rng.normal(60, 9, 60), "bmi": rng.normal(25, 3, 60)})
    X.loc[::7, "note"] = None
    return X, y, np.repeat(np.arange(30), 2)


def pipeline(model):
    encode = make_modality_transformer(
        note=(SkipMissing(TfidfVectorizer()), "note"), labs=(StandardScaler(), ["age", "bmi"])
    )
    return Pipeline([("encode", encode), ("fuse", model)])


def test_grid_over_strategies_and_ablations_runs_in_two_processes(patients):
    X, y, groups = patients
    grid = {
        "fuse__strategy": ["inverse", "small_only"],
        "encode__labs": ["drop", StandardScaler()],
    }
    search = GridSearchCV(
        pipeline(adacomed(max_epochs=20)),
        grid,
        cv=StratifiedGroupKFold(2),
        scoring="roc_auc",
        n_jobs=2,
        error_score="raise",
    )
    noted = X["note"].notna()  # without the note, "drop" would leave rows with nothing
    search.fit(X[noted], y[noted], groups=groups[noted])
    assert search.best_score_ > 0.9
    assert len(search.cv_results_["params"]) == 4


@BOTH
def test_out_of_fold_probabilities_with_patients_kept_together(patients, make):
    X, y, groups = patients
    proba = cross_val_predict(
        pipeline(make(max_epochs=30)),
        X,
        y,
        groups=groups,
        cv=StratifiedGroupKFold(3),
        method="predict_proba",
    )
    present = X["note"].notna()
    assert roc_auc_score(y[present], proba[present, 1]) > 0.9


@BOTH
def test_calibration_wraps_the_estimator(make):
    made = make_multimodal_cohort(80, n_features=4, random_state=0)
    calibrated = CalibratedClassifierCV(make(max_epochs=15), cv=2).fit(made.data, made.target)
    np.testing.assert_allclose(calibrated.predict_proba(made.data).sum(axis=1), 1.0)


@BOTH
def test_permuting_a_cohort_column_ranks_the_modality_that_tells(patients, make):
    X, y, _ = patients
    model = pipeline(make(max_epochs=30)).fit(X, y)
    importance = permutation_importance(
        model, X, y, scoring="roc_auc", n_repeats=3, random_state=0
    ).importances_mean
    assert importance.argmax() == list(X).index("note")


@BOTH
def test_pandas_output_of_transform_has_names_and_index(make):
    made = make_multimodal_cohort(40, n_features=4, random_state=0)
    X = made.data.set_axis([f"p{i}" for i in range(40)])
    model = make().set_output(transform="pandas").fit(X, made.target)
    table = model.transform(X)
    assert list(table) == list(model.get_feature_names_out())
    assert list(table.index) == list(X.index)
    assert table.shape == (40, 24)


def scores(make, **signal):
    """Held-out AUROC of all modalities together and of each alone, with their optima."""
    made = make_multimodal_cohort(1200, n_features=4, random_state=0, **signal)
    columns = {"all": list(made.data), **made.columns}
    fitting, held = slice(0, 400), slice(400, None)
    reached = {}
    for name, chosen in columns.items():
        model = make(max_epochs=80).fit(made.data[chosen].iloc[fitting], made.target.iloc[fitting])
        proba = model.predict_proba(made.data[chosen].iloc[held])[:, 1]
        reached[name] = roc_auc_score(made.target.iloc[held], proba)
    return reached, made.optimum["auroc"]


@BOTH
def test_fusion_beats_every_modality_where_each_knows_something_of_its_own(make):
    reached, optimum = scores(make, shared=0.5, private=1.2)
    best_alone = max(value for name, value in reached.items() if name != "all")
    assert reached["all"] > best_alone + 0.05
    # Within reach of what no classifier can pass.
    assert optimum["ecg+note+labs"] - 0.05 < reached["all"] < optimum["ecg+note+labs"] + 0.02


@BOTH
def test_fusion_gains_nothing_where_all_modalities_tell_the_same(make):
    reached, optimum = scores(make, shared=1.5, private=0.0, noise=0.0)
    alone = [value for name, value in reached.items() if name != "all"]
    assert abs(reached["all"] - max(alone)) < 0.02
    assert reached["all"] < optimum["ecg+note+labs"] + 0.02


@pytest.mark.parametrize("make", [small, adacomed])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_every_epoch_are_those_of_the_model_stopped_there(make, weighted):
    callback = pytest.importorskip("sklearn.callback", reason="came with scikit-learn 1.9")
    # More columns than rows: trained in the span of the rows, which callbacks must not see.
    X, y = cohort(40, n_features=60)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y)) if weighted else None
    monitor = callback.ScoringMonitor(scoring="neg_log_loss")
    model = make(max_epochs=3, warm_start=True).set_callbacks(monitor)
    for _ in range(2):  # the second fit goes on from a module that is at hand
        model.fit(X, y, sample_weight=weight)
    logs = monitor.get_logs().data_as_pandas
    scores = logs["neg_log_loss"].to_numpy()
    assert len(scores) == 4
    expected = -log_loss(y, model.predict_proba(X), sample_weight=weight)
    assert scores[-1] == pytest.approx(expected, rel=1e-9)
    assert len(set(scores[:3].round(9))) == 3
