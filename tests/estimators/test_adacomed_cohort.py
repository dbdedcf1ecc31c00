"""AdaCoMed on a cohort table: large makes its blocks, small reads its cells."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from medfusion_sdk import (
    AdaCoMedClassifier,
    SkipMissing,
    SmallMultimodalClassifier,
    make_modality_transformer,
)
from medfusion_sdk.exceptions import MedFusionError, ModalityError
from tests.estimators.adacomed_cohorts import (
    LABS,
    QUICK,
    adacomed,
    assert_same_state,
    blocks,
    labs,
    raw_cohort,
    small,
)
from tests.estimators.cohorts import quantity


@pytest.fixture(scope="module")
def cohort():
    return raw_cohort()


@pytest.fixture(scope="module")
def fitted(cohort):
    return adacomed().fit(*cohort)


# -- what is learnt ------------------------------------------------------------------------------


def test_cohort_table_equals_blocks_made_by_hand_and_fitted(cohort):
    X, y = cohort
    fitted = adacomed(calibrate=False).fit(X, y)  # whose folds follow the cells' content
    by_hand = pd.concat([blocks().fit_transform(X), labs().fit_transform(X)], axis=1)
    paths = {"large_modalities": ["ecg", "note"], "small_modalities": ["labs"]}
    # "auto" is another strategy where the small model reads blocks.
    expected = AdaCoMedClassifier(small=small(), strategy="ensemble", **paths, **QUICK)
    expected.set_params(calibrate=False).fit(by_hand, y)
    assert_same_state(expected.state_, fitted.state_)
    assert_same_state(expected.small_.state_, fitted.small_[-1].state_)
    for method in ("predict_proba", "transform", "decision_function"):
        np.testing.assert_array_equal(
            getattr(fitted, method)(X), getattr(expected, method)(by_hand), err_msg=method
        )
    pd.testing.assert_frame_equal(fitted.explain(X), expected.explain(by_hand))


def test_paths_count_alike_where_the_small_one_reads_cells(cohort, fitted):
    X, y = cohort
    told = fitted.explain(X)
    both = told[told["quantity"].isin(["w_large", "w_small"])]
    assert (both["value"] == 0.5).mean() > 0.5  # a row without cells or blocks has one path
    values = blocks().fit_transform(X)
    complete = values.notna().all(axis=1).to_numpy()
    on_blocks = AdaCoMedClassifier(small=small(), **QUICK).fit(values[complete], y[complete])
    w_large = on_blocks.explain(values[complete]).query("quantity == 'w_large'")["value"]
    assert (w_large < 0.4).all()  # gaussian's most is 0.394


def test_small_pipeline_equals_the_same_pipeline_fitted_alone(cohort, fitted):
    X, y = cohort
    rows = X[LABS].notna().any(axis=1).to_numpy()
    encode = labs().fit(X)
    # Within, the two paths are calibrated together.
    alone = small(calibrate=False).fit(encode.transform(X[rows]), y[rows])
    assert_same_state(alone.state_, fitted.small_[-1].state_)
    np.testing.assert_array_equal(
        fitted.small_.predict_proba(X[rows]), alone.predict_proba(encode.transform(X[rows]))
    )


def test_stage_two_leaves_the_small_encoders_and_moves_the_head(cohort, fitted):
    before = fitted.small_[-1].state_
    assert not np.array_equal(fitted.state_["head.weight"], before["head.weight"])
    assert not any(name.startswith("small_encoder") for name in fitted.state_)


def test_small_only_starts_as_the_small_model(cohort):
    X, y = cohort
    model = adacomed(strategy="small_only", max_epochs=1, learning_rate=1e-12, alpha=0.0)
    model.set_params(calibrate=False).fit(X, y)
    rows = X[LABS].notna().any(axis=1).to_numpy()
    np.testing.assert_allclose(
        model.predict_proba(X[rows]), model.small_.predict_proba(X[rows]), atol=1e-9
    )


class Recorder(TransformerMixin, BaseEstimator):
    """Passes numbers through, and keeps the rows that it was fitted on."""

    def fit(self, X, y=None):
        self.rows_ = list(X.index)
        return self

    def transform(self, X):
        return X

    def get_feature_names_out(self, input_features=None):
        return np.array(LABS, dtype=object)


def test_held_rows_reach_neither_path_before_they_judge(cohort, monkeypatch):
    X, y = cohort
    fits = []
    fit = SmallMultimodalClassifier.fit
    monkeypatch.setattr(
        SmallMultimodalClassifier,
        "fit",
        lambda self, X, y, **rest: (fits.append(X.index), fit(self, X, y, **rest))[1],
    )
    record = make_modality_transformer(labs=(Recorder(), LABS))
    model = adacomed(
        large=blocks(numbers=(Recorder(), LABS)),
        small=make_pipeline(record, small()),
        early_stopping=True,
        validation_fraction=0.25,
    ).fit(X, y)
    learnt = set(model.large_.named_transformers_["numbers"].rows_)
    assert len(learnt) == 36
    assert set(model.small_[0].named_transformers_["labs"].rows_) == learnt
    assert set(fits[0]) == {row for row in learnt if X.loc[row, LABS].notna().any()}


def test_early_stopping_keeps_the_rows_in_their_places(cohort):
    X, y = cohort
    model = adacomed(early_stopping=True, max_epochs=3).fit(X, y)
    values = pd.concat([model.large_.transform(X), model.small_[0].transform(X)], axis=1)
    by_hand = AdaCoMedClassifier(
        small=small(),
        large_modalities=["ecg", "note"],
        small_modalities=["labs"],
        strategy="ensemble",
        early_stopping=True,
        **QUICK | {"max_epochs": 3},
    ).fit(values, y)
    assert_same_state(by_hand.state_, model.state_)


def test_row_of_weight_zero_is_as_good_as_removed(cohort):
    X, y = cohort
    weight = np.ones(len(X))
    weight[:8] = 0
    zero = adacomed().fit(X, y, sample_weight=weight)
    removed = adacomed().fit(X[8:], y[8:])
    assert_same_state(removed.state_, zero.state_)


def test_class_weight_and_warm_start_serve_a_cohort_table(cohort):
    X, y = cohort
    plain, balanced = adacomed().fit(X, y), adacomed(class_weight={"ill": 5, "healthy": 1})
    assert balanced.fit(X, y).predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean()
    warm = adacomed(warm_start=True, strategy="large_only").fit(X, y)
    first = warm.history_["train_loss"].iloc[-1]
    assert warm.fit(X, y).history_["train_loss"].iloc[-1] < first


def test_transformer_that_needs_the_target_gets_it(cohort):
    X, y = cohort
    from sklearn.feature_selection import SelectKBest

    best = make_pipeline(SimpleImputer(), SelectKBest(k=1))
    model = adacomed(large=blocks(best=(best, LABS))).fit(X, y)
    assert list(model.large_.transform(X).filter(like="best__")) == ["best__k"]


def test_precomputed_embedding_is_a_block_of_large(cohort):
    X, y = cohort
    own = make_pipeline(SimpleImputer(), StandardScaler())
    model = adacomed(
        large=blocks(own=(own, LABS)),
        small="precomputed",
        small_modalities=["own"],
        large_modalities=["ecg", "note"],
    ).fit(X, y)
    assert model.small_ is None
    assert model._small.width == 2
    assert model.predict_proba(X).shape == (48, 2)


def test_modalities_group_the_blocks_of_large(cohort):
    X, y = cohort
    model = adacomed(modalities={"wave": "ecg__", "words": "note__"}, large_modalities=["words"])
    assert model.fit(X, y).modalities_ == ["words"]


def test_small_model_on_the_raw_cells_is_that_model_fitted_alone(cohort):
    X, y = cohort
    raw = small(max_epochs=1, series_steps=8)
    model = adacomed(small=raw).fit(X, y)
    alone = clone(raw).fit(X, y)
    assert model.small_.modalities_ == ["ecg", "note", "features"]
    assert_same_state(alone.state_, model.small_.state_)
    assert "large_" in vars(model)
    np.testing.assert_array_equal(
        model._small.embed(model._validate(X)), alone.transform(X).astype(np.float64)
    )


def test_no_small_model_is_one_on_the_raw_cells(cohort):
    X, y = cohort
    raw = X.drop(columns="ecg")
    model = adacomed(large=make_modality_transformer(labs=("passthrough", LABS)), small=None)
    assert model.fit(raw, y).small_._reading.layout.kinds == ["text", "block"]
    assert model.small_.max_epochs == "auto"


def test_small_model_chooses_its_columns(cohort):
    X, y = cohort
    ignored = dict.fromkeys(["ecg", "note"], "ignore")
    for chosen in (small(modalities={"labs": LABS}), small(column_kinds=ignored)):
        model = adacomed(small=chosen).fit(X, y)
        told = pd.Series(quantity(model.explain(X), "w_large").ravel(), index=X.index)
        assert (told[["p5", "p11", "p20"]] == 1).all()
        assert (told.drop(["p5", "p11", "p20"]) < 1).all()


def test_series_of_nothing_but_nan_is_no_cell(cohort):
    X, y = cohort
    empty = X.copy()
    empty.at["p5", "ecg"] = np.full((2, 120), np.nan, dtype=np.float32)
    chosen = small(column_kinds={"note": "ignore"}, max_epochs=1, series_steps=8)
    large = blocks().set_params(ecg="drop")
    model = adacomed(large=large, small=chosen, large_modalities=["note"]).fit(empty, y)
    told = pd.Series(quantity(model.explain(empty), "w_large").ravel(), index=X.index)
    assert told["p5"] == 1


# -- missing paths -------------------------------------------------------------------------------


def test_row_that_lacks_a_path_is_predicted_by_the_other(cohort, fitted):
    X, _ = cohort
    told = fitted.explain(X)
    w_large = pd.Series(quantity(told, "w_large").ravel(), index=X.index)
    assert (w_large[["p5", "p11", "p20"]] == 1).all()
    assert w_large["p6"] == 0
    assert w_large.drop(["p5", "p11", "p20", "p6"]).between(0, 1, inclusive="neither").all()


def test_row_that_lacks_both_paths_is_named(cohort, fitted):
    X, y = cohort
    empty = X.copy()
    empty.loc["p5", "note"] = None
    empty.at["p5", "ecg"] = None
    for call in (lambda: adacomed().fit(empty, y), lambda: fitted.predict(empty)):
        with pytest.raises(ModalityError, match="'p5'"):
            call()


def test_small_path_that_no_row_has_is_an_error(cohort):
    X, y = cohort
    absent = X.assign(**dict.fromkeys(LABS, np.nan))
    raw = make_modality_transformer(labs=("passthrough", LABS))
    with pytest.raises(ModalityError, match="small model"):
        adacomed(small=make_pipeline(raw, small())).fit(absent, y)


def test_content_of_a_missing_path_cannot_matter(cohort, fitted):
    X, _ = cohort
    without = X.assign(k=np.nan, crp=np.nan)
    alone = fitted.predict_proba(without.drop(index="p6"))
    large = fitted.explain(X.drop(index="p6"))
    np.testing.assert_array_equal(alone, quantity(large, "probability_large"))


# -- predictions ---------------------------------------------------------------------------------


def test_predictions_depend_on_no_other_row(cohort, fitted):
    X, _ = cohort
    proba = fitted.predict_proba(X)
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_allclose(fitted.predict_proba(X.iloc[order]), proba[order], atol=1e-12)
    alone = np.vstack([fitted.predict_proba(X.iloc[[i]]) for i in range(len(X))])
    np.testing.assert_allclose(alone, proba, atol=1e-6)


def test_order_of_modalities_in_the_table_leaves_the_prediction(cohort, fitted):
    X, y = cohort
    turned = X[["crp", "note", "k", "ecg"]]
    other = adacomed().fit(turned, y)
    np.testing.assert_array_equal(other.predict_proba(turned), fitted.predict_proba(X))


def test_equal_seeds_give_equal_fits(cohort, fitted):
    assert_same_state(fitted.state_, adacomed().fit(*cohort).state_)


def test_cohort_table_is_left_as_it_was(cohort):
    X, y = cohort
    before = X.map(lambda cell: cell.tobytes() if isinstance(cell, np.ndarray) else cell)
    for cell in X["ecg"].dropna():
        cell.setflags(write=False)
    adacomed().fit(X, y).predict(X)
    after = X.map(lambda cell: cell.tobytes() if isinstance(cell, np.ndarray) else cell)
    pd.testing.assert_frame_equal(after, before)


def test_attributes_are_the_cohorts(cohort, fitted):
    X, _ = cohort
    assert list(fitted.feature_names_in_) == list(X.columns)
    assert fitted.n_features_in_ == 4
    assert fitted.modalities_ == ["ecg", "note"]
    assert fitted.large is not fitted.large_
    assert not hasattr(fitted.large, "transformers_")


def test_parameter_changed_after_fit_changes_nothing(cohort, fitted):
    X, _ = cohort
    model = pickle.loads(pickle.dumps(fitted)).set_params(large=None, small=None)
    np.testing.assert_array_equal(model.predict_proba(X), fitted.predict_proba(X))


def test_refit_on_blocks_forgets_the_cohort(cohort):
    X, y = cohort
    model = adacomed().fit(X, y)
    values = blocks().fit_transform(X).drop(index="p6")
    model.set_params(large=None, small=None).fit(values, y[X.index != "p6"])
    assert model.large_ is None
    assert list(model.feature_names_in_) == list(values.columns)
    assert model.predict(values).shape == (47,)


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"small": make_pipeline(labs(), LogisticRegression())}, "LogisticRegression"),
        ({"small": LogisticRegression()}, "SmallMultimodalClassifier"),
        ({"large": "minilm"}, "fit_transform"),
        ({"large": LogisticRegression()}, "fit_transform"),
        ({"large": None}, "large="),
        ({"freeze_small": False}, "freeze_small=False"),
        ({"small_modalities": ["labs"]}, "small_modalities"),
        ({"small": make_pipeline(labs(), small(alpha=-1))}, "alpha"),
        ({"large_modalities": ["labs"]}, "large_modalities"),
    ],
)
def test_parameter_that_cannot_serve_is_named(cohort, changed, named):
    with pytest.raises(MedFusionError, match=named):
        adacomed(**changed).fit(*cohort)


def test_array_instead_of_a_cohort_table_is_refused(cohort, fitted):
    X, y = cohort
    numbers = X[LABS].to_numpy()
    for call in (lambda: adacomed().fit(numbers, y), lambda: fitted.predict(numbers)):
        with pytest.raises(ModalityError, match="DataFrame"):
            call()


def test_column_that_is_gone_at_prediction_is_named(cohort, fitted):
    with pytest.raises(ModalityError, match="'crp'"):
        fitted.predict(cohort[0].drop(columns="crp"))


@pytest.mark.parametrize(
    ("large", "error"),
    [
        (make_pipeline(FunctionTransformer(lambda X: X["note"]), TfidfVectorizer()), "DataFrame"),
        (make_modality_transformer(note=("passthrough", ["note"])), "'note__note'"),
        (FunctionTransformer(lambda X: X[LABS].dropna()), "rows"),
    ],
    ids=["sparse matrix", "text", "fewer rows"],
)
def test_transformer_that_gives_no_block_table_is_refused(cohort, large, error):
    X, y = cohort
    with pytest.raises(ModalityError, match=error):
        adacomed(large=large).fit(X.assign(note="there is a note"), y)


def test_vectoriser_in_large_is_fitted_on_learnt_rows(cohort):
    X, y = cohort
    words = make_modality_transformer(words=(SkipMissing(TfidfVectorizer()), "note"))
    weight = (X["note"] != "acute st elevation case 1").to_numpy(dtype=float)
    model = adacomed(large=words).fit(X, y, sample_weight=weight)
    assert model.predict_proba(X).shape == (48, 2)
    assert "words__case" in model.large_.get_feature_names_out()
