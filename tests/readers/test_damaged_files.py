"""Damaged files and what else may stand under a path: a right array or a typed error, no third."""

from __future__ import annotations

import os
import socket
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medfusion_sdk import grid_events
from medfusion_sdk.exceptions import (
    CellError,
    CellFileNotFoundError,
    DataError,
    ImageError,
    MedFusionError,
    SignalError,
    VideoError,
    VolumeError,
)
from medfusion_sdk.readers.files import require_file
from medfusion_sdk.readers.image import image_digest, read_image
from medfusion_sdk.readers.signal import read_signal, signal_digest
from medfusion_sdk.readers.video import read_frames, video_digest
from medfusion_sdk.readers.volume import read_volume, volume_digest
from tests.damage import damaged

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 20, 3), dtype=np.uint8)
VOXELS = RNG.integers(0, 99, (5, 6, 7)).astype(np.int16)


def frames(path):
    return read_frames(path, slice(0, 4))


def volume(path):
    return read_volume(path, size=(3, 4, 5), spacing=1.0)


def _array(values):
    return lambda path: np.save(path, values)


def _picture(mode="RGB", **options):
    def write(path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(PIXELS).convert(mode).save(path, exif=exif, **options)

    return write


def _nifti(kind):
    return lambda path: nibabel.save(kind(VOXELS, np.diag([1.0, 2.0, 3.0, 1.0])), path)


FILES = {
    "signal.npy": (_array(RNG.normal(size=(2, 90))), read_signal, SignalError),
    "fortran.npy": (_array(np.asfortranarray(RNG.normal(size=(2, 90)))), read_signal, SignalError),
    "image.npy": (_array(PIXELS), read_image, ImageError),
    "volume.npy": (_array(VOXELS), volume, VolumeError),
    "video.npy": (_array(RNG.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)), frames, VideoError),
    "colour.png": (_picture(), read_image, ImageError),
    "palette.png": (_picture("P"), read_image, ImageError),
    "alpha.png": (_picture("RGBA"), read_image, ImageError),
    "deep.png": (_picture("I;16"), read_image, ImageError),
    "colour.jpg": (_picture(), read_image, ImageError),
    "print.jpg": (_picture("CMYK"), read_image, ImageError),
    "steps.jpg": (_picture(progressive=True), read_image, ImageError),
    "one.nii": (_nifti(nibabel.Nifti1Image), volume, VolumeError),
    "two.nii": (_nifti(nibabel.Nifti2Image), volume, VolumeError),
    "one.nii.gz": (_nifti(nibabel.Nifti1Image), volume, VolumeError),
}


@pytest.mark.parametrize("name", FILES)
# What pillow says of damaged notes in a photograph is a warning of its own.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_file_is_read_right_or_refused_by_name(tmp_path, name):
    write, read, error = FILES[name]
    path = tmp_path / name
    write(path)
    content, expected = path.read_bytes(), read(path)
    refused = []
    tracemalloc.start()
    try:
        for variant in damaged(content, 120, seed=len(name)):
            path.write_bytes(variant)
            try:
                found = read(path)
            except error as told:
                refused.append(str(told))
                continue
            assert found.dtype == expected.dtype
            assert found.ndim == expected.ndim
            assert np.isfinite(found).all()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(refused) > 20
    assert all(name in message for message in refused)
    assert peak < 64 << 20


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 10",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 10), } (",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, 10000000000), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 10), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 0), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': 'ab', }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2, 10), }",
        "{'descr': [('a', '<f4'), ('b', '<f4')], 'fortran_order': False, 'shape': (2, 10), }",
        "{'descr': '<c16', 'fortran_order': False, 'shape': (2, 5), }",
        "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (2, 10), }",
        "{'descr': 7, 'fortran_order': False, 'shape': (2, 10), }",
        "{'descr': '<f8', 'shape': (2, 10), }",
        "[" * 200,
        "__import__('os')",
        "\x00\xff\xfe",
        "",
    ],
)
@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x07\x00"])
def test_npy_header_that_cannot_be_meant_is_refused(tmp_path, header, version):
    text = header.encode("latin1").ljust(118) + b"\n"
    length = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY" + version + length + text + bytes(160))
    for read, error in ((read_signal, SignalError), (read_volume, VolumeError)):
        with pytest.raises(error, match=r"a\.npy"):
            read(path)


def test_npy_in_fortran_order_and_of_another_byte_order_is_read(tmp_path):
    values = RNG.normal(size=(3, 40))
    np.save(tmp_path / "c.npy", values)
    np.save(tmp_path / "f.npy", np.asfortranarray(values).astype(">f8"))
    np.testing.assert_array_equal(read_signal(tmp_path / "f.npy"), read_signal(tmp_path / "c.npy"))


# -- what else may stand under a path -----------------------------------------------------------

READERS = {
    "a.npy": [(read_signal, SignalError), (frames, VideoError), (signal_digest, SignalError)],
    "a.png": [(read_image, ImageError), (image_digest, ImageError)],
    "b.npy": [(read_image, ImageError), (video_digest, VideoError), (volume, VolumeError)],
    "a.nii": [(volume, VolumeError), (volume_digest, VolumeError)],
    "a.nii.gz": [(volume, VolumeError), (volume_digest, VolumeError)],
    "a.hea": [(read_signal, SignalError), (signal_digest, SignalError)],
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "loop"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, name, kind, monkeypatch):
    path = tmp_path / name
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            monkeypatch.chdir(tmp_path)  # a socket's path is at most some 100 characters
            listener.bind(name)
    else:
        path.symlink_to(path)
    for read, _ in READERS[name]:
        with pytest.raises(CellError, match=name):
            read(path)
    if kind == "pipe":
        with pytest.raises(VolumeError, match="is a pipe, expected a volume file"):
            require_file(path, VolumeError, "volume file")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "folder/" * 900 + "a"])
@pytest.mark.parametrize("suffix", [".npy", ".nii", ".png", ".hea", ""])
def test_text_that_names_no_file_is_refused_in_few_words(name, suffix):
    readers = [read_signal, signal_digest]
    readers += [volume] if suffix in (".npy", ".nii") else []
    readers += [read_image, image_digest] if suffix in (".npy", ".png") else []
    for read in readers:
        with pytest.raises(CellError) as caught:
            read(name + suffix)
        assert len(str(caught.value)) < 900


def test_file_that_may_not_be_read_is_a_typed_error(tmp_path, monkeypatch):
    for name, (write, read, error) in FILES.items():
        if name in ("signal.npy", "colour.png", "one.nii"):
            write(tmp_path / name)

            def refuse(self, *args, **kwargs):
                raise PermissionError(13, "Permission denied")

            with monkeypatch.context() as patch:
                # Tests may run as a user that may read everything.
                patch.setattr(Path, "open", refuse)
                patch.setattr("builtins.open", refuse)
                with pytest.raises(error):
                    read(tmp_path / name)


def test_missing_file_is_told_from_something_else(tmp_path):
    for name in ("a.png", "a.nii", "a.npy"):
        with pytest.raises(CellFileNotFoundError):
            require_file(tmp_path / name, CellError, "file")


# -- pictures and tables ------------------------------------------------------------------------


def test_picture_that_moves_is_refused_and_a_photograph_with_a_second_one_is_not(tmp_path):
    first, second = Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())
    first.save(tmp_path / "moves.png", save_all=True, append_images=[second])
    with pytest.raises(ImageError, match="holds 2 pictures, expected one"):
        read_image(tmp_path / "moves.png")
    first.save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    first.save(tmp_path / "alone.jpg", quality=95)
    np.testing.assert_array_equal(
        read_image(tmp_path / "photo.jpg"), read_image(tmp_path / "alone.jpg")
    )


# Values beyond single precision are the table's affair.
@pytest.mark.filterwarnings("ignore")
def test_damaged_parquet_file_is_read_or_refused_by_name(tmp_path):
    events = pd.DataFrame(
        {"stay": np.repeat(np.arange(10), 10), "time": np.tile(np.arange(10.0), 10),
         "item": ["hr", "bp"] * 50, "value": RNG.normal(size=100)}
    )  # fmt: skip
    path = tmp_path / "events.parquet"
    events.to_parquet(path)
    names = {"id": "stay", "time": "time", "parameter": "item", "value": "value"}
    refused = []
    for variant in damaged(path.read_bytes(), 150):
        path.write_bytes(variant)
        try:
            grid_events(path, {"vitals": ["hr", "bp"]}, step=1.0, length=10, **names)
        except MedFusionError as told:
            refused.append(told)
    assert len(refused) > 60
    # Where the table can be read, what it holds may be refused for its own reasons.
    assert sum(isinstance(told, DataError) for told in refused) > 50
