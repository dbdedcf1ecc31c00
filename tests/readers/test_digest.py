"""Content decides: digests of files that take each other's place, and what is remembered."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from medfusion_sdk.exceptions import CellError, SignalError, WeightsError
from medfusion_sdk.readers import file_memo
from medfusion_sdk.readers.digest import files_digest
from medfusion_sdk.readers.file_memo import FileMemo, file_sha256, file_stamp

A, B = b"a" * 70_000, b"a" * 69_999 + b"b"
STAMP = 1_700_000_000


def overwrite(path, content):
    """In place, the same inode, size and time of modification."""
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, (STAMP, STAMP))


def copy_over(path, content):
    """As ``cp -p`` and ``rsync -t`` do: another file under the same name."""
    source = path.with_name("source")
    source.write_bytes(content)
    os.utime(source, (STAMP, STAMP))
    shutil.copy2(source, path)


def move_over(path, content):
    source = path.with_name("source")
    source.write_bytes(content)
    os.utime(source, (STAMP, STAMP))
    source.replace(path)


def unpack_over(path, content):
    source = path.with_name("source")
    source.write_bytes(content)
    os.utime(source, (STAMP, STAMP))
    with tarfile.open(path.with_name("one.tar"), "w") as archive:
        archive.add(source, path.name)
    with tarfile.open(path.with_name("one.tar")) as archive:
        archive.extractall(path.parent, filter="data")


@pytest.mark.parametrize("replace", [overwrite, copy_over, move_over, unpack_over])
@pytest.mark.parametrize("digest", [file_sha256, lambda path: files_digest([path])])
def test_file_that_takes_anothers_place_with_its_size_and_time_has_its_own_digest(
    tmp_path, replace, digest
):
    path, beside = tmp_path / "ecg.npy", tmp_path / "beside.npy"
    found = []
    for content in (A, B, A):
        path.touch()
        replace(path, content)
        beside.write_bytes(content)
        assert path.stat().st_mtime == STAMP
        found.append(digest(path))
        assert found[-1] == digest(beside)
    assert found[0] == found[2] != found[1]


def test_digest_of_files_counts_ending_and_order_but_no_name(tmp_path):
    for name in ("a.npy", "b.NPY", "c.png"):
        (tmp_path / name).write_bytes(A)
    (tmp_path / "d.npy").write_bytes(B)
    a, b, c, d = (tmp_path / name for name in ("a.npy", "b.NPY", "c.png", "d.npy"))
    assert files_digest([a, d]) == files_digest([b, d]) != files_digest([d, a])
    assert files_digest([a]) != files_digest([c])  # one of them can't be decoded
    assert files_digest([a, a]) != files_digest([a])


def test_file_that_cannot_be_read_is_a_typed_error(tmp_path):
    with pytest.raises(SignalError, match="can't be read"):
        files_digest([tmp_path], SignalError)  # a folder
    for read in (file_sha256, file_stamp):
        with pytest.raises(WeightsError, match="can't be read"):
            read(tmp_path / "absent.safetensors")
    with pytest.raises(CellError):
        files_digest([tmp_path / "absent"])


# -- what is remembered -------------------------------------------------------------------------


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """A file that changed long ago, by a clock that is three seconds ahead."""
    path = tmp_path / "weights"
    path.write_bytes(A)
    monkeypatch.setattr(file_memo.time, "time_ns", lambda now=time.time_ns: now() + 3_000_000_000)
    return path


def test_settled_file_is_read_once_and_again_after_any_change(settled):
    memo, reads = FileMemo(4), []

    def get(part=None):
        return memo.get(settled, lambda: reads.append(part) or settled.read_bytes(), part=part)

    assert [get(), get(), get("shapes"), get("shapes")] == [A] * 4
    assert reads == [None, "shapes"]
    overwrite(settled, B)
    assert [get(), get()] == [B, B]
    os.utime(settled)  # a time of its own, the same content
    get()
    assert reads == [None, "shapes", None, None]


def test_file_that_changed_just_now_is_not_remembered(tmp_path):
    path, memo = tmp_path / "weights", FileMemo(4)
    path.write_bytes(A)
    assert memo.get(path, lambda: 1) == 1
    assert memo.get(path, lambda: 2) == 2


def test_file_that_changes_while_it_is_read_is_not_remembered(settled):
    memo = FileMemo(4)
    assert memo.get(settled, lambda: overwrite(settled, B) or "torn") == "torn"
    assert memo.get(settled, lambda: "whole") == "whole"


def test_stamp_sees_a_block_change_where_times_and_places_stay(tmp_path):
    # As on file systems that keep no time of change.
    path = tmp_path / "weights"
    path.write_bytes(A)
    before = file_stamp(path)
    overwrite(path, B)
    after = file_stamp(path)
    assert before.sample != after.sample
    assert (before.inode, before.size) == (after.inode, after.size)


def test_memo_keeps_as_many_values_as_it_may(settled):
    memo = FileMemo(2)
    for part in "abc":
        memo.get(settled, lambda: "first", part=part)
    assert [memo.get(settled, lambda: "again", part=part) for part in "cba"] == [
        "first", "first", "again",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000])
def test_stamps_of_files_of_any_size(tmp_path, size):
    path = tmp_path / "weights"
    path.write_bytes(np.random.default_rng(size).bytes(size))
    assert file_stamp(path) == file_stamp(Path(os.path.relpath(path)))
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
