"""What AMFN's estimators are put together from: summaries, ranks, readings, the expert."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)

from medfusion_sdk.estimators._amfn_reading import SeriesReading, TableReading
from medfusion_sdk.estimators._expert import fit_expert
from medfusion_sdk.estimators._forest import Forest
from medfusion_sdk.estimators._layout import find_layout
from medfusion_sdk.estimators._ranks import RankScaling
from medfusion_sdk.estimators._series_summary import (
    SUMMARIES,
    pad_series,
    summarise,
    summarise_parts,
)
from medfusion_sdk.exceptions import CellError, ModalityError, SignalError

NAN = np.nan


def cells(n=40, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        values = rng.normal(10, 3, size=(2, rng.integers(3, 9)))
        values[rng.random(values.shape) < 0.4] = NAN
        made.append(None if np.isnan(values).all() or rng.random() < 0.2 else values)
    return made


# -- summaries --------------------------------------------------------------------------------


def test_summary_is_what_pandas_says_of_each_channel():
    made = cells()
    found = summarise(*pad_series(made, 2)).reshape(len(made), len(SUMMARIES), 2)
    for row, cell in zip(found, made, strict=True):
        if cell is None:
            assert np.isnan(row).all()
            continue
        for channel, values in enumerate(cell):
            told = dict(zip(SUMMARIES, row[:, channel], strict=True))
            seen = pd.Series(values).dropna()
            assert told.pop("count") == len(seen)
            if not len(seen):
                assert np.isnan(list(told.values())).all()
                continue
            slope = np.polyfit(seen.index, seen, 1)[0] if len(seen) > 1 else NAN
            expected = {
                "mean": seen.mean(),
                "spread": seen.std(ddof=0),
                "lowest": seen.min(),
                "highest": seen.max(),
                "first": seen.iloc[0],
                "last": seen.iloc[-1],
                "slope": slope,
                "elapsed": len(values) - 1 - seen.index[-1],
            }
            np.testing.assert_allclose(
                [told[name] for name in expected], list(expected.values()), rtol=1e-5, atol=1e-5
            )


def test_parts_are_what_pandas_says_of_both_halves_and_the_last_quarter():
    made = cells()
    found = summarise_parts(*pad_series(made, 2)).reshape(len(made), 3, 3, 2)
    for row, cell in zip(found, made, strict=True):
        n = 0 if cell is None else cell.shape[1]
        frame = pd.DataFrame(np.full((1, 2), NAN) if cell is None else cell.T)
        # A step belongs to the part that it begins in: of 5 steps, 2.5 to 5 is the late half.
        bounds = [(0, -(-n // 2)), (-(-n // 2), n), (-(-3 * n // 4), n)]
        for part, (start, stop) in zip(row, bounds, strict=True):
            own = frame.iloc[start:stop]
            expected = np.stack([own.mean(), own.min(), own.max()])
            np.testing.assert_allclose(part, expected, rtol=1e-5)


@pytest.mark.parametrize("compute", [summarise, summarise_parts])
def test_summary_of_many_rows_is_that_of_each(monkeypatch, compute):
    values, lengths = pad_series(cells(), 2)
    whole = compute(values, lengths)
    monkeypatch.setattr("medfusion_sdk.estimators._series_summary._CHUNK", 7)
    np.testing.assert_array_equal(compute(values, lengths), whole)


# -- ranks ------------------------------------------------------------------------------------


def test_ranks_become_normal_deviates_whatever_the_scale():
    x = np.exp(3 * np.random.default_rng(0).normal(size=(2000, 1)))
    scaled = RankScaling.fit(x).apply(x)[:, 0]
    expected = norm.ppf((x[:, 0].argsort().argsort() + 0.5) / 2000)
    np.testing.assert_allclose(scaled, np.clip(expected, -2.5, 2.5), atol=0.06)


def test_value_beyond_training_is_no_further_than_the_bound():
    scaling = RankScaling.fit(np.random.default_rng(0).normal(size=(100, 1)))
    np.testing.assert_allclose(scaling.apply(np.array([[735.0], [-1e9]]))[:, 0], [2.5, -2.5])


def test_tied_values_take_the_middle_of_their_ranks():
    x = np.array([[0.0]] * 60 + [[1.0]] * 40)
    np.testing.assert_allclose(RankScaling.fit(x).apply(x)[0, 0], norm.ppf(0.3), atol=0.02)


def test_missing_value_is_zero_with_one_indicator_for_columns_missing_together():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    x[:50, :2] = NAN
    scaling = RankScaling.fit(x)
    scaled = scaling.apply(x)
    assert scaled.shape == (200, 4)
    assert (scaled[:50, :2] == 0).all()
    np.testing.assert_allclose([scaled[:, 3].mean(), scaled[:, 3].std()], [0, 1], atol=1e-12)


def test_column_that_never_varied_is_left_out():
    x = np.column_stack([np.arange(50.0), np.ones(50), np.full(50, NAN)])
    assert RankScaling.fit(x).apply(x).shape == (50, 1)


# -- reading ----------------------------------------------------------------------------------


def test_channels_tell_last_value_observation_and_recency():
    training = [np.array([[-1.0, 0.0, 0.0, 1.0]]), np.array([[-1.0, 1.0, 0.0, 0.0]])]
    reading = SeriesReading.fit(training)
    values, _ = reading.pad([np.array([[NAN, 3.0, NAN, NAN]])])
    value, seen, recency = reading.channels(values)[0].T
    high = np.arcsinh((3.0 - reading.centre) / reading.scale)[0]
    np.testing.assert_allclose(value, [0, high, high, high], rtol=1e-6)
    np.testing.assert_array_equal(seen, [0, 1, 0, 0])
    np.testing.assert_allclose(recency, [0, 1, 1 / 2, 1 / 3], rtol=1e-6)


def test_channel_that_training_never_observed_is_unobserved_ever_after():
    training = [np.array([[1.0, 2.0], [NAN, NAN]]), np.array([[2.0, 4.0], [NAN, NAN]])]
    reading = SeriesReading.fit(training)
    values, lengths = reading.pad([np.array([[NAN, NAN], [5.0, 6.0]])])
    assert np.isnan(values).all()
    assert lengths[0] == 0


def test_layout_follows_the_order_of_columns_and_what_they_hold():
    table = pd.DataFrame(
        {
            "static__age": [60.0, 70.0],
            "vitals": [None, np.zeros((2, 5))],
            "slide": [np.zeros((4, 4, 3)), None],
            "scan": [np.zeros((4, 4)), np.ones((4, 4))],
            "static__sex": [0, 1],
        }
    )
    layout = find_layout(table, "auto", ["scan"])
    assert layout.names == ["static", "vitals", "slide", "scan"]
    assert layout.kinds == ["block", "series", "image", "image"]


def test_layout_of_a_mapping_follows_the_mapping():
    table = pd.DataFrame({"static__age": [60.0], "vitals": [np.zeros((2, 5))], "other": [1]})
    chosen = find_layout(table, {"pulse": "vitals", "age": ["static__age"]}, [])
    assert chosen.names == ["pulse", "age"]
    assert chosen.kinds == ["series", "block"]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"note": ["fever", "cough"]}, "note.*str"),
        ({"vitals": pd.Series([None, None], dtype=object)}, "vitals"),
        ({"labs": [np.ones((1, 2)), None], "labs__na": [1.0, 2.0]}, "labs"),
    ],
    ids=["text", "empty", "twice"],
)
def test_column_that_cannot_be_read_is_named(table, complaint):
    with pytest.raises(ModalityError, match=complaint):
        find_layout(pd.DataFrame(table), "auto", [])


def test_mapping_that_names_no_column_is_refused():
    with pytest.raises(ModalityError, match="pulse"):
        find_layout(pd.DataFrame({"vitals": [np.zeros((2, 5))]}), {"pulse": "heart"}, [])


def test_images_of_two_sizes_are_refused_with_row_and_column():
    table = pd.DataFrame({"scan": [np.ones((4, 4, 1)), np.ones((5, 4, 1))]}, index=["p1", "p2"])
    layout = find_layout(table, "auto", [])
    with pytest.raises(CellError, match=r"(?s)p2.*scan|scan.*p2"):
        TableReading.fit(table, np.ones(2), layout, "auto")


def test_series_of_other_channels_than_in_training_are_refused():
    table = pd.DataFrame({"vitals": [np.ones((2, 3)), 2 * np.ones((2, 4))]})
    reading = TableReading.fit(table, np.ones(2), find_layout(table, "auto", []), "auto")
    with pytest.raises(SignalError, match="channels"):
        reading.read(pd.DataFrame({"vitals": [np.ones((3, 3))]}), pd.RangeIndex(1), sequences=[])


# -- the expert -------------------------------------------------------------------------------


def trees_table(n=300):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4)).astype(np.float32).astype(np.float64)
    x[rng.random(x.shape) < 0.2] = NAN
    return x, np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) ** 2


def test_boosting_as_arrays_predicts_what_scikit_learn_predicts():
    x, y = trees_table()
    model = HistGradientBoostingRegressor(max_iter=20).fit(x, y)
    np.testing.assert_allclose(Forest.of_boosting(model).sums(x)[:, 0], model.predict(x), rtol=1e-5)
    for codes in (y > 0.5, np.digitize(y, [0.0, 1.0])):
        model = HistGradientBoostingClassifier(max_iter=20).fit(x, codes)
        found = np.squeeze(Forest.of_boosting(model).sums(x))
        np.testing.assert_allclose(found, model.decision_function(x), atol=1e-5)


def test_extra_trees_as_arrays_predict_what_scikit_learn_predicts():
    x, y = trees_table()
    model = ExtraTreesClassifier(20, random_state=0).fit(x, y > 0.5)
    found = Forest.of_extra_trees(model).sums(x)
    np.testing.assert_allclose(found, model.predict_proba(x), atol=1e-6)
    model = ExtraTreesRegressor(20, random_state=0).fit(x, y)
    np.testing.assert_allclose(
        Forest.of_extra_trees(model).sums(x)[:, 0], model.predict(x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_training_scores_come_from_experts_that_did_not_see_the_row(kind):
    # Targets that nothing explains: who has seen a row knows it, who hasn't can't.
    x, _ = trees_table(200)
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 200)
    y = y if kind == "classes" else np.column_stack([y, 1 - y]).astype(float)
    expert, scores = fit_expert(x, y, np.ones(200), np.arange(200), kind=kind, seed=0)
    assert scores.shape == (200, 2)
    truth = y if kind == "classes" else y[:, 1]
    own = np.corrcoef(scores[:, 1], truth)[0, 1]
    seen = np.corrcoef(expert.scores(x)[:, 1], truth)[0, 1]
    assert abs(own) < 0.25
    assert abs(seen) > 0.6


def test_expert_of_classes_knows_what_is_there_to_know():
    x, y = trees_table(400)
    codes = np.digitize(y, [0.3, 1.2])
    _, scores = fit_expert(x, codes, np.ones(400), np.arange(400), kind="classes", seed=0)
    assert (scores.argmax(1) == codes).mean() > 0.75
    np.testing.assert_allclose(scores.mean(axis=1), 0, atol=1e-9)
