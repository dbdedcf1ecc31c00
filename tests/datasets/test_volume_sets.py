"""Sets of volumes: the published adrenal glands, BIDS folders, generated heads."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medfusion_sdk.datasets import load_adrenal, load_nifti_cohort, make_volume_cohort
from medfusion_sdk.exceptions import DataError, DataFileNotFoundError, ParameterError
from medfusion_sdk.readers.volume import read_volume
from tests.damage import damaged

RNG = np.random.default_rng(0)
IMAGES = {part: 255 * RNG.integers(0, 2, (n, 8, 8, 8), dtype=np.uint8)
          for part, n in (("train", 5), ("val", 2))}  # fmt: skip


def write_adrenal(folder, **changed):
    arrays = {f"{part}_images": images for part, images in IMAGES.items()}
    arrays |= {f"{part}_labels": np.arange(len(i))[:, None] % 2 for part, i in IMAGES.items()}
    arrays = {name: array for name, array in (arrays | changed).items() if array is not None}
    np.savez(folder / "adrenal.npz", **arrays)
    return folder


# -- adrenal glands -----------------------------------------------------------------------------


def test_adrenal_parts_come_in_the_published_order(tmp_path):
    found = load_adrenal(write_adrenal(tmp_path))
    assert found.split.tolist() == ["train"] * 5 + ["val"] * 2
    assert found.target.tolist() == [0, 1, 0, 1, 0, 0, 1]
    np.testing.assert_array_equal(np.stack(found.data["volume"][:5]), IMAGES["train"])
    assert not found.data["volume"].iloc[0].flags.writeable
    assert "CC BY 4.0" in found.DESCR
    X, y = load_adrenal(tmp_path, subset="val", return_X_y=True)
    np.testing.assert_array_equal(np.stack(X["volume"]), IMAGES["val"])
    assert y.tolist() == [0, 1]


def test_adrenal_that_is_not_there_or_not_right_is_told(tmp_path):
    with pytest.raises(DataFileNotFoundError, match=r"adrenalmnist3d_64\.npz, adrenal\.npz"):
        load_adrenal(tmp_path)
    with pytest.raises(DataFileNotFoundError, match=r"no part 'test'; it has \['train', 'val'\]"):
        load_adrenal(write_adrenal(tmp_path), subset=["train", "test"])
    with pytest.raises(ParameterError, match="subset='holdout'"):
        load_adrenal(tmp_path, subset="holdout")
    for changed in (
        {"val_labels": np.array([0, 2])},
        {"val_labels": np.array([0, 1, 1])},
        {"train_images": IMAGES["train"].astype(float)},
        {"train_labels": None},
        {"train_images": None, "val_images": None},
        {"val_labels": np.array([None, 1])},
    ):
        with pytest.raises(DataError, match=r"adrenal\.npz"):
            load_adrenal(write_adrenal(tmp_path, **changed))
    content = (tmp_path / "adrenal.npz").read_bytes()
    (tmp_path / "adrenal.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="can't be read"):
        load_adrenal(tmp_path)


# -- folders of NIfTI files ---------------------------------------------------------------------


@pytest.fixture
def bids(tmp_path):
    names = [
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_acq-x_FLAIR.nii",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii",
        "derivatives/sub-01/sub-01_ses-a_T1w.nii.gz",
        ".git/sub-09_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.json",
        "sub-03/anat/notes_T1w.nii.gz",
        "sub-03/anat/sub-03_ses_T1w.nii.gz",
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_folder_becomes_a_row_per_session_and_a_column_per_kind(bids):
    table = load_nifti_cohort(bids)
    assert table.columns.tolist() == ["subject", "session", "FLAIR", "T1w"]
    assert table[["subject", "session"]].to_numpy().tolist() == [
        ["01", "a"], ["01", "b"], ["02", None],
    ]  # fmt: skip
    assert table["T1w"].iloc[2] == str(bids / "sub-02/anat/sub-02_T1w.nii")
    assert table["FLAIR"].iloc[0].endswith("sub-01_ses-a_acq-x_FLAIR.nii")
    assert table["FLAIR"].iloc[1] is None
    assert load_nifti_cohort(bids, suffixes="FLAIR").columns[2:].tolist() == ["FLAIR"]
    assert len(load_nifti_cohort(bids, entities={"acq": "x"})) == 1


def test_two_files_for_one_cell_are_refused_until_an_entity_chooses(bids):
    for run in ("1", "2"):
        (bids / f"sub-04_run-{run}_T1w.nii.gz").touch()
    with pytest.raises(DataError, match="both the T1w of one session"):
        load_nifti_cohort(bids)
    chosen = load_nifti_cohort(bids, entities={"run": "2"})
    assert chosen["T1w"].iloc[0].endswith("sub-04_run-2_T1w.nii.gz")


def test_participants_are_joined(bids):
    (bids / "participants.tsv").write_text(
        "participant_id\tage\tgroup\nsub-01\t70\tAD\nsub-02\tn/a\tCN\n"
    )
    table = load_nifti_cohort(bids)
    assert table["group"].tolist() == ["AD", "AD", "CN"]
    assert table["age"].isna().tolist() == [False, False, True]
    (bids / "participants.tsv").write_text("participant_id\tT1w\nsub-01\t70\n")
    with pytest.raises(DataError, match="name images already"):
        load_nifti_cohort(bids)
    (bids / "participants.tsv").write_text("participant_id\tage\nsub-01\t70\nsub-01\t71\n")
    with pytest.raises(DataError, match="each person once"):
        load_nifti_cohort(bids)


def test_folder_without_such_files_is_told(tmp_path, bids):
    with pytest.raises(DataFileNotFoundError, match="no folder"):
        load_nifti_cohort(tmp_path / "absent")
    with pytest.raises(DataFileNotFoundError, match="bold"):
        load_nifti_cohort(bids, suffixes=["bold"])


# -- generated heads ----------------------------------------------------------------------------


def test_generated_files_hold_the_generated_arrays(tmp_path):
    arrays = make_volume_cohort(8, size=(9, 11, 13), random_state=3)
    files = make_volume_cohort(8, size=(9, 11, 13), random_state=3, folder=tmp_path)
    table = load_nifti_cohort(tmp_path)
    assert table["T1w"].tolist() == files.data["mri"].tolist()
    assert files.data["report"].equals(arrays.data["report"])
    layouts = set()
    for path, array in zip(files.data["mri"], arrays.data["mri"], strict=True):
        layouts.add(nibabel.aff2axcodes(nibabel.load(path).affine))
        np.testing.assert_array_equal(read_volume(path), read_volume(array))
        zooms = sorted(nibabel.load(path).header.get_zooms())
        np.testing.assert_allclose(zooms, [4, 4, 6])
    assert len(layouts) > 1


def test_generated_scans_and_reports_tell_the_class():
    cohort = make_volume_cohort(200, size=(10, 18, 18), signal=2.0, random_state=0)
    dark = [-(volume[3:7, 5:13, 5:13]).mean() for volume in cohort.data["mri"]]
    worse = cohort.data["report"].str.contains("marked|severe|moderate", case=False)
    assert roc_auc_score(cohort.target, dark) > 0.75
    assert roc_auc_score(cohort.target, worse) > 0.7
    assert abs(np.corrcoef(dark, cohort.latents["lapses"])[0, 1]) < 0.6  # through the class alone
    assert cohort.target.mean() == 0.5


def test_generated_sessions_share_their_persons_class():
    cohort = make_volume_cohort(10, n_subjects=4, missing=0.2, random_state=0)
    assert cohort.groups.nunique() == 4
    assert (cohort.target.groupby(cohort.groups).nunique() == 1).all()
    assert cohort.data["mri"].isna().sum() == cohort.data["report"].isna().sum() == 2
    assert not cohort.data[["mri", "report"]].isna().all(axis=1).any()
    assert not cohort.data[["subject", "session"]].duplicated().any()
    again = make_volume_cohort(10, n_subjects=4, missing=0.2, random_state=0)
    pd.testing.assert_series_equal(again.data["report"], cohort.data["report"])
    with pytest.raises(ParameterError, match="n_subjects=11"):
        make_volume_cohort(10, n_subjects=11)


# -- damage -------------------------------------------------------------------------------------


def test_damaged_archive_is_read_or_refused_by_name(tmp_path):
    write_adrenal(tmp_path)
    path = next(tmp_path.glob("*.npz"))
    refused = []
    for variant in damaged(path.read_bytes(), 60):
        path.write_bytes(variant)
        try:
            load_adrenal(tmp_path)
        except DataError as told:
            refused.append(str(told))
    assert len(refused) > 20
    assert all(path.name in message for message in refused)


def test_participants_keep_answers_that_pandas_takes_for_missing(bids):
    lines = ["participant_id\tgroup\tage", "sub-01\tNone\t70", "sub-02\tNA\tn/a"]
    (bids / "participants.tsv").write_text("\n".join(lines) + "\n")
    table = load_nifti_cohort(bids)
    found = table.drop_duplicates("subject").set_index("subject")
    assert found["group"].reindex(["01", "02"]).tolist() == ["None", "NA"]
    assert found.loc["01", "age"] == 70
    assert np.isnan(found.loc["02", "age"])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00a", b'a\t"b\nc'])
def test_damaged_participants_are_refused_by_name(bids, content):
    (bids / "participants.tsv").write_bytes(content)
    with pytest.raises(DataError, match=r"participants\.tsv"):
        load_nifti_cohort(bids)
