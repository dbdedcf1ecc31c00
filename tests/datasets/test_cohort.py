"""Generated cohorts: the stated optimum is the optimum, by theory and by trained classifiers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.signal import find_peaks
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from medfusion_sdk.datasets import make_multimodal_cohort
from medfusion_sdk.exceptions import ModalityError, ParameterError
from medfusion_sdk.metrics import bootstrap_interval, macro_auroc

UNEVEN = {
    "modalities": ["ecg", "note", "labs"],
    "shared": {"ecg": 1.2, "note": 0.6, "labs": 0.0},
    "private": {"ecg": 0.0, "note": 0.9, "labs": 0.5},
    "noise": {"ecg": 0.3, "note": 0.7, "labs": 1.0},
}
SUBSETS = ["ecg", "note", "labs", "ecg+note", "ecg+labs", "note+labs", "ecg+note+labs"]


def columns_of(cohort, subset):
    return [column for name in subset.split("+") for column in cohort.columns[name]]


def fitted_proba(cohort, subset, n_train):
    """Probabilities by discriminant analysis on the other rows, which is optimal here."""
    X, y = cohort.data[columns_of(cohort, subset)], cohort.target
    model = LinearDiscriminantAnalysis().fit(X[:n_train], y[:n_train])
    return model.predict_proba(X[n_train:])


# -- the optimum


def test_optimum_equals_the_mahalanobis_formula_with_explicit_covariances():
    names = UNEVEN["modalities"]
    optimum = make_multimodal_cohort(50, **UNEVEN, random_state=0).optimum
    assert optimum.index.to_list() == [*SUBSETS, "available"]
    loading = np.array([1.0, 0.5, 0.0])
    for size in (1, 2, 3):
        for subset in combinations(range(3), size):
            noise = [UNEVEN["noise"][names[i]] ** 2 for i in subset]
            mean = [1.2 * loading[i] for i in subset] + [
                UNEVEN["private"][names[i]] for i in subset
            ]
            covariance = np.diag(noise + [1 + value for value in noise])
            covariance[:size, :size] += np.outer(loading[list(subset)], loading[list(subset)])
            distance = np.sqrt(mean @ np.linalg.solve(covariance, mean))
            row = optimum.loc["+".join(names[i] for i in subset)]
            assert row["auroc"] == pytest.approx(norm.cdf(distance / np.sqrt(2)), abs=1e-12)
            assert row["accuracy"] == pytest.approx(norm.cdf(distance / 2), abs=1e-12)


def test_trained_classifier_reaches_the_optimum_of_every_subset_and_no_more():
    n_train, n_test = 12_000, 12_000
    cohort = make_multimodal_cohort(n_train + n_test, **UNEVEN, random_state=0)
    y = cohort.target[n_train:]
    for subset in SUBSETS:
        score = fitted_proba(cohort, subset, n_train)[:, 1]
        interval = bootstrap_interval(macro_auroc, y, score, n_resamples=50, random_state=0)
        assert abs(interval.estimate - cohort.optimum.loc[subset, "auroc"]) < (
            4 * interval.standard_error
        )


@pytest.mark.parametrize("missing", [0.0, 0.35])
@pytest.mark.parametrize("prevalence", [0.5, 0.15])
@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_true_posterior_reaches_the_stated_optimum(task, prevalence, missing):
    cohort = make_multimodal_cohort(
        20_000, **UNEVEN, task=task, prevalence=prevalence, missing=missing, random_state=1
    )
    best, y, proba = cohort.optimum.loc["available"], cohort.target, cohort.bayes_proba
    predicted = proba.argmax(axis=1) if task == "classification" else proba > 0.5
    interval = bootstrap_interval(macro_auroc, y, proba, n_resamples=50, random_state=0)
    assert abs(interval.estimate - best["auroc"]) < 4 * interval.standard_error
    accuracy = accuracy_score(y, predicted)
    assert abs(accuracy - best["accuracy"]) < 4 * np.sqrt(accuracy * (1 - accuracy) / len(y))


def test_true_posterior_is_calibrated():
    cohort = make_multimodal_cohort(40_000, **UNEVEN, missing=0.3, prevalence=0.3, random_state=2)
    score = cohort.bayes_proba[:, 1]
    for tenth in np.array_split(np.argsort(score), 10):
        expected = score[tenth].mean()
        error = np.sqrt(expected * (1 - expected) / len(tenth))
        assert abs(cohort.target.to_numpy()[tenth].mean() - expected) < 4 * error


def test_accuracy_of_several_classes_reaches_the_stated_optimum():
    n_train, n_test = 12_000, 12_000
    cohort = make_multimodal_cohort(n_train + n_test, n_classes=4, random_state=0)
    y = cohort.target[n_train:]
    assert cohort.optimum.columns.to_list() == ["accuracy"]
    for subset in ("ecg", "ecg+note+labs"):
        reached = accuracy_score(y, fitted_proba(cohort, subset, n_train).argmax(axis=1))
        best = cohort.optimum.loc[subset, "accuracy"]
        assert abs(reached - best) < 4 * np.sqrt(best * (1 - best) / n_test)
    truly = accuracy_score(cohort.target, cohort.bayes_proba.argmax(axis=1))
    best = cohort.optimum.loc["available", "accuracy"]
    assert abs(truly - best) < 4 * np.sqrt(best * (1 - best) / len(cohort.target))


def test_classes_without_signal_can_only_be_guessed():
    nothing = {"shared": 0.0, "private": 0.0}
    two = make_multimodal_cohort(40, **nothing, prevalence=0.3, random_state=0)
    assert two.optimum.loc["available"].to_list() == pytest.approx([0.5, 0.7])
    five = make_multimodal_cohort(40, **nothing, n_classes=5, random_state=0)
    assert five.optimum.loc["available", "accuracy"] == pytest.approx(0.2)


def test_fusion_has_something_to_gain_where_modalities_have_signal_of_their_own():
    optimum = make_multimodal_cohort(40, shared=0.0, private=1.0, random_state=0).optimum
    assert optimum.loc["ecg+note+labs", "auroc"] > optimum.loc["ecg+note", "auroc"] + 0.03
    assert optimum.loc["ecg+note", "auroc"] > optimum.loc["ecg", "auroc"] + 0.03


def test_fusion_has_nothing_to_gain_where_all_modalities_tell_the_same():
    cohort = make_multimodal_cohort(9000, private=0.0, noise=0.0, random_state=0)
    np.testing.assert_allclose(cohort.optimum["auroc"], norm.cdf(1 / np.sqrt(2)), atol=1e-9)
    one, all_three = (
        roc_auc_score(cohort.target[4500:], fitted_proba(cohort, subset, 4500)[:, 1])
        for subset in ("ecg", "ecg+note+labs")
    )
    assert abs(one - all_three) < 0.005


def test_modality_that_sees_no_signal_adds_nothing():
    blind = {"ecg": 1.0, "note": 1.0, "labs": 0.0}
    optimum = make_multimodal_cohort(40, shared=blind, private=blind, random_state=0).optimum
    assert optimum.loc["labs", "auroc"] == 0.5
    assert optimum.loc["ecg+note", "auroc"] == optimum.loc["ecg+note+labs", "auroc"]


# -- missing modalities, patients


@pytest.mark.parametrize("missing", [0.2, 0.66, {"ecg": 0.9, "note": 0.9, "labs": 0.1}])
def test_missing_shares_are_met_exactly_and_no_row_lacks_all(missing):
    cohort = make_multimodal_cohort(200, missing=missing, random_state=0)
    shares = missing if isinstance(missing, dict) else dict.fromkeys(cohort.modalities, missing)
    assert (~cohort.present).sum().to_dict() == {
        name: round(share * 200) for name, share in shares.items()
    }
    assert cohort.present.any(axis=1).all()
    for name, columns in cohort.columns.items():
        block = cohort.data[columns]
        np.testing.assert_array_equal(block.notna().all(axis=1), cohort.present[name])
        np.testing.assert_array_equal(block.isna().all(axis=1), ~cohort.present[name])


def test_missing_modalities_tell_nothing_about_the_target():
    cohort = make_multimodal_cohort(20_000, missing=0.6, random_state=0)
    for name in cohort.modalities:
        rates = cohort.target.groupby(cohort.present[name]).mean()
        assert abs(rates[True] - rates[False]) < 4 * np.sqrt(0.25 / 8000 + 0.25 / 12_000)


def test_split_by_row_flatters_where_patients_repeat_and_split_by_patient_does_not():
    cohort = make_multimodal_cohort(
        600, n_groups=100, shared=0.3, private=0.3, random_state=0, modalities=["labs"]
    )
    assert cohort.groups.nunique() == 100
    assert (cohort.target.groupby(cohort.groups).nunique() == 1).all()
    model = KNeighborsClassifier(3)

    def score(splitter, groups=None):
        options = {"groups": groups, "cv": splitter, "scoring": "roc_auc"}
        return cross_val_score(model, cohort.data, cohort.target, **options).mean()

    best = cohort.optimum.loc["labs", "auroc"]
    assert score(KFold(5, shuffle=True, random_state=0)) > best + 0.15
    assert score(GroupKFold(5), cohort.groups) < best + 0.05


def test_targets_meet_the_prevalence():
    two = make_multimodal_cohort(200, prevalence=0.15, random_state=0)
    assert two.target.sum() == 30
    labels = make_multimodal_cohort(
        200, task="multilabel", n_classes=3, prevalence=0.15, random_state=0
    )
    assert labels.target.sum().to_list() == [30, 30, 30]
    assert labels.bayes_proba.shape == (200, 3)
    classes = make_multimodal_cohort(200, n_classes=4, random_state=0)
    assert classes.target.value_counts().to_list() == [50] * 4


# -- tables


def test_block_table_has_named_float32_blocks():
    cohort = make_multimodal_cohort(
        20, n_features={"ecg": 12, "note": 5, "labs": 2}, random_state=0
    )
    names = cohort.data.columns.str.split("__").str[0].value_counts(sort=False).to_dict()
    assert names == {"ecg": 12, "note": 5, "labs": 2}
    assert cohort.data.columns[0] == "ecg__0000"
    assert set(cohort.data.dtypes) == {np.dtype("float32")}
    assert cohort.columns["labs"] == ["labs__0000", "labs__0001"]


def test_raw_cohort_has_cells_of_the_kinds_and_the_same_rows():
    options = {"n_samples": 30, "missing": 0.2, "random_state": 0}
    raw, blocks = make_multimodal_cohort(**options, as_raw=True), make_multimodal_cohort(**options)
    assert raw.columns["ecg"] == "ecg"
    assert raw.columns["note"] == "note"
    assert raw.columns["labs"] == [f"labs_{number:04d}" for number in range(16)]
    signals = raw.data["ecg"].dropna()
    assert {(cell.shape, str(cell.dtype), cell.flags.writeable) for cell in signals} == {
        ((12, 1000), "float32", False)
    }
    assert all(isinstance(note, str) and note.endswith(".") for note in raw.data["note"].dropna())
    for name in ("ecg", "note"):
        np.testing.assert_array_equal(raw.data[name].notna(), raw.present[name])
    # The same cohort in another form.
    assert raw.target.equals(blocks.target)
    assert raw.present.equals(blocks.present)
    np.testing.assert_array_equal(
        raw.data[raw.columns["labs"]], blocks.data[blocks.columns["labs"]]
    )


def mean_beats(signals):
    """Average beat of each signal around its R peaks, by a detector of the test's own."""
    beats = []
    for signal in signals:
        peaks, _ = find_peaks(signal[1], height=0.4, distance=40)
        peaks = peaks[(peaks > 30) & (peaks < 950)]
        assert 7 <= len(peaks) <= 16
        beats.append(np.mean([signal[:, peak - 30 : peak + 50 : 4] for peak in peaks], axis=0))
    return np.array(beats).reshape(len(beats), -1)


def test_raw_signals_and_notes_tell_nearly_what_the_optimum_says():
    cohort = make_multimodal_cohort(1200, as_raw=True, shared=1.5, random_state=0)
    y, best = cohort.target, cohort.optimum["auroc"]
    notes = CountVectorizer(tokenizer=lambda note: note.split(". "), token_pattern=None)
    text = make_pipeline(notes, LogisticRegression())
    signal = LogisticRegression(C=0.1, max_iter=500)
    for name, model, X in [
        ("note", text, cohort.data["note"].str.rstrip(".")),
        ("ecg", signal, mean_beats(cohort.data["ecg"])),
    ]:
        reached = cross_val_score(model, X, y, scoring="roc_auc", cv=4).mean()
        assert best[name] - 0.04 < reached < best[name] + 0.03


def test_modalities_take_any_names_and_kinds():
    kinds = {"holter": "signal", "letter": "text", "echo_report": "text"}
    cohort = make_multimodal_cohort(10, modalities=kinds, as_raw=True, random_state=0)
    assert cohort.data.columns.to_list() == list(kinds)
    assert cohort.modalities == kinds
    assert (cohort.data["letter"] != cohort.data["echo_report"]).all()


# -- randomness


def test_same_seed_gives_the_same_cohort_and_global_state_is_untouched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two, other = (
        make_multimodal_cohort(20, missing=0.3, random_state=seed) for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(one.data, two.data, check_exact=True)
    np.testing.assert_array_equal(one.bayes_proba, two.bayes_proba)
    assert not one.target.equals(other.target)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_missing_leaves_targets_and_remaining_values_alone():
    whole, holed = (
        make_multimodal_cohort(50, missing=share, random_state=0) for share in (0.0, 0.4)
    )
    assert whole.target.equals(holed.target)
    left = holed.data.notna().to_numpy()
    np.testing.assert_array_equal(whole.data.to_numpy()[left], holed.data.to_numpy()[left])


# -- refusals


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"modalities": {"ecg": "video"}}, ModalityError, "kind 'video'"),
        ({"modalities": ["ecg__1"]}, ModalityError, "'ecg__1' can't name"),
        ({"modalities": []}, ModalityError, "0 modalities"),
        ({"shared": {"ecg": 1}}, ModalityError, r"shared names \['ecg'\]"),
        ({"noise": -1}, ParameterError, "noise=-1"),
        ({"missing": 0.7}, ParameterError, "sum to 2 at most"),
        ({"missing": {"ecg": 1.0, "note": 0, "labs": 0}}, ParameterError, "below 1"),
        ({"task": "regression"}, ParameterError, "task='regression'"),
        ({"n_classes": 1}, ParameterError, "n_classes=1"),
        ({"prevalence": 1.5}, ParameterError, "prevalence=1.5"),
        ({"prevalence": 0.3, "n_classes": 3}, ParameterError, "equally frequent"),
        ({"n_groups": 500}, ParameterError, "n_groups=500 for n_samples=40"),
        ({"n_features": 3, "n_classes": 3}, ParameterError, "4 or more are needed"),
        ({"n_classes": 12, "as_raw": True}, ParameterError, "Use as_raw=False"),
    ],
)
def test_impossible_cohorts_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        make_multimodal_cohort(40, **options)
