"""What the dual adapter says of its predictions, against the predictions themselves."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk.estimators._occlusion import occlude


@pytest.mark.parametrize("kind", ["frozen", "published"])
def test_explanations_agree_with_the_prediction(records, fitted, published, kind):
    model, X = (fitted, records[0]) if kind == "frozen" else published
    X = X.head(3).copy()
    X.iloc[1, 1] = None
    told = model.explain(X)
    by_quantity = dict(list(told.groupby("quantity")))
    proba = by_quantity["probability"].pivot(index="row", columns="label", values="value")
    np.testing.assert_allclose(proba.loc[X.index], model.predict_proba(X), atol=1e-6)
    # The paths' mean score is the score; a row without a text has the other path's alone.
    logits = {}
    for path in ("temporal", "textual"):
        table = by_quantity[f"probability_{path}"].pivot(
            index="row", columns="label", values="value"
        )
        logits[path] = np.log(table.astype(float)).diff(axis=1).iloc[:, 1]
    assert X.index[1] not in logits["textual"].index
    combined = np.log(proba.astype(float)).diff(axis=1).iloc[:, 1]
    expected = pd.concat(logits, axis=1).mean(axis=1)
    np.testing.assert_allclose(combined, expected.loc[combined.index], atol=1e-5)
    n_layers, n_heads = model.architecture_["adapter_layers"], 4
    assert len(by_quantity["gate"]) == n_layers * n_heads
    assert by_quantity["gate"]["value"].abs().max() < 1
    assert (by_quantity["share"]["value"] >= 0).all()
    attributed = by_quantity["attribution"].set_index("row").loc[X.index[0]]
    signal = attributed[attributed["modality"] == "signal"]
    n_stretches = 10 if kind == "frozen" else 8
    assert len(signal.drop_duplicates(["part", "position"])) == len(signal) == 12 * n_stretches
    words = attributed[attributed["modality"] == "text"].sort_values("position")["part"].tolist()
    assert words == ["[CLS]", *re.findall(r"\w+|[^\w\s]", X.iloc[0, 1].lower()), "[SEP]"]


def test_flat_channel_is_worth_nothing_by_occlusion(records, fitted):
    X = records[0].head(1).copy()
    flat = X["ecg"].iloc[0].copy()
    flat[3] = 0.0
    told = fitted.explain(X.assign(ecg=[flat]))
    signal = told[(told["quantity"] == "attribution") & (told["modality"] == "signal")]
    worth = signal.astype({"part": int}).groupby("part")["value"].apply(lambda v: v.abs().max())
    # Two equal rows of other batches differ in the last digits of float32.
    assert worth[3] < 1e-6
    assert (worth.drop(3) > 1e-5).all()


def test_occlusion_draws_a_line_between_the_ends_of_a_stretch():
    signal = np.array([[0.0, 4.0, 1.0, 3.0, 9.0], [1.0, 1.0, 7.0, 2.0, 5.0]])
    bounds = np.array([0, 2, 4, 5])
    np.testing.assert_allclose(
        occlude(signal, bounds, (None, 0)), [[1, 1, 1, 3, 9], [7, 7, 7, 2, 5]]
    )
    thirds = [4 + 5 / 3, 4 + 10 / 3]
    np.testing.assert_allclose(occlude(signal, bounds, (0, 1)), [[0, 4, *thirds, 9], signal[1]])
    np.testing.assert_allclose(occlude(signal, bounds, (1, 2)), [signal[0], [1, 1, 7, 2, 2]])


def test_signal_attribution_is_the_first_order_change_of_the_score(published):
    model, X = published
    X = X.head(1)
    told = model.explain(X)
    share = told[(told["quantity"] == "attribution") & (told["modality"] == "signal")]
    share = share.groupby("position")["value"].sum()
    scores, step = [], 1e-3
    for factor in (1 - step, 1 + step):
        # RevIN undoes a scaling of the whole; scale one patch.
        signal = X["ecg"].iloc[0].astype(np.float64).copy()
        signal[:, 50:75] *= factor
        row = X.assign(ecg=[signal])
        scores.append(model._predict(row)["logits"][0].astype(np.float64))
    label = int(model._predict(X)["logits"][0].argmax())
    slope = (scores[1] - scores[0])[label] / (2 * step)
    assert share.iloc[2] == pytest.approx(slope, rel=0.05, abs=2e-4)
