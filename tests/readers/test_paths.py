"""Names of files are no texts, whatever their ending and whether or not they are there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medfusion_sdk import DualAdapterClassifier, SmallMultimodalClassifier, TextEncoder
from medfusion_sdk.exceptions import ModalityError
from medfusion_sdk.readers.paths import looks_like_a_path, refuse_paths

PATHS = [
    "/data/mri/p1.dcm",
    "/data/ward 3/tumour/p1.tif",
    "/data/ecg/healthy/p3",
    "C:\\scans\\p1.dcm",
    "\\\\server\\share\\p1",
    "scans/p1.mp4",
    "ward 3/p1.edf",
    "p1.dcm",
    "records100/00000/00001_lr",
    "~/x/p1",
    "../p1.nii.gz",
    "s3://bucket/p1",
]
TEXTS = [
    "see a/b",
    "and/or",
    "normal",
    "120/80",
    "2020/01/02",
    "01/02/2020",
    "RR 120/80 mmHg",
    "no change. see report of the day",
    "w/o contrast",
    "n/a",
    "",
    "st elevation in v1/v2",
    "a note\n/data/p1.dcm",
    "sinus rhythm.",
    "3.5",
    "T1/T2",
]


@pytest.mark.parametrize("text", PATHS)
def test_names_of_files_are_told_from_texts(text):
    assert looks_like_a_path(text)
    with pytest.raises(ModalityError, match=r"column 'note' holds names of files.*row 'b'"):
        refuse_paths([None, text], ["a", "b"], "note")


@pytest.mark.parametrize("text", TEXTS)
def test_texts_pass_as_texts(text):
    assert not looks_like_a_path(text)


def test_a_path_among_texts_passes_and_names_of_files_that_are_there_do_not(tmp_path, monkeypatch):
    refuse_paths(["sinus rhythm", "see below", "/data/p1.dcm", *TEXTS], range(40), "note")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.hea").write_text("")
    (tmp_path / "scan").write_text("")
    with pytest.raises(ModalityError, match="names of files"):
        refuse_paths(["a", "scan"], range(2), "note")


def test_paths_are_refused_where_texts_were_learnt_from():
    y = np.arange(12) % 2
    signals = [np.random.default_rng(i).normal(size=(2, 200)) for i in range(12)]
    X = pd.DataFrame({"ecg": signals, "note": ["sinus rhythm", "st elevation"] * 6})
    paths = X.assign(note=[f"scans/p{i}.dcm" for i in range(12)])
    encoder = TextEncoder("standin-text").fit(X["note"])
    with pytest.raises(ModalityError, match="names of files"):
        encoder.transform(paths["note"])
    for model in (
        DualAdapterClassifier("standin-text", max_epochs=1, random_state=0),
        SmallMultimodalClassifier(max_epochs=1, random_state=0),
    ):
        with pytest.raises(ModalityError, match="names of files"):
            model.fit(X, y).predict(paths)
