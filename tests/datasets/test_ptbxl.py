"""The bundled PTB-XL records, against their originals in WFDB format."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import wfdb

import medfusion_sdk.datasets
from medfusion_sdk.datasets import load_ptbxl

ORIGINALS = sorted((Path(__file__).parents[1] / "data" / "wfdb").glob("*.hea"))


@pytest.fixture(scope="module")
def ptbxl():
    return load_ptbxl()


@pytest.mark.parametrize("header", ORIGINALS, ids=lambda path: path.stem)
def test_ptbxl_signal_equals_the_wfdb_original(ptbxl, header):
    original = wfdb.rdrecord(header.with_suffix(""))
    signal = ptbxl.data.loc[int(header.stem.removesuffix("_lr")), "ecg"]
    assert [name.upper() for name in original.sig_name] == ptbxl.lead_names
    assert original.fs == ptbxl.fs
    np.testing.assert_array_equal(signal, original.p_signal.T.astype(np.float32))


def test_ptbxl_limb_leads_obey_einthoven_in_every_record(ptbxl):
    # The leads that aren't compared with an original follow from I and II but for rounding.
    signals = np.stack(ptbxl.data["ecg"].to_list()).astype(float)
    one, two, three, right, left, foot = (signals[:, lead] for lead in range(6))
    for recorded, derived in [
        (three, two - one),
        (right, -(one + two) / 2),
        (left, one - two / 2),
        (foot, two - one / 2),
    ]:
        assert np.abs(recorded - derived).max() < 0.0021


def test_ptbxl_cells_are_read_only_float32_of_twelve_leads(ptbxl):
    cells = ptbxl.data["ecg"].to_list()
    assert {(cell.shape, str(cell.dtype), cell.flags.writeable) for cell in cells} == {
        ((12, 1000), "float32", False)
    }


def test_ptbxl_table_has_the_published_counts(ptbxl):
    assert ptbxl.target.sum().to_dict() == {"NORM": 225, "MI": 49, "STTC": 59, "CD": 57, "HYP": 25}
    assert ptbxl.groups.nunique() == 339
    assert ptbxl.data.index.is_unique
    assert sorted(ptbxl.strat_fold.unique()) == list(range(1, 9))


def test_ptbxl_missing_values_stay_missing(ptbxl):
    missing = ptbxl.data.isna().sum().to_dict()
    assert missing == {"ecg": 0, "report": 1, "age": 4, "sex": 0, "height": 227, "weight": 68}
    assert pd.isna(ptbxl.data.loc[443, "report"])
    # 300 is PTB-XL's code for a withheld age.
    assert ptbxl.data["age"].max() < 120


def test_ptbxl_sex_one_is_female(ptbxl):
    # The coding is opposite to the heart failure table's; heights tell which is which.
    height = ptbxl.data.groupby("sex")["height"].mean()
    assert height[0] > height[1] + 10


def test_ptbxl_strat_fold_and_patients_agree(ptbxl):
    # PTB-XL keeps a patient in one fold.
    assert (ptbxl.frame.groupby("patient_id")["strat_fold"].nunique() == 1).all()


def test_ptbxl_frame_is_everything_side_by_side(ptbxl):
    columns = ["patient_id", "strat_fold"]
    expected = [*ptbxl.feature_names, *columns, *ptbxl.target_names]
    assert ptbxl.frame.columns.to_list() == expected
    assert ptbxl.frame[ptbxl.target_names].equals(ptbxl.target)


def test_ptbxl_as_arrays_equals_the_frames(ptbxl):
    arrays = load_ptbxl(as_frame=False)
    assert arrays.frame is None
    assert arrays.data["ecg"].shape == (353, 12, 1000)
    np.testing.assert_array_equal(arrays.data["ecg"][7], ptbxl.data["ecg"].iloc[7])
    np.testing.assert_array_equal(arrays.data["age"], ptbxl.data["age"])
    np.testing.assert_array_equal(arrays.target, ptbxl.target)
    np.testing.assert_array_equal(arrays.groups, ptbxl.groups)
    np.testing.assert_array_equal(arrays.strat_fold, ptbxl.strat_fold)


def test_ptbxl_return_x_y_equals_the_bunch(ptbxl):
    X, y = load_ptbxl(return_X_y=True)
    assert joblib.hash(X["ecg"].to_list()) == joblib.hash(ptbxl.data["ecg"].to_list())
    assert X.drop(columns="ecg").equals(ptbxl.data.drop(columns="ecg"))
    assert y.equals(ptbxl.target)


def test_ptbxl_tables_take_new_columns_without_touching_each_other():
    bunch = load_ptbxl()
    bunch.data["age"] = 0.0
    bunch.target["new"] = 1
    assert bunch.frame["age"].max() > 0
    assert "new" not in bunch.frame


def test_ptbxl_description_names_licence_and_source(ptbxl):
    assert "Creative Commons Attribution 4.0" in ptbxl.DESCR
    assert "10.13026/kfzx-aw45" in ptbxl.DESCR


def test_bundled_data_stay_small_and_carry_their_licence():
    folder = Path(medfusion_sdk.datasets.__file__).parent / "data"
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 4e6
    assert (folder / "CC-BY-4.0.txt").read_text(encoding="utf-8").startswith("Creative Commons")
    told = {path.parent.name for path in folder.rglob("README.md")}
    bundled = {"ptbxl", "heart_failure", "mi_complications"}
    read = {"physionet2012", "tcga", "vqa_rad", "adrenal"}
    assert bundled | read == told
    for name in read:
        assert len(list((folder / name).iterdir())) == 1  # told of, not bundled
