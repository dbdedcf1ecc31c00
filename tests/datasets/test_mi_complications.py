"""The bundled complications of myocardial infarction."""

from __future__ import annotations

import pytest

from medfusion_sdk.datasets import load_mi_complications
from medfusion_sdk.exceptions import ParameterError


def test_mi_complications_hold_the_sources_counts():
    bunch = load_mi_complications()
    assert bunch.data.index.is_unique
    counts = bunch.outcomes.gt(0).sum()
    assert (counts["ZSN"], counts["death"], counts["LET_IS"]) == (281, 187, 187)
    assert bunch.target.name == "ZSN"


def test_mi_complications_are_a_block_table_of_three_modalities():
    data = load_mi_complications().data
    prefixes = [name.partition("__")[0] for name in data]
    assert list(dict.fromkeys(prefixes)) == ["history", "ecg", "labs"]
    assert [prefixes.count(name) for name in ("history", "ecg", "labs")] == [47, 31, 9]
    assert data.filter(like="labs__").isna().all(axis=1).sum() == 42


def test_mi_complications_hold_nothing_of_the_days_after_admission():
    bunch = load_mi_complications()
    own = [name.partition("__")[2] for name in bunch.data]
    assert not set(own) & set(bunch.outcomes)
    later = ("_1_n", "_2_n", "_3_n", "_S_n", "NITR_S")
    assert not [name for name in own if name.endswith(later) or name.startswith("fibr_ter")]


def test_mi_complications_return_x_y_equals_the_bunch():
    bunch = load_mi_complications(target="death")
    X, y = load_mi_complications(target="death", return_X_y=True)
    assert X.equals(bunch.data)
    assert y.equals(bunch.target)
    assert bunch.frame.equals(X.join(bunch.outcomes))
    assert set(y) == {0, 1}


def test_mi_complications_of_unknown_target_names_the_known():
    with pytest.raises(ParameterError, match="ZSN"):
        load_mi_complications(target="stroke")


def test_mi_complications_description_names_licence_and_source():
    description = load_mi_complications().DESCR
    assert "Creative Commons Attribution 4.0" in description
    assert "giaa128" in description
