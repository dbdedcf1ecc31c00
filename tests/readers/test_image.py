"""Images from files and arrays, and which are refused."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from medfusion_sdk.exceptions import CellFileNotFoundError, ImageError, MissingDependencyError
from medfusion_sdk.readers.image import image_digest, read_image

RGB = np.random.default_rng(0).integers(0, 256, size=(5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


# -- files ---------------------------------------------------------------------------------------


def test_png_npy_and_array_of_one_image_are_read_alike(tmp_path):
    np.save(tmp_path / "image.npy", RGB)
    for cell in (save(tmp_path / "image.png", RGB), str(tmp_path / "image.npy"), RGB):
        read = read_image(cell)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, RGB)


def test_jpeg_is_read_as_pillow_decodes_it(tmp_path):
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    path = save(tmp_path / "image.jpg", smooth, quality=95)
    np.testing.assert_array_equal(read_image(path)[..., 1], np.asarray(Image.open(path)))
    assert np.abs(read_image(path)[..., 1].astype(int) - smooth).max() < 8


def test_grey_image_has_three_equal_channels(tmp_path):
    expected = np.repeat(GREY[..., None], 3, axis=-1)
    for cell in (save(tmp_path / "grey.png", GREY), GREY, GREY[..., None]):
        np.testing.assert_array_equal(read_image(cell), expected)


def test_sixteen_bit_image_is_scaled_by_its_type_or_its_values(tmp_path):
    values = np.array([[0, 257, 2570], [65535, 300, 1]], dtype=np.uint16)
    for cell in (save(tmp_path / "deep.png", values), values):
        assert read_image(cell)[..., 0].tolist() == [[0, 1, 10], [255, 1, 0]]
    twelve_bits = np.array([[0, 4095], [2048, 1024]], dtype=np.uint16)
    path = save(tmp_path / "twelve.png", twelve_bits)
    assert read_image(path)[..., 0].max() == 16
    assert read_image(path, scale="minmax")[..., 0].tolist() == [[0, 255], [128, 64]]


def test_palette_transparency_and_black_and_white_become_colours(tmp_path):
    image = Image.fromarray(RGB)
    image.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(tmp_path / "palette.png")
    np.testing.assert_allclose(read_image(tmp_path / "palette.png"), RGB, atol=1)
    image.putalpha(128)
    image.save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), RGB)
    Image.fromarray(GREY > 127).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[..., 2], 255 * (GREY > 127))


def test_rotation_that_a_photograph_states_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    path = save(tmp_path / "photo.png", RGB, exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(RGB, -1))


# -- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0.0, 0.2], [1.0, 0.499]]), [[0, 51], [255, 127]]),
        (np.array([[False, True]]), [[0, 255]]),
        (np.zeros((1, 2)), [[0, 0]]),
    ],
)
def test_array_is_scaled_by_the_bounds_of_its_type(array, expected):
    assert read_image(array)[..., 0].tolist() == expected


@pytest.mark.parametrize("array", [np.array([[-1000, 0, 3000]]), np.array([[-0.5, 0.1, 1.3]])])
def test_array_without_bounds_needs_its_own_scale(array):
    with pytest.raises(ImageError, match=r"Expected uint8, uint16, bool or floats.*scale='minmax'"):
        read_image(array)
    grey = read_image(array, scale="minmax")[0, :, 0]
    assert (grey[0], grey[2]) == (0, 255)
    assert grey[1] == np.rint(255 * (array[0, 1] - array[0, 0]) / (array[0, 2] - array[0, 0]))


def test_flat_image_on_its_own_scale_is_black():
    assert not read_image(np.full((3, 3), 7), scale="minmax").any()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.zeros((3, 8, 9)), r"shape \(3, 8, 9\).*Channels come last"),
        (np.zeros((8, 9, 4)), r"shape \(8, 9, 4\), expected \(H, W\)"),
        (np.zeros(8), r"shape \(8,\)"),
        (np.zeros((0, 4)), r"shape \(0, 4, 1\)"),
        (np.full((2, 2), np.nan), "NaN or infinity"),
        (np.array([[np.inf, 0.0]]), "NaN or infinity"),
        (np.array([["a"]]), "real numbers"),
        ([[1, 2], [3]], "isn't rectangular"),
        (3.0, "found float '3.0'"),
        (b"\x89PNG", "found bytes"),
    ],
    ids=str,
)
def test_array_that_is_no_image_is_refused(cell, message):
    with pytest.raises(ImageError, match=message):
        read_image(cell)


# -- bad files -----------------------------------------------------------------------------------


def test_missing_file_is_named(tmp_path):
    for use in (read_image, image_digest):
        with pytest.raises(CellFileNotFoundError, match=r"no image file at .*nowhere\.png"):
            use(tmp_path / "nowhere.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_file_is_refused_by_name(tmp_path, suffix):
    path = save(tmp_path / f"cut.{suffix}", np.repeat(np.repeat(RGB, 20, 0), 20, 1))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=rf"cut\.{suffix} can't be decoded"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"text", b"GIF89a" + bytes(40)])
def test_file_of_another_kind_is_refused_by_name(tmp_path, content):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"image\.png is no PNG, JPEG or \.npy"):
        read_image(path)


def png_of(width, height):
    """A PNG whose header promises a size; its data are one byte."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data
            + struct.pack(">I", zlib.crc32(kind + data))
        )  # fmt: skip

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 30_000])
def test_header_of_an_absurd_size_is_refused_before_anything_is_allocated(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(side, side))
    with pytest.raises(ImageError, match=r"bomb\.png"):
        read_image(path)


def test_decoding_without_pillow_names_the_extra(tmp_path, monkeypatch):
    path = save(tmp_path / "image.png", RGB)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError, match=r"medfusion-sdk\[imaging\]"):
        read_image(path)


# -- digests -------------------------------------------------------------------------------------


def test_digest_is_of_the_content_whatever_the_name(tmp_path):
    first = save(tmp_path / "a.png", RGB)
    copy = tmp_path / "b.png"
    copy.write_bytes(first.read_bytes())
    assert image_digest(first) == image_digest(str(copy))
    assert image_digest(first) != image_digest(save(tmp_path / "c.png", RGB[::-1]))
    assert image_digest(RGB) == image_digest(RGB.copy()) != image_digest(RGB.astype(float))


def test_sixteen_bits_take_no_more_memory_than_a_few_pictures(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (3000, 4000), dtype=np.uint16)
    path = save(tmp_path / "deep.png", deep, compress_level=0)
    for cell in (path, deep):
        for scale in ("type", "minmax"):
            tracemalloc.start()
            read = read_image(cell, scale=scale)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            low, high = (0, 65535) if scale == "type" else (deep.min(), deep.max())
            rows = deep[::500].astype(float)
            expected = np.rint(255 * ((rows - low) / (float(high) - low)))
            np.testing.assert_array_equal(read[::500, :, 1], expected)
            # The picture in three channels is 36 MB, in one and as stored 12 and 24.
            assert peak < 140e6
