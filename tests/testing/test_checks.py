"""Every check passes on an estimator that keeps its promise, and fails on one that breaks it."""

from __future__ import annotations

from unittest import SkipTest

import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from medfusion_sdk import (
    AdaCoMedClassifier,
    AMFNClassifier,
    SmallMultimodalClassifier,
    TGMMClassifier,
)
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.testing import check_multimodal_estimator, multimodal_checks
from tests.testing import toys

CHECKS = multimodal_checks()
OURS = (
    AMFNClassifier(max_epochs=10, ensemble_size=1, learning_rate=5e-3),
    SmallMultimodalClassifier(max_epochs=4),
    AdaCoMedClassifier(max_epochs=4),
    AdaCoMedClassifier(
        max_epochs=4,
        hidden_dim=16,
        freeze_small=False,
        attention="concat",
        similarity_scope="sample",
    ),
    TGMMClassifier(max_epochs=8, d_model=16),
)
NAMES = ["amfn", "small", "adacomed", "adacomed-trained", "tgmm"]
BROKEN = {
    "check_absent_block_ignores_its_zero_point": (toys.FillsWithZero, "zero point"),
    "check_absent_block_ignores_other_rows": (toys.FillsWithTableMean, "notes of other rows"),
    "check_balanced_class_weight_is_sample_weight": (toys.BalancesOtherwise, "balanced"),
    "check_batch_size_at_predict_is_irrelevant": (toys.NormalisesEachBatch, "batch_size=1"),
    "check_block_order_is_irrelevant": (toys.ReadsFirstBlockOnly, "another order changed"),
    "check_clone_of_fitted_fits_alike": (toys.CountsItsClones, "fits to something else"),
    "check_column_names_must_match": (toys.IgnoresNames, "renamed columns"),
    "check_explain_covers_rows_and_modalities": (
        toys.ExplainsPresentOnly,
        "more lines",
    ),
    "check_float32_agrees_with_float64": (toys.RoundsSinglePrecision, "float32 input"),
    "check_global_generators_are_untouched": (toys.SeedsGlobally, ": random$"),
    "check_input_is_not_modified": (toys.FillsTheCallersTable, "X after fit"),
    "check_integer_weights_are_repeated_rows": (toys.SquaresWeights, "isn't two rows"),
    "check_missing_markers_agree": (toys.NoNullableColumns, "pandas.NA"),
    "check_modality_absent_at_predict": (toys.DividesByPresentRows, "aren't finite without ecg"),
    "check_modality_missing_in_training_is_told": (
        toys.KeepsSilentOnLostModality,
        "neither an error",
    ),
    "check_multilabel_probabilities": (toys.LabelsCompete, "labels compete"),
    "check_one_row_equals_batch": (toys.BatchNorm, "a row alone differs"),
    "check_parameters_are_not_modified": (toys.ChangesItsParameters, "changed a parameter"),
    "check_pickle_holds_no_live_module": (toys.KeepsItsModule, "refers to .*torch"),
    "check_pickle_predicts_alike": (toys.ForgetsOnPickling, "loaded pickle"),
    "check_probabilities_are_distributions": (toys.Unnormalised, "don't sum to 1"),
    "check_read_only_input_is_accepted": (toys.WritesIntoArray, "read-only"),
    "check_refit_forgets": (toys.Remembers, "second fit depends"),
    "check_row_order_at_predict_is_irrelevant": (toys.SmoothsOverNeighbours, "rows' order"),
    "check_row_without_modality_raises": (toys.AcceptsEmptyRows, "fit took a row"),
    "check_same_seed_same_fit_whatever_global_seeds": (toys.DrawsGlobally, "equally seeded fits"),
    "check_single_missing_values_are_handled": (toys.PassesHolesOn, "with single missing values"),
    "check_small_model_is_frozen": (toys.TrainsItsSmallModel, "small model was changed"),
    "check_state_is_arrays": (toys.KeepsTensors, "not a numeric array"),
    "check_string_labels_and_column_order": (toys.FirstSeenFirst, "not sorted"),
    "check_thread_settings_are_untouched": (toys.SetsThreads, "get_num_threads"),
    "check_transform_is_named_and_finite": (toys.NamesTooFew, "columns have"),
    "check_zero_weight_rows_are_removed_rows": (toys.ScalesOnAllRows, "left a trace"),
}


@pytest.fixture(autouse=True)
def _threads_given_back():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "estimator", OURS, ids=["amfn", "small", "adacomed", "adacomed-trained", "tgmm"]
)
@pytest.mark.parametrize("name", CHECKS)
def test_our_estimator_passes_check(name, estimator):
    if name == "check_small_model_is_frozen" and not hasattr(estimator, "small"):
        with pytest.raises(SkipTest, match="no parameter small"):
            CHECKS[name](estimator)
    else:
        CHECKS[name](estimator)


def test_sound_toy_passes_every_check_that_applies():
    records = check_multimodal_estimator(toys.LinearToy())
    skipped = [record["check_name"] for record in records if record["status"] == "skipped"]
    assert skipped == ["check_small_model_is_frozen"]
    assert len(records) == len(CHECKS)


def test_every_check_has_a_broken_toy():
    assert set(BROKEN) == set(CHECKS)


# A toy within a toy reads its columns as an array.
@pytest.mark.filterwarnings("ignore:.*columns without names")
@pytest.mark.parametrize("name", BROKEN)
def test_broken_toy_fails_its_check(name):
    toy, complaint = BROKEN[name]
    # Writing into a read-only array is NumPy's own ValueError; all else is the check's finding.
    with pytest.raises((AssertionError, ValueError), match=complaint):
        CHECKS[name](toy())


def test_error_that_names_another_row_fails_the_check():
    with pytest.raises(AssertionError, match="doesn't name row 7"):
        CHECKS["check_row_without_modality_raises"](toys.CallsEveryEmptyRowTheFirst())


def test_runner_told_to_go_on_records_every_failure():
    records = check_multimodal_estimator(toys.BatchNorm(), on_fail=None)
    failed = {record["check_name"] for record in records if record["status"] == "failed"}
    assert "check_one_row_equals_batch" in failed
    assert "check_pickle_predicts_alike" not in failed
    assert all(isinstance(r["exception"], Exception) for r in records if r["status"] != "passed")


def test_runner_told_to_raise_names_check_and_estimator():
    with pytest.raises(AssertionError) as caught:
        check_multimodal_estimator(toys.Unnormalised())
    assert "Unnormalised()" in caught.value.__notes__[0]
    assert "check_" in caught.value.__notes__[0]


def test_runner_asked_for_unknown_mode_says_which_there_are():
    with pytest.raises(ParameterError, match="'raise' or None"):
        check_multimodal_estimator(toys.LinearToy(), on_fail="warn")


def test_pipeline_is_an_estimator_too():
    same = FunctionTransformer(feature_names_out="one-to-one").set_output(transform="pandas")
    CHECKS["check_one_row_equals_batch"](make_pipeline(same, toys.LinearToy()))
