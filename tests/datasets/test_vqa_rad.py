"""VQA-RAD's two layouts, the prepared table and the published file."""

from __future__ import annotations

import csv
import json

import pytest

from medfusion_sdk.datasets import load_vqa_rad
from medfusion_sdk.exceptions import DataError, DataFileNotFoundError

NAMES = ["image", "organ", "question", "answer", "answer_type", "question_type"]
ROWS = [
    ("synpic2.jpg", "CHEST", "Is there a fracture?", "No", "CLOSED", "PRES"),
    ("synpic1.jpg", "HEAD", "What organ is this?", "the brain.", "OPEN", "ORGAN"),
    ("synpic2.jpg", "CHEST", "Which side, left or right?", "None", "OPEN", "POS"),
    ("synpic1.jpg", "HEAD", "How many lesions?", "2", "OPEN", "COUNT"),
    ("synpic1.jpg", "HEAD", "What organ is this?", "the brain.", "OPEN", "ORGAN"),
    ("synpic9.jpg", "ABD", "Is this a CT?", "Yes", "CLOSED", "MODALITY"),
]


def write_images(folder):
    folder.mkdir(parents=True)
    for name in ("synpic1.jpg", "synpic2.jpg"):
        (folder / name).write_bytes(b"an image")


def write_prepared(home, rows=ROWS):
    write_images(home / "images256")
    with (home / "vqa_rad.csv").open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *rows])
    return home


def write_published(home):
    write_images(home / "VQA_RAD Image Folder")
    entries = [
        {
            "qid": str(i), "image_name": image, "image_organ": organ, "question": question,
            "answer": int(answer) if answer.isdigit() else f"{answer}\t", "answer_type": kind,
            "question_type": about, "phrase_type": "freeform",
        }
        for i, (image, organ, question, answer, kind, about) in enumerate(ROWS)
    ]  # fmt: skip
    (home / "VQA_RAD Dataset Public.json").write_text(json.dumps(entries))
    return home


@pytest.mark.parametrize("write", [write_prepared, write_published])
def test_row_is_an_image_with_its_questions_and_answers(tmp_path, write):
    home = write(tmp_path)
    bunch = load_vqa_rad(home)
    assert bunch.data.index.tolist() == ["synpic2", "synpic1"]
    assert bunch.data["caption"].to_dict() == {
        "synpic2": "Is there a fracture? No. Which side, left or right? None.",
        "synpic1": "What organ is this? the brain. How many lesions? 2.",
    }
    assert bunch.target.to_dict() == {"synpic2": "CHEST", "synpic1": "HEAD"}
    for name, path in bunch.data["image"].items():
        assert path.endswith(f"{name}.jpg")
        with open(path, "rb") as file:  # noqa: PTH123
            assert file.read() == b"an image"
    assert bunch.n_without_image == 1
    assert len(bunch.questions) == 5
    assert bunch.target_names == ["CHEST", "HEAD"]
    X, y = load_vqa_rad(home, return_X_y=True)
    assert X.equals(bunch.data)
    assert y.equals(bunch.target)
    assert bunch.frame.equals(X.join(y))


def test_files_that_are_not_there_or_not_the_tables_are_named(tmp_path):
    with pytest.raises(DataFileNotFoundError, match=r"vqa_rad\.csv.*VQA_RAD Dataset Public\.json"):
        load_vqa_rad(tmp_path)
    (tmp_path / "vqa_rad.csv").write_text("image,question\nsynpic1.jpg,Why?\n")
    with pytest.raises(DataError, match=r"vqa_rad\.csv has no column \['organ', 'answer'"):
        load_vqa_rad(tmp_path)
    (tmp_path / "vqa_rad.csv").write_text(",".join(NAMES) + "\n")
    with pytest.raises(DataFileNotFoundError, match="images256"):
        load_vqa_rad(tmp_path)
    (tmp_path / "vqa_rad.csv").unlink()
    (tmp_path / "VQA_RAD Dataset Public.json").write_text("{")
    with pytest.raises(DataError, match="not a readable table"):
        load_vqa_rad(tmp_path)


def test_image_of_two_organs_is_named(tmp_path):
    rows = [ROWS[1], ("synpic1.jpg", "ABD", "Is this a CT?", "Yes", "CLOSED", "MODALITY")]
    with pytest.raises(DataError, match="'synpic1' is said to show several organs"):
        load_vqa_rad(write_prepared(tmp_path, rows))


def test_description_names_licence_source_and_columns(tmp_path):
    bunch = load_vqa_rad(write_prepared(tmp_path))
    assert "CC0 1.0" in bunch.DESCR
    assert "10.1038/sdata.2018.251" in bunch.DESCR
    for name in [*bunch.feature_names, "organ"]:
        assert f"`{name}`" in bunch.DESCR
