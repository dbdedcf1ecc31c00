"""Displays of modalities show what explain tells: means over the rows that have them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.inspection import (
    AttentionMapDisplay,
    ModalityGraphDisplay,
    ModalityWeightsDisplay,
    RouterDisplay,
)


@pytest.fixture(scope="module")
def told(amfn, stays):
    return amfn.explain(stays[0])


def mean_over_rows_with_both(told, present, quantity, one, other, rows=None):
    """Straight from the lines of the explanation, row by row."""
    lines = told[
        (told["quantity"] == quantity) & (told["modality"] == one) & (told["source"] == other)
    ]
    by_row = lines.groupby("row")["value"].mean()  # over heads, where there are some
    both = present[one] & present[other]
    return by_row[[row for row in present.index[both] if rows is None or row in rows]].mean()


@pytest.fixture(scope="module")
def present(stays):
    X = stays[0]
    columns = ["vitals", "respiration", "neuro", "labs", "cardiac"]
    assert X["cardiac"].isna().mean() > 0.3
    return X[columns].notna().assign(static=True)


@pytest.mark.parametrize("quantity", ["attention", "graph"])
def test_attention_map_is_the_mean_over_rows_with_both_modalities(told, present, quantity):
    display = AttentionMapDisplay.from_explanation(told, quantity=quantity)
    assert list(display.values.index) == list(display.values.columns) == list(present)
    for one in present:
        for other in present:
            expected = mean_over_rows_with_both(told, present, quantity, one, other)
            assert display.values.loc[one, other] == pytest.approx(expected)
    np.testing.assert_array_equal(display.image_.get_array(), display.values)
    assert display.text_[0, 1].get_text() == f"{display.values.iloc[0, 1]:.2f}"


def test_attention_map_of_one_head_is_that_heads(told, present):
    display = AttentionMapDisplay.from_explanation(told, head=2)
    own = told[told["head"] == 2]
    expected = mean_over_rows_with_both(own, present, "attention", "vitals", "cardiac")
    assert display.values.loc["vitals", "cardiac"] == pytest.approx(expected)
    with pytest.raises(ParameterError, match=r"head=9.*\[0, 1, 2, 3\]"):
        AttentionMapDisplay.from_explanation(told, head=9)


def test_attention_map_of_one_row_has_lines_that_sum_to_one_and_dashes_for_what_it_lacks(
    amfn, stays
):
    X = stays[0]
    row = X.loc[[X.index[X["cardiac"].isna().to_numpy().argmax()]]]
    display = AttentionMapDisplay.from_estimator(amfn, row)
    sums = display.values.sum(axis=1)
    np.testing.assert_allclose(sums.drop("cardiac"), 1.0, atol=1e-6)
    assert display.values["cardiac"].isna().all()
    assert display.values.loc["cardiac"].isna().all()
    assert display.text_[4, 0].get_text() == "–"


def test_attention_map_serves_adacomed(adacomed, blocks):
    X = blocks[0]
    display = AttentionMapDisplay.from_estimator(adacomed, X)
    told = adacomed.explain(X)
    present = pd.DataFrame({m: X[f"{m}__0000"].notna() for m in ("ecg", "note", "labs")})
    assert not present["note"].all()
    for one in present:
        expected = mean_over_rows_with_both(told, present, "attention", one, "note")
        assert display.values.loc[one, "note"] == pytest.approx(expected)


def test_graph_has_an_edge_for_both_directions_of_each_pair(told, present):
    display = ModalityGraphDisplay.from_explanation(told)
    (edges,) = display.edges_
    names = list(present)
    pairs = [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
    expected = [
        np.mean(
            [mean_over_rows_with_both(told, present, "graph", *way) for way in (pair, pair[::-1])]
        )
        for pair in pairs
    ]
    np.testing.assert_allclose(edges.get_array(), expected)
    widths = edges.get_linewidths()
    np.testing.assert_allclose(np.divide(widths, max(widths)), np.divide(expected, max(expected)))


def test_graphs_of_groups_stand_side_by_side_under_their_titles(told, present, stays):
    y = stays[1]
    display = ModalityGraphDisplay.from_explanation(told, by=y)
    assert list(display.graphs) == ["died = 0 (42 rows)", "died = 1 (18 rows)"]
    assert set(display.graphs) <= {text.get_text() for text in display.ax_.texts}
    assert len(display.edges_) == 2
    expected = mean_over_rows_with_both(
        told, present, "graph", "labs", "cardiac", set(y.index[y == 1])
    )
    assert display.graphs["died = 1 (18 rows)"].loc["labs", "cardiac"] == pytest.approx(expected)
    gates = told[(told["quantity"] == "gate") & (told["modality"] == "cardiac")]
    own = gates.set_index("row").loc[y.index[(y == 1) & present["cardiac"]], "value"]
    assert display.weights.loc["died = 1 (18 rows)", "cardiac"] == pytest.approx(own.mean())


def test_graph_without_weights_has_nodes_of_one_size_and_serves_attention(adacomed, blocks):
    display = ModalityGraphDisplay.from_estimator(
        adacomed, blocks[0], quantity="attention", weights=None
    )
    sizes = {float(nodes.get_sizes()[0]) for nodes in display.ax_.collections[1:]}
    assert len(sizes) == 1
    display = ModalityGraphDisplay.from_estimator(
        adacomed, blocks[0], quantity="attention", weights="responsibility"
    )
    assert display.weights.sum(axis=1).iloc[0] > 0.9


def test_graph_of_a_row_has_hollow_nodes_for_what_it_lacks(amfn, stays, present):
    row = present.index[~present["cardiac"]][0]
    display = ModalityGraphDisplay.from_estimator(amfn, stays[0].loc[[row]])
    nodes = dict(zip(present, display.ax_.collections[1:], strict=True))
    assert nodes["cardiac"].get_facecolor()[0].tolist() == [1, 1, 1, 1]
    assert nodes["vitals"].get_facecolor()[0].tolist() != [1, 1, 1, 1]
    edges = dict(
        zip(zip(*np.triu_indices(6, 1), strict=True), display.edges_[0].get_array(), strict=True)
    )
    assert all(value == 0 for pair, value in edges.items() if 4 in pair)


@pytest.mark.parametrize("quantity", ["gate", "fusion"])
def test_boxes_hold_the_rows_that_have_the_modality(told, present, quantity):
    display = ModalityWeightsDisplay.from_explanation(told, quantity=quantity)
    (boxes,) = display.boxes_.values()
    for m, name in enumerate(present):
        lines = told[(told["quantity"] == quantity) & (told["modality"] == name)]
        own = lines.set_index("row").loc[present.index[present[name]], "value"]
        assert boxes["medians"][m].get_ydata()[0] == pytest.approx(own.median())
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels[4] == f"cardiac\n{100 * present['cardiac'].mean():.0f} %"
    assert display.ax_.get_ylabel() == f"{quantity} (not an effect on the answer)"


def test_boxes_of_contributions_are_of_one_class_and_by_group(told, stays):
    y = stays[1]
    display = ModalityWeightsDisplay.from_explanation(told, quantity="contribution", by=y)
    lines = told[(told["quantity"] == "contribution") & (told["modality"] == "vitals")]
    second = lines[lines["label"] == 1].set_index("row")["value"]
    for one, (title, boxes) in enumerate(display.boxes_.items()):
        assert title.startswith(f"died = {one}")
        assert boxes["medians"][0].get_ydata()[0] == pytest.approx(second[y == one].median())
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == list(
        display.boxes_
    )
    first = ModalityWeightsDisplay.from_explanation(told, quantity="contribution", label=0)
    assert not np.allclose(
        pd.concat(first.weights.values()), pd.concat(display.weights.values()), equal_nan=True
    )


def test_rows_of_one_label_stay_rows_of_their_own(adacomed, blocks):
    X = blocks[0].head(6)
    repeated = X.set_axis(["a", "b", "a", "b", "b", "c"])
    display = ModalityWeightsDisplay.from_estimator(adacomed, repeated, quantity="responsibility")
    plain = ModalityWeightsDisplay.from_estimator(adacomed, X, quantity="responsibility")
    np.testing.assert_array_equal(display.weights["6 rows"], plain.weights["6 rows"])
    router = RouterDisplay.from_estimator(adacomed, repeated)
    np.testing.assert_array_equal(router.weights, RouterDisplay.from_estimator(adacomed, X).weights)


@pytest.mark.parametrize(
    "kind", [AttentionMapDisplay, ModalityGraphDisplay, ModalityWeightsDisplay]
)
def test_display_draws_where_it_is_told_to(kind, told):
    figure, (ax, other) = plt.subplots(1, 2)
    display = kind.from_explanation(told, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert not other.has_data()
    assert display.plot().ax_ is not ax


@pytest.mark.parametrize(
    ("display", "options", "complaint"),
    [
        (AttentionMapDisplay, {"quantity": "router"}, r"no 'router' by modality and source"),
        (AttentionMapDisplay, {"quantity": "gate"}, r"but \['attention', 'graph'\]"),
        (ModalityGraphDisplay, {"weights": "responsibility"}, "no 'responsibility' by modality"),
        (ModalityGraphDisplay, {"by": [0, 1]}, "2 entries for 60"),
        (ModalityWeightsDisplay, {"quantity": "entropy"}, "no 'entropy'"),
        (ModalityWeightsDisplay, {"quantity": "graph"}, "by modality and source: choose"),
        (ModalityWeightsDisplay, {"quantity": "contribution", "label": 7}, r"one of \[0, 1\]"),
        (ModalityWeightsDisplay, {"by": np.zeros(59)}, "59 entries for 60"),
    ],
)
def test_what_an_explanation_does_not_tell_is_refused(told, display, options, complaint):
    with pytest.raises(ParameterError, match=complaint):
        display.from_explanation(told, **options)


def test_explanation_without_sources_has_no_map():
    told = pd.DataFrame({"row": [0], "quantity": ["share"], "modality": ["ecg"], "value": [0.5]})
    with pytest.raises(ParameterError, match=r"but \[\]"):
        AttentionMapDisplay.from_explanation(told)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ParameterError, match="no graph"):
        ModalityGraphDisplay({}).plot()
    with pytest.raises(ParameterError, match="no weights"):
        ModalityWeightsDisplay({}).plot()
