"""Rows held out for early stopping choose the epoch; nothing else is learnt from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import medfusion_sdk
from medfusion_sdk import (
    AdaCoMedClassifier,
    AMFNClassifier,
    AMFNRegressor,
    BrainAdapterClassifier,
    DualAdapterClassifier,
    DualAdapterEmbedder,
    ImageEncoder,
    SignalEncoder,
    SmallMultimodalClassifier,
    TextEncoder,
    TGMMClassifier,
    TGMMMultiTask,
    TGMMRetriever,
    TGMMSurvival,
    make_modality_transformer,
)
from medfusion_sdk.survival import survival_target
from tests.estimators.held_out import (
    cells,
    differences,
    fit_and_hear,
    moved,
    numbers,
    two_labels,
)

QUICK = {"max_epochs": 2, "random_state": 0}
TEXT = TextEncoder("standin-text", missing="mean", dtype="float32")
ECG = SignalEncoder(fs=None, fit_biases=True, missing="mean")
MEANS = {"note": TEXT, "ecg": ECG}


def small(**parameters):
    return SmallMultimodalClassifier(**QUICK | {"embed_size": 8} | parameters)


def adacomed(**parameters):
    quick = {"hidden_dim": 8, "n_heads": 2, "small": small()}
    return AdaCoMedClassifier(**QUICK | quick | parameters)


def tgmm(kind=TGMMClassifier, **parameters):
    return kind(**QUICK | {"d_model": 8, "n_heads": 2} | parameters)


def amfn(kind=AMFNClassifier, **parameters):
    return kind(**QUICK | {"d_model": 8, "ensemble_size": 1, "encoder_width": 8} | parameters)


def dual(kind=DualAdapterClassifier, **parameters):
    return kind(**QUICK | {"backbone": "standin-text"} | parameters)


def brain(**parameters):
    quick = {"text_encoder": "standin-text", "adapter": "slice2d", "proj_dim": 8}
    return BrainAdapterClassifier(**QUICK | quick | parameters)


def embeddings(n_rows=48):
    """More columns than rows, for which networks are trained in the rows' span."""
    return numbers(n_rows, width=70)


def many():
    return numbers(160)


def survived(table=numbers):
    """Event and time, one of them far beyond where the row is held out."""
    X, y = table()
    rng = np.random.default_rng(2)
    return X, survival_target(y == 1, rng.exponential(1.0, len(y)) + 0.1)


def both_tasks():
    X, y = many()
    times = survived(many)[1]
    return X, pd.DataFrame({"dx": y, "event": times["event"], "time": times["time"]}, index=X.index)


def measured():
    X, y = many()
    return X, X["ecg__0"].to_numpy() + np.random.default_rng(3).normal(size=len(y))


def series():
    X, y = cells()
    rng = np.random.default_rng(4)
    X["vitals"] = [rng.normal(t, 1, (2, 20 + i % 5)) for i, t in enumerate(y)]
    return X[["vitals", "labs__k", "labs__crp"]], y


def images():
    X, y = cells()
    return X[["cxr", "labs__k", "labs__crp"]], y


def notes_and_labs():
    X, y = cells()
    return X[["ecg", "note", "labs__k", "labs__crp"]], y


def signals():
    X, y = cells()
    return X[["ecg", "note"]], y


def volumes():
    X, y = cells()
    rng = np.random.default_rng(5)
    X["mri"] = [rng.random((9, 8, 7)) for _ in y]
    return X[["mri", "note"]], y


LARGE = make_modality_transformer(note=(TEXT, "note"), ecg=(ECG, "ecg"))
CASES = {
    "small": (small(), numbers),
    "small, span": (small(), embeddings),
    "small, early": (small(fusion="early"), numbers),
    "small, late": (small(fusion="late"), numbers),
    "small, scaling": (small(scaling={"ecg": "none", "note": "block"}), numbers),
    "small, raw": (small(column_kinds={"ecg": "series"}, series_steps=16), cells),
    "adacomed": (adacomed(), numbers),
    "adacomed, span": (adacomed(), embeddings),
    "adacomed, bank": (adacomed(inference_similarity="bank"), numbers),
    "adacomed, trained small": (adacomed(freeze_small=False), numbers),
    "adacomed, precomputed": (
        adacomed(small="precomputed", small_modalities=["labs"], large_modalities=["ecg", "note"]),
        numbers,
    ),
    "adacomed, large": (adacomed(large=LARGE), notes_and_labs),
    "adacomed, default": (AdaCoMedClassifier(hidden_dim=8, n_heads=2, random_state=0), numbers),
    "tgmm": (tgmm(), numbers),
    "tgmm, span": (tgmm(clip="auto"), embeddings),
    "tgmm, tokens": (tgmm(token_shapes={"note": (3, 1)}), numbers),
    "tgmm, experts": (tgmm(expert=True), lambda: numbers(160, width=40)),
    "tgmm, trees": (tgmm(), lambda: numbers(700)),
    "tgmm, encoders": (tgmm(encoders=MEANS), notes_and_labs),
    "tgmm, tuned": (
        tgmm(
            encoders={"cxr": ImageEncoder("standin-image", dtype="float32")},
            encoder_tuning=1,
            encoder_learning_rate=1e-3,
        ),
        images,
    ),
    "survival": (tgmm(TGMMSurvival), survived),
    "survival, expert": (tgmm(TGMMSurvival, expert=True), lambda: survived(many)),
    "multitask": (tgmm(TGMMMultiTask), both_tasks),
    "multitask, expert": (tgmm(TGMMMultiTask, expert=True), both_tasks),
    "retriever": (tgmm(TGMMRetriever, embed_size=8), numbers),
    "retriever, span": (tgmm(TGMMRetriever, embed_size=8), embeddings),
    "amfn": (amfn(), numbers),
    "amfn, trees": (amfn(expert=True), many),
    "amfn, gru": (amfn(encoder={"vitals": "gru"}), series),
    "amfn, tcn": (amfn(encoder={"vitals": "tcn"}), series),
    "amfn, transformer": (amfn(encoder={"vitals": "transformer"}), series),
    "amfn, images": (amfn(encoder={"cxr": "cnn"}, lambda_rec=0.1), images),
    "regressor": (amfn(AMFNRegressor), measured),
    "regressor, trees": (amfn(AMFNRegressor, expert=True), measured),
    "dual": (dual(), numbers),
    "dual, span": (dual(), embeddings),
    "dual, frozen": (dual(), signals),
    "dual, encoders": (dual(signal_encoder=ECG, secondary_text_encoder=TEXT), signals),
    "dual, cnn": (dual(signal_encoder="cnn"), signals),
    "dual, pretrained": (dual(pretrain="contrastive", pretrain_epochs=1), signals),
    "embedder": (dual(DualAdapterEmbedder), signals),
    "embedder, numbers": (dual(DualAdapterEmbedder), embeddings),
    "brain": (brain(), volumes),
    "brain, encoder": (brain(text_encoder=TEXT), volumes),
    "brain, full": (brain(train_mode="full"), volumes),
    "brain, reports alone": (brain(inputs="text"), numbers),
}


@pytest.mark.parametrize("name", CASES)
def test_what_rows_held_out_hold_is_not_learnt_from(name, monkeypatch):
    estimator, make = CASES[name]
    X, y = make()
    first, held = fit_and_hear(monkeypatch, clone(estimator), X, y)
    second, _ = fit_and_hear(monkeypatch, clone(estimator), moved(X, held), y, held=held)
    assert 4 <= len(held) < len(X) / 2
    assert differences(first, second) == []


WEIGHED = [name for name in CASES if not name.startswith("embedder")]


@pytest.mark.parametrize("name", WEIGHED)
def test_what_rows_held_out_weigh_is_not_learnt_from(name, monkeypatch):
    estimator, make = CASES[name]
    X, y = make()
    weight = np.random.default_rng(6).uniform(0.5, 2.0, len(X))
    first, held = fit_and_hear(monkeypatch, clone(estimator), X, y, sample_weight=weight)
    weight[held] *= np.arange(10, 10 + len(held))
    second, again = fit_and_hear(monkeypatch, clone(estimator), X, y, sample_weight=weight)
    np.testing.assert_array_equal(again, held)
    assert differences(first, second) == []


LABELLED = {
    "small": small(class_weight="balanced"),
    "adacomed": adacomed(class_weight="balanced"),
    "tgmm": tgmm(class_weight="balanced", expert=True),
    "amfn": amfn(class_weight="balanced"),
    "dual": dual(class_weight="balanced"),
    "brain": brain(class_weight="balanced", inputs="text"),
}


@pytest.mark.parametrize("name", LABELLED)
def test_labels_of_rows_held_out_are_not_learnt_from(name, monkeypatch):
    X, y = numbers(160)
    y = two_labels(X, y)
    first, held = fit_and_hear(monkeypatch, clone(LABELLED[name]), X, y)
    y[held] = 1
    second, _ = fit_and_hear(monkeypatch, clone(LABELLED[name]), X, y, held=held)
    assert differences(first, second) == []


@pytest.mark.parametrize("name", ["regressor", "regressor, trees"])
def test_numbers_of_rows_held_out_are_not_learnt_from(name, monkeypatch):
    estimator, make = CASES[name]
    X, y = make()
    first, held = fit_and_hear(monkeypatch, clone(estimator), X, y)
    y[held] += 1e4
    second, again = fit_and_hear(monkeypatch, clone(estimator), X, y)
    np.testing.assert_array_equal(again, held)
    assert differences(first, second) == []
    rows = np.delete(np.arange(len(y)), held)
    np.testing.assert_allclose(second.target_mean_, y[rows].mean())


@pytest.mark.parametrize("name", ["survival", "survival, expert", "multitask"])
def test_times_of_rows_held_out_are_not_learnt_from(name, monkeypatch):
    estimator, make = CASES[name]
    X, y = make()
    first, held = fit_and_hear(monkeypatch, clone(estimator), X, y)
    y = y.copy()
    if isinstance(y, pd.DataFrame):
        y.loc[y.index[held], "time"] += 1e3
    else:
        y["time"][held] += 1e3
    second, again = fit_and_hear(monkeypatch, clone(estimator), X, y)
    np.testing.assert_array_equal(again, held)
    assert differences(first, second) == []


def test_every_estimator_that_stops_early_is_among_the_cases():
    public = [getattr(medfusion_sdk, name) for name in medfusion_sdk.__all__]
    stopping = {
        kind
        for kind in public
        if isinstance(kind, type) and "early_stopping" in getattr(kind, "_allowed", ())
    }
    assert stopping == {type(estimator) for estimator, _ in CASES.values()}


def test_rows_to_learn_from_count_for_penalty_and_batches(monkeypatch):
    X, y = numbers(50)
    fitted, held = fit_and_hear(monkeypatch, small(alpha=1.0, max_epochs=30), X, y)
    kept = np.delete(np.arange(50), held)
    alone = small(alpha=1.0, max_epochs=30, early_stopping=False).fit(X.iloc[kept], y[kept])
    for name, value in alone.state_.items():
        np.testing.assert_array_equal(value, fitted.state_[name])
