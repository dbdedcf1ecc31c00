"""TCGA's tables, and that nobody takes the censored for the dead."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk.datasets import load_tcga
from medfusion_sdk.exceptions import DataError, DataFileNotFoundError, ParameterError
from medfusion_sdk.survival import SurvivalTimes


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "case_id": ["TCGA-1", "TCGA-2", "TCGA-3"],
            "age": [61, 55, 80],
            "site": ["AA", "BB", "AA"],
            "survival_months": [3.5, 100.0, 20.25],
            "censorship": [0, 1, 1],
            "is_female": [1.0, 0.0, np.nan],
            "oncotree_code": ["CCRCC"] * 3,
            "VHL_rnaseq": np.array([0.5, -1, 2], dtype="float32"),
            "VHL_cnv": np.array([-2, 0, 1], dtype="int8"),
            "PBRM1_mut": np.array([1, 0, 0], dtype="int8"),
        }
    )


@pytest.fixture
def home(table, tmp_path):
    table.to_parquet(tmp_path / "tcga_kirc.parquet")
    return tmp_path


def test_cohort_becomes_a_block_table_with_float32_columns(home):
    data = load_tcga(home).data
    expected = ["rna__VHL", "cnv__VHL", "mut__PBRM1", "person__age", "person__sex"]
    assert data.columns.to_list() == expected
    assert (data.dtypes == np.float32).all()
    assert data.loc["TCGA-1"].to_list() == [0.5, -2.0, 1.0, 61.0, 0.0]
    assert data["person__sex"].isna().to_list() == [False, False, True]


def test_event_is_the_opposite_of_censorship(home):
    bunch = load_tcga(home)
    assert bunch.target["event"].to_list() == [True, False, False]
    assert bunch.target["time"].to_list() == [3.5, 100.0, 20.25]
    assert SurvivalTimes.of(bunch.target).event.sum() == 1


def test_bunch_says_what_it_holds(home):
    bunch = load_tcga(home)
    assert bunch.frame.columns.to_list() == bunch.feature_names + bunch.target_names
    assert bunch.site.to_dict() == {"TCGA-1": "AA", "TCGA-2": "BB", "TCGA-3": "AA"}
    assert "1 where the patient was *censored*" in bunch.DESCR
    X, y = load_tcga(home, return_X_y=True)
    assert X.equals(bunch.data)
    assert y.equals(bunch.target)


def test_what_is_no_such_file_is_named(home, table):
    with pytest.raises(ParameterError, match="kirc"):
        load_tcga(home, cohort="luad")
    with pytest.raises(DataFileNotFoundError, match=r"tcga_blca.*\['tcga_kirc.parquet'\]"):
        load_tcga(home, cohort="blca")
    path = home / "tcga_blca.parquet"
    path.write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        load_tcga(home, cohort="blca")
    table.drop(columns=["censorship", "site"]).to_parquet(path)
    with pytest.raises(DataError, match=r"\['site', 'censorship'\]"):
        load_tcga(home, cohort="blca")
    table.assign(censorship=2).to_parquet(path)
    with pytest.raises(DataError, match="0 or 1"):
        load_tcga(home, cohort="blca")
    pd.concat([table, table]).to_parquet(path)
    with pytest.raises(DataError, match="occur once"):
        load_tcga(home, cohort="blca")
