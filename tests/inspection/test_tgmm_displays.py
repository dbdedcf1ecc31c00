"""What TGMM explains, drawn by the displays of modalities: gates, attention, prompts, drop-one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk import TGMMMultiTask
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.inspection import AttentionMapDisplay, ModalityWeightsDisplay


@pytest.fixture(scope="module")
def told(tgmm, blocks):
    return tgmm.explain(blocks[0])


def mean(told, quantity, **where):
    lines = told[told["quantity"] == quantity]
    for axis, value in where.items():
        lines = lines[lines[axis] == value]
    return lines["value"][lines["value"] != 0].mean()


def test_gates_over_a_cohort_by_group(tgmm, blocks, told):
    X, y = blocks
    display = ModalityWeightsDisplay.from_estimator(tgmm, X, by=y.rename("ill"))
    assert list(display.weights) == [f"ill = {k} ({(y == k).sum()} rows)" for k in (0, 1)]
    everyone = pd.concat(display.weights.values())
    np.testing.assert_allclose(everyone.sum(axis=1), 1.0)
    assert everyone["note"].mean() == pytest.approx(mean(told, "gate", modality="note"))


def test_changes_of_an_answer_by_each_modality(told):
    display = ModalityWeightsDisplay.from_explanation(told, quantity="drop_one", label=1)
    expected = mean(told, "drop_one", modality="ecg", label=1)
    assert pd.concat(display.weights.values())["ecg"].mean() == pytest.approx(expected)


def test_attention_map_leaves_the_modality_itself_out(told):
    display = AttentionMapDisplay.from_explanation(told)
    assert (np.diag(display.values) == 0).all()
    assert display.values.loc["ecg", "note"] > 0


def test_prompt_map_has_a_line_per_token(told):
    display = AttentionMapDisplay.from_explanation(told, quantity="prompt")
    assert list(display.values.columns) == ["fused", "ecg", "labs", "note"]
    tokens = list(display.values.index)
    assert tokens[1:4] == ["is", "the", "heart"]
    assert "the (2)" in tokens
    assert tokens[-1] == "learned 3"
    expected = mean(told, "prompt", token="heart", source="note")
    assert display.values.loc["heart", "note"] == pytest.approx(expected)
    assert display.ax_.get_ylabel() == "token"


def test_several_tasks_are_drawn_one_at_a_time(blocks):
    X, target = blocks
    y = pd.DataFrame({"ill": target, "event": 1, "time": np.arange(1.0, 61.0)})
    told = TGMMMultiTask(max_epochs=2, d_model=8, random_state=0).fit(X, y).explain(X)
    with pytest.raises(ParameterError, match="task"):
        ModalityWeightsDisplay.from_explanation(told)
    one = ModalityWeightsDisplay.from_explanation(told[told["task"] == "prognosis"])
    assert set(pd.concat(one.weights.values())) == {"ecg", "labs", "note"}
