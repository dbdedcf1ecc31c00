"""The folder: damage is refused by name, saving is all or nothing, nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medfusion_sdk import load_estimator, save_estimator
from medfusion_sdk.exceptions import CorruptModelError, ModelExistsError, ParameterError
from medfusion_sdk.persistence import _folder

FILES = ("manifest.json", "weights.safetensors")


@pytest.fixture
def saved(tmp_path):
    save_estimator(fitted(), tmp_path / "model")
    return tmp_path / "model"


def fitted(shift=0.0):
    X = np.linspace(-1, 1, 20)[:, None]
    return LogisticRegression().fit(X + shift, X[:, 0] > 0)


def rewrite(folder, change):
    """Change the manifest's content and give it a digest that fits, as a forger would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["digest"]
    change(manifest)
    body = json.dumps(manifest, indent=1).removeprefix("{\n")
    digest = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(f'{{\n "digest": "{digest}",\n{body}')


@pytest.mark.parametrize("file", FILES)
def test_any_changed_byte_is_refused_with_the_files_name(file, saved):
    path = saved / file
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(CorruptModelError, match=file):
            load_estimator(saved)
    path.write_bytes(content)
    load_estimator(saved)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kept", [0, 10, -1])
def test_truncated_file_is_refused_with_its_name(file, kept, saved):
    content = (saved / file).read_bytes()
    (saved / file).write_bytes(content[:kept])
    with pytest.raises(CorruptModelError, match=file):
        load_estimator(saved)


@pytest.mark.parametrize("file", FILES)
def test_appended_byte_is_refused_with_the_files_name(file, saved):
    with (saved / file).open("ab") as stream:
        stream.write(b"\n")
    with pytest.raises(CorruptModelError, match=file):
        load_estimator(saved)


@pytest.mark.parametrize("file", FILES)
def test_missing_file_is_refused_with_its_name(file, saved):
    (saved / file).unlink()
    with pytest.raises(CorruptModelError, match=f"{file} is missing"):
        load_estimator(saved)


def test_missing_folder_is_refused_with_its_name(tmp_path):
    with pytest.raises(CorruptModelError, match="no-such-model"):
        load_estimator(tmp_path / "no-such-model")


def test_weights_of_another_model_are_refused(saved, tmp_path):
    save_estimator(fitted(0.1), tmp_path / "other")
    (tmp_path / "other" / "weights.safetensors").rename(saved / "weights.safetensors")
    with pytest.raises(CorruptModelError, match=r"weights\.safetensors was changed"):
        load_estimator(saved)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_format_version_is_refused_naming_what_saved_it(version, saved):
    rewrite(saved, lambda manifest: manifest.update(format_version=version))
    with pytest.raises(CorruptModelError, match=r"manifest\.json has the format .*medfusion_sdk'"):
        load_estimator(saved)


@pytest.mark.parametrize("written", ['{"a": 1}', "[]", "", '{\n "digest": "0"\n}'])
def test_foreign_manifest_is_refused(written, saved):
    (saved / "manifest.json").write_text(written)
    with pytest.raises(CorruptModelError, match=r"manifest\.json"):
        load_estimator(saved)


@pytest.mark.parametrize(
    "estimator",
    [
        {"$object": {"class": "sklearn.linear_model._logistic.LogisticRegression", "at": ""}},
        {"$array": {"at": "no such tensor", "shape": [1]}},
        {"$no_such_kind": 1},
        {"$same": "nowhere"},
        {"$float": "one"},
    ],
)
def test_content_that_is_no_model_is_refused(estimator, saved):
    rewrite(saved, lambda manifest: manifest.update(estimator=estimator))
    with pytest.raises(CorruptModelError, match=r"manifest\.json"):
        load_estimator(saved)


@pytest.mark.parametrize("part", ["versions", "weights", "estimator", "format"])
def test_manifest_without_a_part_is_refused(part, saved):
    rewrite(saved, lambda manifest: manifest.pop(part))
    with pytest.raises(CorruptModelError, match=r"manifest\.json"):
        load_estimator(saved)


def test_weights_that_are_no_safetensors_file_are_refused_with_their_name(saved):
    content = b"no such header"
    (saved / "weights.safetensors").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    rewrite(saved, lambda m: m.update(weights={"bytes": len(content), "sha256": digest}))
    with pytest.raises(CorruptModelError, match=r"weights\.safetensors isn't a safetensors file"):
        load_estimator(saved)


def test_existing_folder_is_refused_and_left_as_it_is(saved):
    before = (saved / "manifest.json").read_bytes()
    with pytest.raises(ModelExistsError, match="overwrite=True"):
        save_estimator(fitted(1.0), saved)
    assert (saved / "manifest.json").read_bytes() == before


def test_overwrite_replaces_a_model_and_leaves_nothing_else(saved):
    save_estimator(fitted(5.0), saved, overwrite=True)
    assert load_estimator(saved).intercept_ == fitted(5.0).intercept_
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("stranger", ["notes.txt", "data/one.csv"])
def test_overwrite_of_a_folder_with_other_files_is_refused(stranger, saved):
    (saved / stranger).parent.mkdir(exist_ok=True)
    (saved / stranger).write_text("precious")
    with pytest.raises(ModelExistsError, match="other files"):
        save_estimator(fitted(), saved, overwrite=True)
    assert (saved / stranger).read_text() == "precious"


def test_overwrite_of_a_file_is_refused(tmp_path):
    (tmp_path / "model").write_text("precious")
    with pytest.raises(ModelExistsError, match="isn't a saved model"):
        save_estimator(fitted(), tmp_path / "model", overwrite=True)


@pytest.mark.parametrize("file", FILES)
def test_failure_while_writing_leaves_the_old_model_and_nothing_else(file, saved, monkeypatch):
    write = _folder._write_through

    def fail(path, content):
        write(path, content[: len(content) // 2])
        if path.name == file:
            raise OSError("no space left on device")

    monkeypatch.setattr(_folder, "_write_through", fail)
    for folder in (saved, saved.with_name("new")):
        with pytest.raises(OSError, match="no space left"):
            save_estimator(fitted(5.0), folder, overwrite=True)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
    assert load_estimator(saved).intercept_ == fitted().intercept_


def test_failure_while_renaming_puts_the_old_model_back(saved, monkeypatch):
    rename = type(saved).rename

    def fail(path, target):
        if path.suffix != ".old" and target == saved:
            raise OSError("renaming failed")
        return rename(path, target)

    monkeypatch.setattr(type(saved), "rename", fail)
    with pytest.raises(OSError, match="renaming failed"):
        save_estimator(fitted(5.0), saved, overwrite=True)
    assert load_estimator(saved).intercept_ == fitted().intercept_
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("thing", [LogisticRegression, {"a": 1}, None])
def test_what_is_no_estimator_is_refused(thing, tmp_path):
    with pytest.raises(ParameterError, match="estimator object"):
        save_estimator(thing, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", FILES)
def test_folder_in_place_of_a_file_is_refused(file, saved):
    (saved / file).unlink()
    (saved / file).mkdir()
    with pytest.raises(CorruptModelError, match=f"{file} isn't a regular file"):
        load_estimator(saved)


@pytest.mark.parametrize("file", FILES)
def test_pipe_in_place_of_a_file_is_refused_and_not_waited_for(file, saved):
    (saved / file).unlink()
    os.mkfifo(saved / file)
    with pytest.raises(CorruptModelError, match=f"{file} isn't a regular file"):
        load_estimator(saved)


@pytest.mark.parametrize("file", FILES)
def test_file_that_may_not_be_read_is_named(file, saved, monkeypatch):
    read = type(saved).read_bytes

    def forbidden(path):
        if path.name == file:
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(type(saved), "read_bytes", forbidden)
    with pytest.raises(CorruptModelError, match=f"{file} can't be read .Permission denied"):
        load_estimator(saved)
